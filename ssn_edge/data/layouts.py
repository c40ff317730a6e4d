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
from ssn_edge.data.sensum import is_sensum, read_sensum
from ssn_edge.data.visa import is_visa, read_visa
from ssn_edge_runtime.errors import ConfigError, DatasetError

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

For a list with other column names: ssn-edge train parts.csv --column label=defect

  Published data sets, as they come: VisA/candle (beside VisA/split_csv), KolektorSDD2
  (--mask-split 53: its split file with so many masks), SensumSODF/capsule (beside
  SensumSODF/sensum_splits: --fold 0, --mask-split 20 for 20 % of the masks)"""


def read_dataset(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    mask_above: int | None = None,
    fold: int | None = None,
    mask_split: int | None = None,
) -> Dataset:
    """Read a data set's list of pictures, labels, masks, groups and given split.

    Looks at names, and at masks as far as labels and mask values need it. Pictures are decoded
    later, by `load_item` or `check_dataset`.

    Args:
        path: A folder in one of the layouts, a CSV file, or a folder with exactly one.
        columns: For a CSV list, our column name to theirs, as {"label": "defect"}.
        mask_above: Mask values above this one mean a defect; None detects it.
        fold: For SensumSODF, which of its published parts, from 0.
        mask_split: For KolektorSDD2 and a fold of SensumSODF, which of the published choices of
            training masks: how many, and how many per cent.

    Raises:
        ConfigError: `columns` or `mask_above` cannot be, or a published split that the layout or
            the data set does not have.
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
        _refuse_splits(path, "CSV", fold, mask_split)
        return read_csv(lists[0], columns or {}, rule)
    if columns:
        raise DatasetError(
            f"{path}: columns are mapped, but it holds {_count(lists)}; name the CSV file itself"
        )
    if _is_by_folders(path):
        _tell_unused(lists)
    if is_sensum(path):
        return read_sensum(path, rule, fold=fold, mask_split=mask_split)
    if is_visa(path):
        _refuse_splits(path, "VisA", fold, mask_split)
        return read_visa(path, rule)
    if is_kolektor(path):
        _refuse_splits(path, "Kolektor", fold, None)
        return read_kolektor(path, rule, mask_split=mask_split)
    if is_mvtec(path):
        _refuse_splits(path, "MVTec", fold, mask_split)
        return read_mvtec(path, rule)
    if lists:
        _refuse_splits(path, "CSV", fold, mask_split)
    if len(lists) == 1:
        return read_csv(lists[0], {}, rule)
    if lists:
        raise DatasetError(f"{path}: holds {_count(lists)}; name the one to read")
    if is_class_folders(path):
        _refuse_splits(path, "class-folder", fold, mask_split)
        return read_class_folders(path, rule)
    if inner := [folder for folder in sorted(path.iterdir()) if _is_by_folders(folder)]:
        names = ", ".join(folder.name for folder in inner[:15])
        raise DatasetError(
            f"{path}: holds {len(inner)} data sets ({names}); name one of them, such as {inner[0]}"
        )
    raise DatasetError(f"{path}: is not a data set of a known layout\n\n{LAYOUTS_HELP}")


def _is_by_folders(path: Path) -> bool:
    """Whether folder names alone tell the layout."""
    return any(is_layout(path) for is_layout in (is_sensum, is_visa, is_kolektor, is_mvtec))


def _refuse_splits(path: Path, layout: str, fold: int | None, mask_split: int | None) -> None:
    """Refuse the choice of a published split that a layout does not have."""
    for name, value, holders in (
        ("fold", fold, "SensumSODF has"),
        ("mask split", mask_split, "KolektorSDD2 and SensumSODF have"),
    ):
        if value is not None:
            raise ConfigError(
                f"{name} {value}: {path} is in the {layout} layout, which has no {name}s (only "
                f"{holders}); leave it out"
            )


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
