"""What is left of a judged picture, to ask how other thresholds would judge it.

A part is rejected by its score, by the area of a region, or because it is `unknown`: all three
count. So what cannot pass whatever the image threshold has an infinite score here, and the rest of
the room needs to know scores only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.preprocess import Geometry

AREA_MARGIN_SHARE = 0.05
"""Above the largest area of a good part: this share of it,"""
SMALLEST_AREA_MARGIN_PX = 1.0
"""and in camera pixels so much at least."""
BY_AREA = "minimum area"
"""Why a part fails whatever its score; other causes are the reasons of `unknown`."""


@dataclass(frozen=True, slots=True)
class PartScore:
    """One picture, for thresholds to be tried on. Infinite where it is `unknown`.

    Args:
        image: The raw score.
        area_px: The largest region at the pixel threshold that it was judged with, in camera
            pixels; 0 for none.
        pixel: The highest pixel threshold that leaves it a region of the minimum area, or any pixel
            where there is none.
        reason: Why it is `unknown`; empty for a picture with a score.
    """

    image: float
    area_px: float
    pixel: float
    reason: str = ""


def part_score(
    decision: Decision, *, min_area_px: float | None = None, region_mask: BoolMask | None = None
) -> PartScore:
    """Keep of a decision what thresholds are compared with.

    Args:
        decision: Of an inspector without a review zone.
        min_area_px: The area that a pixel threshold is fitted for; None for any pixel.
        region_mask: What is judged of the map, (h, w) bool; None for all of it.
    """
    anomaly_map, geometry, frame = decision.anomaly_map, decision.geometry, decision.frame_size_hw
    if decision.raw_score is None or anomaly_map is None or geometry is None or frame is None:
        return PartScore(math.inf, math.inf, math.inf, decision.reason.value)
    judged = anomaly_map
    if region_mask is not None:
        judged = np.where(region_mask, anomaly_map, np.float32(-np.inf))
    pixels = 1
    if min_area_px is not None:
        pixels = pixels_of_area(min_area_px, geometry, frame)
    return PartScore(
        image=decision.raw_score,
        area_px=max((defect.area_px for defect in decision.defects), default=0.0),
        pixel=highest_pixel_threshold(judged, pixels),
    )


def pixels_of_area(area_px: float, geometry: Geometry, frame_size_hw: tuple[int, int]) -> int:
    """The fewest network pixels whose area in camera pixels is at least `area_px`."""
    _, _, width, height = geometry.region_xywh(frame_size_hw)
    rows, columns = geometry.input_size_hw
    pixels = max(1, math.ceil(area_px * (rows * columns) / (width * height)))
    # As the runtime rounds it: a region of exactly the minimum area must not fall below.
    while pixels > 1 and (pixels - 1) * (width * height) / (rows * columns) >= area_px:
        pixels -= 1
    while pixels * (width * height) / (rows * columns) < area_px:
        pixels += 1
    return pixels


def highest_pixel_threshold(anomaly_map: FloatArray, pixels: int) -> float:
    """The highest threshold that leaves an 8-connected region of at least so many pixels.

    A lower threshold only adds pixels and joins regions, so below it there is always one.

    Args:
        anomaly_map: (h, w) float32 logits; -inf where nothing is judged.
        pixels: At least 1.

    Returns:
        A value of the map, or -inf where it has too few pixels.
    """
    levels = np.unique(anomaly_map[np.isfinite(anomaly_map)])
    if pixels == 1:
        return float(levels[-1]) if levels.size else -math.inf

    def leaves(level: np.float32) -> bool:
        mask = (anomaly_map >= level).view(np.uint8)
        _, _, found, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        return bool(found[1:, cv2.CC_STAT_AREA].max(initial=0) >= pixels)

    if not levels.size or not leaves(levels[0]):
        return -math.inf
    low, high = 0, levels.size  # leaves one; leaves none
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if leaves(levels[middle]) else (low, middle)
    return float(levels[low])


def reject_scores(
    parts: Sequence[PartScore], *, min_area_px: float | None = None
) -> npt.NDArray[np.float64]:
    """A score for each part that reaches the image threshold exactly where the part does not pass.

    Args:
        parts: Judged at the pixel threshold that will be in force.
        min_area_px: As it will be in force; None for none.

    Returns:
        (n,); infinite where the part does not pass whatever the image threshold.
    """
    return np.array(
        [math.inf if _fails_by_area(each, min_area_px) else each.image for each in parts],
        dtype=np.float64,
    )


def at_pixel_threshold(
    parts: Sequence[PartScore], pixel: float, min_area_px: float
) -> list[PartScore]:
    """The parts as another pixel threshold leaves them: with a region of the minimum area, or none.

    Args:
        parts: Judged for this minimum area.
        pixel: The other threshold.
        min_area_px: In camera pixels.
    """
    return [
        each if each.reason else replace(each, area_px=min_area_px if each.pixel >= pixel else 0.0)
        for each in parts
    ]


def area_above(highest: float, areas: npt.NDArray[np.float64]) -> float:
    """A minimum area that lets regions pass up to the highest: half-way to the next larger one.

    Args:
        highest: Camera pixels.
        areas: Of the parts; infinite ones are of parts that are `unknown`.
    """
    larger = areas[(areas > highest) & np.isfinite(areas)]
    if larger.size:
        return highest / 2 + float(larger.min()) / 2
    return highest + max(AREA_MARGIN_SHARE * highest, SMALLEST_AREA_MARGIN_PX)


def causes(parts: Sequence[PartScore], *, min_area_px: float | None = None) -> str:
    """What rejects parts whatever the image threshold, each with how many; empty for none."""
    found = Counter(
        each.reason or BY_AREA for each in parts if each.reason or _fails_by_area(each, min_area_px)
    )
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items()))


def _fails_by_area(part: PartScore, min_area_px: float | None) -> bool:
    return min_area_px is not None and part.area_px >= min_area_px
