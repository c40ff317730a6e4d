"""The SensumSODF layout: one product's pictures by class, and three folds in split files."""

from __future__ import annotations

import logging
from pathlib import Path

from ssn_edge.data.items import Dataset, GivenSplit, Item
from ssn_edge.data.masks import MaskRule, detect_mask_rule
from ssn_edge.data.split_samples import Samples, listed, numbers_in, read_samples
from ssn_edge_runtime.errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)

NORMAL_FOLDER = Path("negative/data")
ANOMALOUS_FOLDER = Path("positive/data")
MASK_FOLDER = Path("positive/annotation")
SPLITS_FOLDER = "sensum_splits"
ALL_MASKS = 100
"""Per cent of the training part's masks: the split that is meant where none is named."""


def is_sensum(root: Path) -> bool:
    """Whether there are pictures by class, as of one product of SensumSODF."""
    return (root / NORMAL_FOLDER).is_dir() and (root / ANOMALOUS_FOLDER).is_dir()


def read_sensum(
    root: Path, rule: MaskRule | None, *, fold: int | None, mask_split: int | None
) -> Dataset:
    """Read `negative/data/NNN.png`, `positive/data/NNN.png` and `positive/annotation/NNN.png`.

    Args:
        root: Folder of one product; the split files are in `../sensum_splits/PRODUCT/FOLD`.
        rule: Which mask values mean a defect, or None to detect it.
        fold: Which of the published parts, from 0; None for all pictures without a given split.
        mask_split: Per cent of the defective training pictures that keep their mask; None for all.

    Raises:
        ConfigError: No such fold or mask split.
        DatasetError: A split file or a picture is missing or cannot be used.
        PictureError: A mask cannot be read.
    """
    root = root.absolute()  # `.` has a name and a parent, too
    if fold is None:
        if mask_split is not None:
            raise ConfigError(
                f"mask split {mask_split}: SensumSODF has one for each fold; name the fold, too "
                "(0, 1 or 2)"
            )
        items = [
            *(Item(image, label=0) for image in _pictures(root / NORMAL_FOLDER)),
            *(
                Item(image, label=1, mask=_mask(root, image))
                for image in _pictures(root / ANOMALOUS_FOLDER)
            ),
        ]
    else:
        folder = _fold_folder(root, fold)
        positives = _positives_file(folder, ALL_MASKS if mask_split is None else mask_split)
        items = [
            *_listed(root, read_samples(folder / "train" / "neg.pckl"), 0, "train"),
            *_listed(root, read_samples(positives), 1, "train"),
            *_listed(root, read_samples(folder / "test" / "neg.pckl"), 0, "test"),
            *_listed(root, read_samples(folder / "test" / "pos.pckl"), 1, "test"),
        ]
        _refuse_shared(items, folder)
    if not items:
        raise DatasetError(
            f"{root}: looks like a product of SensumSODF but lists no pictures; wanted "
            f"{NORMAL_FOLDER}/000.png and so on"
        )
    rule = rule or detect_mask_rule([item.mask for item in items if item.mask])
    dataset = Dataset(root, "SensumSODF", tuple(items), rule)
    logger.info("%s", dataset.describe())
    return dataset


def _fold_folder(root: Path, fold: int) -> Path:
    folders = root.parent / SPLITS_FOLDER / root.name
    if (folder := folders / str(fold)).is_dir():
        return folder
    there = numbers_in(folders.iterdir()) if folders.is_dir() else []
    wanted = (
        f"there are {listed(there)}"
        if there
        else "leave the fold out, or bring the authors' split files"
    )
    raise ConfigError(f"fold {fold}: there is no {folder}; {wanted}")


def _positives_file(folder: Path, mask_split: int) -> Path:
    file = folder / "train" / f"pos_{mask_split}.pckl"
    if file.is_file():
        return file
    there = numbers_in((folder / "train").glob("pos_*.pckl"))
    raise ConfigError(
        f"mask split {mask_split}: there is no {file}; "
        + (f"there are files for {listed(there)} %" if there else "bring the authors' split files")
    )


def _listed(root: Path, samples: Samples, label: int, part: GivenSplit) -> list[Item]:
    """The listed pictures; those of the test part keep their masks in every variant."""
    folder = root / (ANOMALOUS_FOLDER if label else NORMAL_FOLDER)
    items = []
    for number, has_mask in samples.items():
        image = folder / f"{number:03}.png"
        if not image.is_file():
            raise DatasetError(
                f"{image}: is listed in the {part} part of the split files and is not there; copy "
                "the data set again"
            )
        masked = label == 1 and (has_mask or part == "test")
        items.append(
            Item(image, label=label, mask=_mask(root, image) if masked else None, split=part)
        )
    return items


def _refuse_shared(items: list[Item], folder: Path) -> None:
    part_of: dict[Path, GivenSplit | None] = {}
    for item in items:
        if part_of.setdefault(item.image, item.split) != item.split:
            raise DatasetError(
                f"{item.image}: is in train and in test in {folder}; the parts must not share "
                "pictures. Get the split files again"
            )


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.png") if file.name[0] != ".")


def _mask(root: Path, image: Path) -> Path:
    mask = root / MASK_FOLDER / image.name
    if not mask.is_file():
        raise DatasetError(
            f"{image}: its mask {mask} is missing; add it, or list the pictures in a CSV file "
            "where a mask cell may be empty"
        )
    return mask
