"""One look at every picture and mask: what the checks compare."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssn_edge.data.items import Item
from ssn_edge.data.masks import CLASS_ID_ABOVE, GREY_EDGE_ABOVE, MaskRule
from ssn_edge.data_check.perceptual_hash import perceptual_hash
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.errors import PictureError
from ssn_edge_runtime.pictures import read_picture

SATURATED_FROM, BLACK_TO = 250, 5
"""Grey levels that hold no detail any more."""
COLOUR_FROM = 2.0
"""Mean difference between the channels in grey levels from which a picture is in colour."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class PictureLook:
    """What a picture shows.

    Args:
        size_hw: Height and width in pixels.
        is_colour: Whether its channels differ.
        digest: SHA-256 of size and pixels; two files of one picture share it.
        hash: Perceptual hash, (BITS,) bool; None where there is no detail.
        brightness: Mean grey level, 0 to 255.
        contrast: Deviation of the grey levels.
        saturated: Share of nearly white pixels.
        black: Share of nearly black pixels.
        sharpness: Deviation of the Laplacian in grey levels; low where nothing has an edge.
    """

    size_hw: tuple[int, int]
    is_colour: bool
    digest: bytes
    hash: BoolMask | None
    brightness: float
    contrast: float
    saturated: float
    black: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class MaskLook:
    """What a mask marks, in pixels.

    Args:
        size_hw: Height and width.
        marked: By the data set's rule.
        as_class_ids: By the rule for class ids: anything but 0.
        as_white: By the rule for black and white with grey edges.
        digest: SHA-256 of size and pixels.
    """

    size_hw: tuple[int, int]
    marked: int
    as_class_ids: int
    as_white: int
    digest: bytes

    @property
    def share(self) -> float:
        """Share of the mask that is marked by the data set's rule."""
        return self.marked / (self.size_hw[0] * self.size_hw[1])


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """One item with what its files show, or why they cannot be used.

    Args:
        item: The item.
        picture: None if it cannot be read.
        picture_fault: Why; empty if it can.
        mask: None if there is none, or it cannot be read.
        mask_fault: Why; empty if it can.
    """

    item: Item
    picture: PictureLook | None
    picture_fault: str = ""
    mask: MaskLook | None = None
    mask_fault: str = ""


def look_at_all(
    items: Sequence[Item], rule: MaskRule, on_progress: Progress = lambda done, count: None
) -> list[Looked]:
    """Look at every item, several at a time; faults are kept, not raised.

    Args:
        items: What to look at.
        rule: Which mask values mean a defect.
        on_progress: Called with pictures done and in all.
    """
    looked: list[Looked] = []
    # Decoding lets go of the interpreter, so threads are enough.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as workers:
        for each in workers.map(lambda item: _look_at(item, rule), items):
            looked.append(each)
            on_progress(len(looked), len(items))
    return looked


def fault_of(file: Path, error: PictureError) -> str:
    """What a reader says of a file, without the file's name."""
    return str(error).removeprefix(f"{file}: ")


def _look_at(item: Item, rule: MaskRule) -> Looked:
    picture = mask = None
    picture_fault = mask_fault = ""
    try:
        picture = look_at_picture(read_picture(item.image))
    except PictureError as error:
        picture_fault = fault_of(item.image, error)
    if item.mask is not None:
        try:
            mask = look_at_mask(read_picture(item.mask), rule)
        except PictureError as error:
            mask_fault = fault_of(item.mask, error)
    return Looked(item, picture, picture_fault, mask, mask_fault)


def look_at_picture(picture: ByteImage) -> PictureLook:
    """Measure a picture, (H, W, 3) uint8 BGR or (H, W) uint8."""
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    levels = np.bincount(grey.ravel(), minlength=256) / grey.size  # (256,)
    brightness = float(levels @ np.arange(256))
    return PictureLook(
        size_hw=(picture.shape[0], picture.shape[1]),
        is_colour=_is_colour(picture),
        digest=_digest(picture),
        hash=perceptual_hash(grey),
        brightness=brightness,
        contrast=math.sqrt(float(levels @ np.square(np.arange(256) - brightness))),
        saturated=float(levels[SATURATED_FROM:].sum()),
        black=float(levels[: BLACK_TO + 1].sum()),
        sharpness=float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]),
    )


def look_at_mask(mask: ByteImage, rule: MaskRule) -> MaskLook:
    """Measure a mask, grey or colour; a pixel counts by its brightest channel."""
    levels = mask if mask.ndim == 2 else np.asarray(mask.max(axis=2))
    return MaskLook(
        size_hw=(levels.shape[0], levels.shape[1]),
        marked=int((levels > rule.above).sum()),
        as_class_ids=int((levels > CLASS_ID_ABOVE).sum()),
        as_white=int((levels > GREY_EDGE_ABOVE).sum()),
        digest=_digest(levels),
    )


def _is_colour(picture: ByteImage) -> bool:
    """Whether the channels differ; many cameras save grey pictures in three equal ones."""
    if picture.ndim == 2:
        return False
    blue, green, red = cv2.split(picture)
    differences = [cv2.absdiff(blue, green), cv2.absdiff(green, red)]
    return any(float(each.mean()) >= COLOUR_FROM for each in differences)


def _digest(pixels: ByteImage) -> bytes:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
