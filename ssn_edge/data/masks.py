"""Ground-truth masks: which of their values mean a defect, and reading them by that rule."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.errors import ConfigError, PictureError
from ssn_edge_runtime.pictures import read_picture

logger = logging.getLogger(__name__)

GREY_EDGE_ABOVE = 127
"""Masks that were resized, smoothed or stored as JPEG have grey edges: half way is the outline."""
CLASS_ID_ABOVE = 0
"""Masks of class ids: each value but 0 is a defect."""

SAMPLED_MASKS = 64
"""Masks with any pixel set that the detection looks at."""
SOLID_SHARE = 0.25
"""Share of the dark pixels inside patches of one value from which they count as class ids.

Measured on magnetic tiles (grey edges): 0 of 16,163 such pixels lie in a 3 x 3 patch of one value.
A class id fills areas, so nearly all of its pixels do.
"""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """Which mask values mean a defect.

    Args:
        above: A pixel is defective when its value is greater; 0 to 254.
        reason: Why, in words for the log.
    """

    above: int
    reason: str

    def __post_init__(self) -> None:
        """Refuse a rule that no 8-bit value could meet."""
        if not 0 <= self.above <= 254:
            raise ConfigError(
                f"mask values above {self.above} cannot mean a defect; masks have 8 bits, "
                "so use 0 (class ids) to 254"
            )


def detect_mask_rule(paths: Sequence[Path]) -> MaskRule:
    """Find out whether masks hold class ids or black and white with grey edges.

    Looks at up to 64 masks that have any pixel set, evenly spaced; all-zero masks say nothing.

    Args:
        paths: Mask files in any order.

    Returns:
        Above 0 for class ids, above 127 for black and white, with or without grey edges.

    Raises:
        PictureError: A mask that was looked at cannot be read.
    """
    values = np.zeros(256, dtype=np.int64)
    dark_count = dark_solid = seen = 0
    for path in _evenly_spread(paths):
        levels = _read_levels(path)
        if not levels.any():
            continue
        values += np.bincount(levels.ravel(), minlength=256)
        # What lies between the two rules decides which one is right.
        dark = (levels > CLASS_ID_ABOVE) & (levels <= GREY_EDGE_ABOVE)
        dark_count += int(dark.sum())
        dark_solid += int((dark & _solid(levels)).sum())
        seen += 1
        if seen == SAMPLED_MASKS:
            break
    rule = _rule_for(np.flatnonzero(values), dark_count, dark_solid)
    logger.info("mask values above %d mean a defect: %s", rule.above, rule.reason)
    return rule


def read_mask(path: Path, rule: MaskRule, image_size_hw: tuple[int, int]) -> BoolMask:
    """Read a ground-truth mask.

    Args:
        path: Grey, or colour (a pixel counts by its brightest channel).
        rule: Which values mean a defect.
        image_size_hw: Height and width of the picture that it belongs to.

    Returns:
        (H, W) bool, True where defective; a new array.

    Raises:
        PictureError: Unreadable, not 8 bit, or of another size than its picture.
    """
    levels = _read_levels(path)
    if levels.shape != tuple(image_size_hw):
        raise PictureError(
            f"{path}: the mask has {levels.shape[1]} x {levels.shape[0]} pixels, its picture has "
            f"{image_size_hw[1]} x {image_size_hw[0]}; export the mask at the picture's own size"
        )
    return np.asarray(levels > rule.above)


def is_mask_empty(path: Path, rule: MaskRule) -> bool:
    """Whether a mask file marks no pixel by this rule.

    Raises:
        PictureError: Unreadable or not 8 bit.
    """
    return not bool((_read_levels(path) > rule.above).any())


def _read_levels(path: Path) -> ByteImage:
    picture = read_picture(path)
    return picture if picture.ndim == 2 else np.asarray(picture.max(axis=2))


def _solid(levels: ByteImage) -> BoolMask:
    """True where a pixel and its eight neighbours have one value."""
    patch = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(levels, patch) == cv2.erode(levels, patch))


def _rule_for(values: npt.NDArray[np.int64], dark: int, solid: int) -> MaskRule:
    """The rule for masks with these values and so many dark and dark solid pixels."""
    set_values = [int(value) for value in values if value > 0]
    if not set_values:
        return MaskRule(CLASS_ID_ABOVE, "no mask has a pixel set")
    listed = ", ".join(str(value) for value in set_values[:4])
    if len(set_values) > 4:
        listed += f", ... ({len(set_values)} values)"
    if set_values[-1] <= GREY_EDGE_ABOVE:
        return MaskRule(CLASS_ID_ABOVE, f"class ids {listed}, none bright")
    if dark == 0 and len(set_values) == 1:
        return MaskRule(GREY_EDGE_ABOVE, f"black and white, the only value set is {listed}")
    if dark == 0:
        return MaskRule(CLASS_ID_ABOVE, f"class ids {listed}, no grey edge between them and 0")
    if solid >= SOLID_SHARE * dark:
        return MaskRule(CLASS_ID_ABOVE, f"class ids {listed}, each filling areas")
    return MaskRule(GREY_EDGE_ABOVE, f"white with grey edges ({len(set_values)} levels above 0)")


def _evenly_spread(paths: Sequence[Path]) -> Iterator[Path]:
    """Every path once, the first ones already spread over the whole list."""
    ordered = sorted(paths)
    stride = max(1, len(ordered) // SAMPLED_MASKS)
    for start in range(stride):
        yield from ordered[start::stride]
