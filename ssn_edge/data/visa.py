"""The VisA layout as published: one category's pictures, and one split file for all of them."""

from __future__ import annotations

import logging
from pathlib import Path

from ssn_edge.data.csv_list import Row, file_of, label_of, read_rows, split_of
from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.masks import CLASS_ID_ABOVE, MaskRule
from ssn_edge_runtime.errors import DatasetError

logger = logging.getLogger(__name__)

SPLIT_FILE = Path("split_csv/1cls.csv")
"""The one-class split, in the folder that holds the categories."""
_COLUMNS = {
    "image": "image",
    "mask": "mask",
    "label": "label",
    "split": "split",
    "class": "object",
}
"""Ours to theirs; all of them must be there."""


def is_visa(root: Path) -> bool:
    """Whether there is a `Data/Images` folder, as in one category of VisA."""
    return (root / "Data" / "Images").is_dir()


def read_visa(root: Path, rule: MaskRule | None) -> Dataset:
    """Read the rows of `../split_csv/1cls.csv` that are of this category.

    Args:
        root: Folder of one category; its name is the category's in the split file.
        rule: Which mask values mean a defect; None for VisA's own class ids.

    Raises:
        DatasetError: No split file, none of its rows is of this category, or a row that cannot be
            used.
    """
    root = root.absolute()  # `.` has a name and a parent, too
    list_file = root.parent / SPLIT_FILE
    if not list_file.is_file():
        raise DatasetError(
            f"{root}: looks like a category of VisA, but there is no {list_file}; bring the file "
            "from the data set's download, or list the pictures in a CSV file of your own"
        )
    rows = read_rows(list_file, _COLUMNS)
    own = [row for row in rows if row.get("class") == root.name]
    if not own:
        there = sorted({row.get("class") for row in rows})
        raise DatasetError(
            f"{list_file}: lists no pictures of {root.name!r}; it lists {', '.join(there)}; name "
            "the folder as the split file does"
        )
    items = tuple(_item(root.parent, row) for row in own)
    rule = rule or MaskRule(CLASS_ID_ABOVE, "VisA's masks hold class ids")
    dataset = Dataset(root, "VisA", items, rule)
    logger.info("%s", dataset.describe())
    return dataset


def _item(base: Path, row: Row) -> Item:
    image = file_of(base, row, "image")
    label = label_of(row, _COLUMNS)
    mask = file_of(base, row, "mask")
    if image is None or (label == 1 and mask is None):
        raise DatasetError(
            f"{row.where}: names no {'picture' if image is None else 'mask'}; get the split file "
            "from the data set's download again"
        )
    return Item(image, label=label, mask=mask, split=split_of(row, _COLUMNS))
