"""The user's own pictures, for INT8: enough of them, no two alike, each with something on it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import CalibrationError

MIN_INT8_PICTURES = 32
"""Fewer are refused. With 32 the largest magnitudes of trained nets were, on average over tensors
and draws, 89 % (ResNet18) and 97 % (EfficientNet-Lite0) of those with 256; with 64, 93 and 98 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Pictures:
    """Pictures that ranges can be taken from.

    Args:
        pixels: (h, w, 3) uint8 each, BGR, preprocessed; no two alike.
        sha256: Of all of them, in an order of their own.
        copies: Pictures left out because they were given before.
        blank: Pictures left out because all their pixels are alike.
    """

    pixels: tuple[ByteImage, ...]
    sha256: str
    copies: int
    blank: int


def checked_pictures(pixels: Sequence[ByteImage], *, size_hw: tuple[int, int]) -> Int8Pictures:
    """Take the pictures that ranges can be taken from.

    Args:
        pixels: (h, w, 3) uint8 each, BGR, of the training part, as `preprocess` gives them.
        size_hw: The network's input.

    Raises:
        CalibrationError: Pictures of another form, or too few that differ.
    """
    wanted = (*size_hw, 3)
    found: dict[str, ByteImage] = {}
    copies = blank = 0
    for number, each in enumerate(pixels, start=1):
        if each.dtype != np.uint8 or each.shape != wanted:
            raise CalibrationError(
                f"picture {number} for INT8 is {each.dtype} {each.shape}, and {wanted} bytes are "
                "wanted; hand over preprocessed pictures of the training part"
            )
        digest = hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest()
        if (each == each[0, 0]).all():
            blank += 1
        elif digest in found:
            copies += 1
        else:
            found[digest] = each
    if len(found) < MIN_INT8_PICTURES:
        raise CalibrationError(
            f"INT8 takes its ranges from {MIN_INT8_PICTURES} or more different pictures of the "
            f"training part, and there are {len(found)}{_left_out(copies, blank)}; add normal "
            "pictures, or export fp16 instead"
        )
    order = sorted(found)
    total = hashlib.sha256("".join(order).encode()).hexdigest()
    return Int8Pictures(tuple(found[each] for each in order), total, copies, blank)


def _left_out(copies: int, blank: int) -> str:
    reasons = [f"{copies} copies"] if copies else []
    reasons += [f"{blank} of one colour"] if blank else []
    return f" (besides {' and '.join(reasons)})" if reasons else ""
