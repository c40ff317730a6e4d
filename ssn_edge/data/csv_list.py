"""The CSV layout: one row a picture, columns by name."""

from __future__ import annotations

import csv
import difflib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.data.items import GOOD_NAMES, Dataset, GivenSplit, Item
from ssn_edge.data.masks import MaskRule, detect_mask_rule, is_mask_empty
from ssn_edge_runtime.errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)

COLUMNS = ("image", "mask", "label", "split", "group", "class")
"""Our names; each but `image` may be absent."""

NORMAL_WORDS = GOOD_NAMES | {"0", "false", "no"}
ANOMALOUS_WORDS = frozenset({"1", "true", "yes"})
UNKNOWN_WORDS = frozenset(
    {"", "?", "-", "unknown", "unlabeled", "unlabelled", "none", "null", "n/a"}
)
"""Cells that look like a word for a defect and are none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list, cells by our names, and where it stands for messages."""

    cells: Mapping[str, str]
    where: str

    def get(self, column: str) -> str:
        """The cell, stripped; empty where there is none."""
        return self.cells.get(column, "")


def read_csv(list_file: Path, columns: Mapping[str, str], rule: MaskRule | None) -> Dataset:
    """Read a list of pictures; paths in it are relative to its folder.

    Args:
        list_file: UTF-8 text with a header line, parted by comma, semicolon or tab.
        columns: Our column name to theirs, for those that differ.
        rule: Which mask values mean a defect, or None to detect it.

    Raises:
        ConfigError: `columns` names one of ours that does not exist.
        DatasetError: A column, file, label or split that cannot be used, or a picture listed twice.
        PictureError: A mask that is needed for a label cannot be read.
    """
    rows = read_rows(list_file, columns)
    known = set(rows[0].cells)
    images: dict[Path, str] = {}
    files: list[tuple[Path, Path | None]] = []
    for row in rows:
        image = file_of(list_file.parent, row, "image")
        if image is None:
            raise DatasetError(f"{row.where}: names no picture; fill the image cell")
        before = images.setdefault(image.resolve(), row.where)
        if before != row.where:
            raise DatasetError(f"{row.where}: {image} is listed twice, first at {before}; keep one")
        files.append((image, file_of(list_file.parent, row, "mask")))
    if not known & {"label", "mask", "class"}:
        logger.warning(
            "%s has no label, mask or class column; all %d pictures count as normal",
            list_file,
            len(rows),
        )
    labels = None if _labels_from_masks(known) else [label_of(row, known) for row in rows]
    if rule is None:
        rule = detect_mask_rule(
            [m for i, (_, m) in enumerate(files) if m and (labels is None or labels[i])]
        )
    if labels is None:
        labels = [0 if mask is None or is_mask_empty(mask, rule) else 1 for _, mask in files]
        logger.info("%s has no label column; labels come from the masks", list_file)
    items = tuple(
        Item(
            image,
            label=label,
            mask=mask,
            group=row.get("group") or None,
            defect_class=(row.get("class") or None) if label else None,
            split=split_of(row, known),
        )
        for row, (image, mask), label in zip(rows, files, labels, strict=True)
    )
    dataset = Dataset(list_file.parent, "CSV", items, rule)
    logger.info("%s", dataset.describe())
    return dataset


def read_rows(list_file: Path, columns: Mapping[str, str]) -> list[Row]:
    """The rows with any cell filled; at least one.

    Args:
        list_file: UTF-8 text with a header line.
        columns: Our column name to theirs; those that are named here must be there.

    Raises:
        ConfigError: `columns` names one of ours that does not exist.
        DatasetError: Not such a list, or a column is missing.
    """
    try:
        text = list_file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{list_file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{list_file}: is not UTF-8 text; save it as CSV UTF-8") from error
    lines = text.splitlines()
    header = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=max(",;\t", key=header.count))
    names = [name.strip() for name in next(reader, [])]
    place_of = _places(list_file, names, columns)
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{list_file}, line {reader.line_num}"
        if len(cells) != len(names):
            raise DatasetError(
                f"{where}: has {len(cells)} cells, the header has {len(names)}; put names that "
                "hold the separator in quotes"
            )
        rows.append(Row({name: cells[at].strip() for name, at in place_of.items()}, where))
    if not rows:
        raise DatasetError(f"{list_file}: lists no pictures; wanted a header and a row for each")
    return rows


def _places(list_file: Path, names: list[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Where each of our columns stands in this header."""
    places: dict[str, int] = {}
    for ours in columns:
        if ours not in COLUMNS:
            raise ConfigError(
                f"there is no column {ours!r} to map; {_nearest(ours, COLUMNS)}(a mapping reads "
                f"ours=theirs, ours being {', '.join(COLUMNS)})"
            )
    for ours in COLUMNS:
        theirs = columns.get(ours, ours)
        if theirs in names:
            if names.count(theirs) > 1:
                raise DatasetError(f"{list_file}: has two columns {theirs!r}; rename one")
            places[ours] = names.index(theirs)
        elif ours in columns or ours == "image":
            raise DatasetError(
                f"{list_file}: has no column {theirs!r}; {_nearest(theirs, names)}its columns are "
                f"{', '.join(names) or 'none'}; map one with {ours}=NAME"
            )
    return places


def _nearest(wanted: str, known: tuple[str, ...] | list[str]) -> str:
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def file_of(base: Path, row: Row, column: str) -> Path | None:
    """The file that a cell names, relative to a folder, or None for an empty cell.

    Raises:
        DatasetError: There is no such file.
    """
    cell = row.get(column).replace("\\", "/")
    if not cell:
        return None
    file = base / cell
    if not file.is_file():
        raise DatasetError(
            f"{row.where}: the {column} {file} does not exist; wanted a path relative to {base}; "
            f"correct it{' or leave the cell empty' if column == 'mask' else ''}"
        )
    return file


def _labels_from_masks(known: set[str]) -> bool:
    return "label" not in known and "mask" in known


def label_of(row: Row, known: Collection[str]) -> int:
    """0 or 1 from the label cell, else from the class cell, else 0.

    Raises:
        DatasetError: The cell is neither a label nor a name.
    """
    column = next((name for name in ("label", "class") if name in known), None)
    if column is None:
        return 0
    word = row.get(column).lower()
    if word in NORMAL_WORDS:
        return 0
    if word in ANOMALOUS_WORDS:
        return 1
    number = _number(word)
    if number in (0, 1):
        return int(number)
    if word in UNKNOWN_WORDS or number is not None:
        raise DatasetError(
            f"{row.where}: {row.get(column)!r} is not a {column}; wanted 0 or 1, true or false, "
            "good or the name of a defect"
        )
    return 1


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def split_of(row: Row, known: Collection[str]) -> GivenSplit | None:
    """The part that the split cell names, or None without such a column.

    Raises:
        DatasetError: It names no part.
    """
    if "split" not in known:
        return None
    word = row.get("split").lower()
    if word == "train":
        return "train"
    if word == "test":
        return "test"
    raise DatasetError(
        f"{row.where}: the split is {row.get('split')!r}; wanted train or test (the calibration "
        "part is taken from train), or no split column at all"
    )
