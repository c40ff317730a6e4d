"""Layouts that are told by folder names: MVTec, Kolektor, and plain class folders."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from ssn_edge.data.items import GOOD_NAMES, Dataset, GivenSplit, Item
from ssn_edge.data.masks import MaskRule, detect_mask_rule, is_mask_empty
from ssn_edge.data.split_samples import Samples, read_kolektor_split
from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES

logger = logging.getLogger(__name__)

PARTS: tuple[GivenSplit, GivenSplit] = ("train", "test")
TRUTH_FOLDER = "ground_truth"
MVTEC_MASK_END = "_mask"
KOLEKTOR_MASK_END = "_GT"


def is_mvtec(root: Path) -> bool:
    """Whether `train` or `test` holds folders."""
    return any(_subfolders(root / part) for part in PARTS)


def is_kolektor(root: Path) -> bool:
    """Whether `train` or `test` holds masks beside their pictures."""
    return any(
        file.stem.endswith(KOLEKTOR_MASK_END) for part in PARTS for file in _files(root / part)
    )


def is_class_folders(root: Path) -> bool:
    """Whether there is a folder of good pictures."""
    return any(folder.name.lower() in GOOD_NAMES for folder in _subfolders(root))


def read_mvtec(root: Path, rule: MaskRule | None) -> Dataset:
    """Read `train/<type>`, `test/<type>` and `ground_truth/<type>/NAME_mask.png` or `NAME.png`.

    Raises:
        DatasetError: No pictures, an ambiguous name, or a single mask that is missing.
    """
    items: list[Item] = []
    for part in PARTS:
        for folder in _subfolders(root / part):
            items += _read_type(root, folder, part)
    _refuse_shared_masks(items)
    return _dataset(root, "MVTec", items, rule)


def read_class_folders(root: Path, rule: MaskRule | None) -> Dataset:
    """Read `good/` and other class folders, with masks as in MVTec where `ground_truth` is there.

    Raises:
        DatasetError: No pictures, an ambiguous name, or a single mask that is missing.
    """
    items: list[Item] = []
    for folder in _subfolders(root):
        if folder.name != TRUTH_FOLDER:
            items += _read_type(root, folder, None)
    return _dataset(root, "class folders", items, rule)


def read_kolektor(root: Path, rule: MaskRule | None, *, mask_split: int | None = None) -> Dataset:
    """Read `train|test/x.png` with `x_GT.png`; a mask with any pixel set makes x anomalous.

    Args:
        root: The data set's folder.
        rule: Which mask values mean a defect, or None to detect it.
        mask_split: Use the pictures of KolektorSDD2's split file with so many masks: the other
            anomalous training pictures keep their label and lose their mask. None for every
            picture with its mask.

    Raises:
        ConfigError: There is no such split file.
        DatasetError: No pictures, an ambiguous name, or a picture or mask that is missing.
        PictureError: A mask that cannot be read.
    """
    split = None if mask_split is None else read_kolektor_split(root, mask_split)
    pairs: list[tuple[Path, Path, GivenSplit]] = []
    unmasked: set[Path] = set()
    for number, part in enumerate(PARTS):
        masks: dict[str, Path] = {}
        images: dict[str, Path] = {}
        for stem, file in _pictures_by_stem(root / part).items():
            (masks if stem.endswith(KOLEKTOR_MASK_END) else images)[stem] = file
        if split is not None:
            images = _listed(root / part, images, split[number])
            if part == "train":
                unmasked = {images[str(key)] for key, masked in split[number].items() if not masked}
        for stem, image in images.items():
            mask = masks.pop(stem + KOLEKTOR_MASK_END, None)
            if mask is None:
                raise DatasetError(
                    f"{image}: has no mask {stem}{KOLEKTOR_MASK_END}.png beside it; add one (all "
                    "black for a good part), or list the pictures in a CSV file with a label column"
                )
            pairs.append((image, mask, part))
        if split is None:
            _warn_of_orphans(root / part, list(masks.values()))
    rule = rule or detect_mask_rule([mask for _, mask, _ in pairs])
    items = []
    for image, mask, part in pairs:
        label = 0 if is_mask_empty(mask, rule) else 1
        known = label == 0 or image not in unmasked
        items.append(Item(image, label=label, mask=mask if known else None, split=part))
    return _dataset(root, "Kolektor", items, rule)


def _listed(folder: Path, images: dict[str, Path], samples: Samples) -> dict[str, Path]:
    """The pictures that a split file lists."""
    names = [str(number) for number in samples]
    for name in names:
        if name not in images:
            raise DatasetError(
                f"{folder / name}.png: is listed in the split file and is not there; copy the data "
                "set again"
            )
    if left_out := sorted(images.keys() - set(names)):
        logger.warning(
            "%s: %d pictures are not in the split file and left out, the first is %s",
            folder,
            len(left_out),
            images[left_out[0]].name,
        )
    return {name: images[name] for name in names}


def _read_type(root: Path, folder: Path, part: GivenSplit | None) -> Iterator[Item]:
    """The pictures of one type folder, with their masks."""
    images = _pictures_by_stem(folder)
    if not images:
        logger.warning("%s holds no pictures and is skipped", folder)
        return
    _refuse_masks_among(images)
    is_good = folder.name.lower() in GOOD_NAMES
    truth = root / TRUTH_FOLDER / folder.name
    masks = _pictures_by_stem(truth) if truth.is_dir() else None
    if masks is None and not is_good and (root / TRUTH_FOLDER).is_dir():
        logger.warning("%s: %d pictures without masks, there is no %s", folder, len(images), truth)
    for stem, image in images.items():
        mask = _mask_of(stem, masks or {}, truth)
        if mask is None and masks is not None and not is_good:
            raise DatasetError(
                f"{image}: its mask {truth / (stem + MVTEC_MASK_END)}.png is missing, although "
                f"{truth.name} has masks of other pictures; add it, or list the pictures in a CSV "
                "file where a mask cell may be empty"
            )
        yield Item(
            image,
            label=0 if is_good else 1,
            mask=mask,
            defect_class=None if is_good else folder.name,
            split=part,
        )


def _mask_of(stem: str, masks: dict[str, Path], truth: Path) -> Path | None:
    """NAME_mask as MVTec names it, or NAME as VisA has it once it was re-arranged."""
    named, same = masks.get(stem + MVTEC_MASK_END), masks.get(stem)
    if named is not None and same is not None:
        raise DatasetError(
            f"{truth}: {named.name} and {same.name} could both be the mask of {stem}; keep one"
        )
    return named or same


def _refuse_masks_among(images: dict[str, Path]) -> None:
    """A mask beside its picture would count as one more picture here."""
    for stem, file in images.items():
        for end in (MVTEC_MASK_END, KOLEKTOR_MASK_END):
            if stem.endswith(end) and stem[: -len(end)] in images:
                raise DatasetError(
                    f"{file}: looks like the mask of the picture beside it; class folders hold "
                    f"pictures only, move masks to {TRUTH_FOLDER}/{file.parent.name}/NAME_mask.png"
                )


def _refuse_shared_masks(items: list[Item]) -> None:
    """A type that is in train and test has one mask folder: names must differ."""
    owner: dict[Path, Path] = {}
    for item in items:
        if (
            item.mask is not None
            and (first := owner.setdefault(item.mask, item.image)) != item.image
        ):
            raise DatasetError(
                f"{item.mask}: could be the mask of {first} or of {item.image}; give pictures of "
                "one type different names in train and in test"
            )


def _dataset(root: Path, layout: str, items: list[Item], rule: MaskRule | None) -> Dataset:
    if not items:
        raise DatasetError(
            f"{root}: looks like the {layout} layout but holds no pictures; wanted files that end "
            f"in {', '.join(PICTURE_SUFFIXES)}"
        )
    rule = rule or detect_mask_rule([item.mask for item in items if item.label and item.mask])
    dataset = Dataset(root, layout, tuple(items), rule)
    logger.info("%s", dataset.describe())
    return dataset


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _files(folder: Path) -> list[Path]:
    """Picture files, without the hidden ones that file managers leave behind."""
    if not folder.is_dir():
        return []
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in PICTURE_SUFFIXES and entry.name[0] != "." and entry.is_file()
    )


def _pictures_by_stem(folder: Path) -> dict[str, Path]:
    """Picture files by their name without suffix.

    Raises:
        DatasetError: Two files differ in their suffix only.
    """
    pictures: dict[str, Path] = {}
    for file in _files(folder):
        first = pictures.setdefault(file.stem, file)
        if first != file:
            raise DatasetError(
                f"{folder}: {first.name} and {file.name} have one name, so which is the picture is "
                "ambiguous; keep one of them, or list pictures and masks in a CSV file"
            )
    return pictures


def _warn_of_orphans(folder: Path, masks: list[Path]) -> None:
    if masks:
        logger.warning(
            "%s: %d masks without a picture are left out, the first is %s",
            folder,
            len(masks),
            masks[0].name,
        )
