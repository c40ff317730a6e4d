"""Tiny trees of the published data sets, as they come: random pictures with bright defects."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZE_HW = (40, 36)
MASK_VALUE = 255


def picture(path: Path, *, defect: bool = False) -> Path:
    """Write noise, with a bright square where defective; the name decides the noise."""
    rng = np.random.default_rng(list(path.as_posix()[-40:].encode()))
    pixels = rng.integers(60, 120, (*SIZE_HW, 3), dtype=np.uint8)
    if defect:
        pixels[10:22, 8:20] += 100
    return _write(path, pixels)


def mask(path: Path, *, defect: bool = True, value: int = MASK_VALUE) -> Path:
    """Write the mask of such a picture."""
    pixels = np.zeros(SIZE_HW, np.uint8)
    if defect:
        pixels[10:22, 8:20] = value
    return _write(path, pixels)


def mvtec_category(root: Path, *, train: int = 4, test: int = 2, defects: int = 2) -> Path:
    for number in range(train):
        picture(root / f"train/good/{number:03}.png")
    for number in range(test):
        picture(root / f"test/good/{number:03}.png")
    for number in range(defects):
        picture(root / f"test/broken/{number:03}.png", defect=True)
        mask(root / f"ground_truth/broken/{number:03}_mask.png")
    return root


def rearranged_visa_category(root: Path) -> Path:
    """One category of VisA in the MVTec-like layout, whose masks have the pictures' names."""
    for number in range(4):
        picture(root / f"train/good/{number:04}.png")
    picture(root / "test/good/0010.png")
    picture(root / "test/bad/000.png", defect=True)
    mask(root / "ground_truth/bad/000.png")
    return root


def visa(root: Path, categories: Sequence[str]) -> Path:
    """Four normal pictures to train, two normal and two defective ones to test, each category."""
    rows = []
    for category in categories:
        for number in range(6):
            name = f"{category}/Data/Images/Normal/{number:04}.JPG"
            picture(root / name)
            rows.append((category, "train" if number < 4 else "test", "normal", name, ""))
        for number in range(2):
            name = f"{category}/Data/Images/Anomaly/{number:03}.JPG"
            truth = f"{category}/Data/Masks/Anomaly/{number:03}.png"
            picture(root / name, defect=True)
            mask(root / truth, value=number + 1)
            rows.append((category, "test", "anomaly", name, truth))
    list_file = root / "split_csv/1cls.csv"
    list_file.parent.mkdir(parents=True)
    with list_file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("object", "split", "label", "image", "mask"))
        writer.writerows(rows)
    return root


def ksdd2(root: Path) -> Path:
    """Train: 10000 to 10003 normal, 10004 to 10007 defective; test: 20000, 20001 and 20002, 20003.

    The split files named 0, 16 and 246 keep none, two and all four of the masks.
    """
    for first, normals, defects, part in ((10000, 4, 4, "train"), (20000, 2, 2, "test")):
        for number in range(first, first + normals + defects):
            defect = number >= first + normals
            picture(root / f"{part}/{number}.png", defect=defect)
            mask(root / f"{part}/{number}_GT.png", defect=defect)
    test = [(number, True) for number in range(20000, 20004)]
    for name, masks in ((0, 0), (16, 2), (246, 4)):
        # As the published files do: normal pictures of the training part may be unsegmented, too.
        train = [(number, masks > 0) for number in range(10000, 10004)]
        train += [(10004 + place, place < masks) for place in range(4)]
        pickled(root / f"split_weakly_{name}.pyb", (train, test))
    return root


def sensum(root: Path, *, with_numpy: bool = False) -> Path:
    """Nine normal and six defective pictures of each product; fold f tests every third of them.

    Split files for 0, 20, 40, ... 100 % of four masks, rounded.
    """
    for product in ("capsule", "softgel"):
        for number in range(9):
            picture(root / f"{product}/negative/data/{number:03}.png")
        for number in range(6):
            picture(root / f"{product}/positive/data/{number:03}.png", defect=True)
            mask(root / f"{product}/positive/annotation/{number:03}.png")
        for fold in range(3):
            _sensum_fold(root / f"sensum_splits/{product}/{fold}", fold, with_numpy)
    return root


def _sensum_fold(folder: Path, fold: int, with_numpy: bool) -> None:
    number_of = np.int64 if with_numpy else int
    for name, count in (("neg", 9), ("pos", 6)):
        test = [(number_of(each), True) for each in range(count) if each % 3 == fold]
        train = [(number_of(each), True) for each in range(count) if each % 3 != fold]
        pickled(folder / f"test/{name}.pckl", test)
        if name == "neg":
            pickled(folder / "train/neg.pckl", train)
            continue
        for share in range(0, 101, 20):
            kept = round(share / 100 * len(train))
            choice = [(each, place < kept) for place, (each, _) in enumerate(train)]
            pickled(folder / f"train/pos_{share}.pckl", choice)


def pickled(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def _write(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path
