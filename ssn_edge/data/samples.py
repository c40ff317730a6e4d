"""Sample data sets for the demo: a seeded MVTec-layout folder of one surface with its defects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssn_edge.data.defects import DefectKind, add_defect
from ssn_edge.data.surfaces import Surface, draw_surface, expose
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.pictures import encode_png

MIN_SAMPLE_SIDE = 64
"""Below this a stain would be larger than the picture."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample picture.

    Args:
        image: (H, W) grey or (H, W, 3) BGR uint8.
        mask: (H, W) bool, True where a defect visibly changes the surface; all False when sound.
        defect: What was added, or None for a sound part.
    """

    image: ByteImage
    mask: BoolMask
    defect: DefectKind | None


def draw_sample(
    surface: Surface,
    defect: DefectKind | None,
    *,
    size_hw: tuple[int, int] = (256, 256),
    seed: int | tuple[int, ...] = 0,
) -> Sample:
    """Draw one picture; the same arguments give the same pixels.

    Raises:
        ConfigError: A side is shorter than 64 pixels.
    """
    if min(size_hw) < MIN_SAMPLE_SIDE:
        raise ConfigError(
            f"a sample picture of {size_hw[0]} x {size_hw[1]} pixels is too small to show a "
            f"surface; each side must have at least {MIN_SAMPLE_SIDE} pixels"
        )
    rng = np.random.default_rng(seed)
    scene = draw_surface(surface, size_hw, rng)
    mask = np.zeros(size_hw, dtype=np.bool_)
    if defect is not None:
        scene, mask = add_defect(scene, defect, rng)
    return Sample(expose(scene, rng), mask, defect)


def list_samples(
    surface: Surface, *, normal: int, defective: int, seed: int, part: int = 0
) -> Iterator[tuple[DefectKind | None, tuple[int, ...]]]:
    """What `make_samples` draws for one part of a data set, normal pictures first.

    Args:
        surface: The only surface of this data set.
        normal: Number of sound parts.
        defective: Number of damaged parts; the kinds take turns.
        seed: Seed of the data set.
        part: 0 for train, 1 for test: no picture is in both.

    Yields:
        The defect and the seed to hand to `draw_sample`.
    """
    kinds = list(DefectKind)
    place = list(Surface).index(surface)
    for number in range(normal):
        yield None, (seed, place, part, 0, number)
    for number in range(defective):
        yield kinds[number % len(kinds)], (seed, place, part, 1, number)


def make_samples(
    root: Path,
    *,
    surface: Surface,
    normal_train: int,
    defective_train: int,
    normal_test: int,
    defective_test: int,
    size_hw: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> None:
    """Write a data set of one surface in the MVTec layout, as 8-bit PNG.

    Brushed and cast are grey, woven is colour. Defective parts take turns through scratch, pit and
    stain; those of the training part have names that start with `train_`, since both parts
    share the folders of `ground_truth`.

    Args:
        root: Folder to write into; made if absent, must hold nothing.
        surface: What the parts are made of.
        normal_train: Sound parts in `train/good`.
        defective_train: Damaged parts in `train/<kind>`, with masks.
        normal_test: Sound parts in `test/good`.
        defective_test: Damaged parts in `test/<kind>`, with masks.
        size_hw: Height and width of each picture in pixels.
        seed: The same seed gives the same files; a picture does not depend on the counts.

    Raises:
        ConfigError: A count is negative, a side too short, or the folder is not empty.
    """
    counts = (normal_train, defective_train, normal_test, defective_test)
    if min(counts) < 0:
        raise ConfigError(f"the numbers of sample pictures {counts} must not be negative")
    if root.is_file() or (root.exists() and any(root.iterdir())):
        raise ConfigError(f"{root}: is not an empty folder; name a new one for the samples")
    for part, (name, normal, defective) in enumerate(
        [("train", normal_train, defective_train), ("test", normal_test, defective_test)]
    ):
        plan = list_samples(surface, normal=normal, defective=defective, seed=seed, part=part)
        for number, (defect, picture_seed) in enumerate(plan):
            sample = draw_sample(surface, defect, size_hw=size_hw, seed=picture_seed)
            prefix = "train_" if part == 0 and defect is not None else ""
            _write(root, name, f"{prefix}{number:03d}", sample)


def high_pass_baseline(picture: ByteImage, *, sigma_px: float = 3.0) -> float:
    """The simple score a model has to beat: the greatest difference from the blurred picture.

    Args:
        picture: (H, W) or (H, W, 3) uint8; colour is turned to grey.
        sigma_px: Deviation of the Gaussian blur.

    Returns:
        0 to 255; higher is more anomalous.
    """
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    levels = grey.astype(np.float32)
    return float(np.abs(levels - cv2.GaussianBlur(levels, (0, 0), sigma_px)).max())


def _write(root: Path, part: str, name: str, sample: Sample) -> None:
    kind = "good" if sample.defect is None else sample.defect.value
    _write_png(root / part / kind / f"{name}.png", sample.image)
    if sample.defect is not None:
        mask = sample.mask.astype(np.uint8) * np.uint8(255)
        _write_png(root / "ground_truth" / kind / f"{name}_mask.png", mask)


def _write_png(path: Path, picture: ByteImage) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(picture))
