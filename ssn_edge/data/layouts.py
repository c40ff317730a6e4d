"""A path to a data set: finds out the layout and reads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from ssn_edge.data.csv_list import read_csv
from ssn_edge.data.folders import (
    is_class_folders,
    is_kolektor,
    is_mvtec,
    read_class_folders,
    read_kolektor,
    read_mvtec,
)
from ssn_edge.data.items import Dataset
from ssn_edge.data.masks import MaskRule
from ssn_edge_runtime.errors import DatasetError

logger = logging.getLogger(__name__)

LAYOUTS_HELP = """\
A data set is one of these (masks are optional unless a layout says otherwise):

  MVTec                            Kolektor (masks needed)     class folders
    train/good/000.png               train/10000.png             good/000.png
    test/good/000.png                train/10000_GT.png          scratch/000.png
    test/scratch/000.png             test/10001.png
    ground_truth/scratch/            test/10001_GT.png
                 000_mask.png

  CSV list, a file or a folder with one .csv; every column but image may be absent
    image,mask,label,split,group,class
    part1.png,,good,train,lot7,
    part2.png,part2_mask.png,bad,test,lot8,scratch

For a list with other column names: ssn-edge train parts.csv --column label=defect"""


def read_dataset(
    path: Path, *, columns: Mapping[str, str] | None = None, mask_above: int | None = None
) -> Dataset:
    """Read a data set's list of pictures, labels, masks, groups and given split.

    Looks at names, and at masks as far as labels and mask values need it. Pictures are decoded
    later, by `load_item` or `check_dataset`.

    Args:
        path: A folder in one of the layouts, a CSV file, or a folder with exactly one.
        columns: For a CSV list, our column name to theirs, as {"label": "defect"}.
        mask_above: Mask values above this one mean a defect; None detects it.

    Raises:
        ConfigError: `columns` or `mask_above` cannot be.
        DatasetError: None of the layouts, no pictures, or files that do not fit together.
        PictureError: A mask that cannot be read.
    """
    rule = None if mask_above is None else MaskRule(mask_above, "set by the user")
    if not path.exists():
        raise DatasetError(f"{path}: does not exist; wanted a folder of pictures or a CSV file")
    lists = [path] if path.is_file() else _csv_files(path)
    if path.is_file() and path.suffix.lower() != ".csv":
        raise DatasetError(f"{path}: is neither a folder nor a CSV file\n\n{LAYOUTS_HELP}")
    if path.is_file() or (columns and len(lists) == 1):
        return read_csv(lists[0], columns or {}, rule)
    if columns:
        raise DatasetError(
            f"{path}: columns are mapped, but it holds {_count(lists)}; name the CSV file itself"
        )
    for is_layout, read in (
        (is_kolektor, read_kolektor),
        (is_mvtec, read_mvtec),
    ):
        if is_layout(path):
            _tell_unused(lists)
            return read(path, rule)
    if len(lists) == 1:
        return read_csv(lists[0], {}, rule)
    if lists:
        raise DatasetError(f"{path}: holds {_count(lists)}; name the one to read")
    if is_class_folders(path):
        return read_class_folders(path, rule)
    raise DatasetError(f"{path}: is not a data set of a known layout\n\n{LAYOUTS_HELP}")


def _csv_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() == ".csv" and file.name[0] != "." and file.is_file()
    )


def _count(lists: list[Path]) -> str:
    if not lists:
        return "no CSV file"
    return f"{len(lists)} CSV files ({', '.join(file.name for file in lists)})"


def _tell_unused(lists: list[Path]) -> None:
    if lists:
        logger.warning(
            "%s is not used: the folders make a layout; name the file to read it instead", lists[0]
        )
