"""Which defects the map finds, region by region: the FROC curve, and the share found by size.

A ground-truth region (8-connected) is found where the map reaches the threshold on any of its
pixels. A region of the map at or above the threshold that touches no ground truth is a false one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.intervals import Groups, Rate, rate_of
from ssn_edge_calibrate.metrics import Maps, Masks, Points
from ssn_edge_runtime.arrays import BoolMask, FloatArray

MOST_FALSE_REGIONS = 4.0
"""A picture, on average: the FROC curve ends there; nobody runs a line beyond."""
THRESHOLDS = 48
"""Of the FROC curve."""


@dataclass(frozen=True, slots=True)
class TrueRegion:
    """One ground-truth region.

    Args:
        picture: Place of its picture among those handed in.
        area: Network pixels.
        highest: The map's highest value on it, a logit.
    """

    picture: int
    area: int
    highest: float


@dataclass(frozen=True, slots=True)
class SizeClass:
    """How many of the defect regions of one size were found.

    Args:
        from_side: Side of a square of the smallest area that belongs to it, in network pixels.
        below_side: Of the smallest area that does not; infinite for the last class.
        found: Regions on which the map reaches the pixel threshold.
    """

    from_side: int
    below_side: float
    found: Rate

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON: no upper end is None."""
        below = self.below_side if math.isfinite(self.below_side) else None
        return {"from_side": self.from_side, "below_side": below, "found": self.found.to_dict()}


SIDES = (0, 4, 8, 16, 32, 64)
"""Where size classes begin, in network pixels; each doubles the side before it."""


def true_regions(maps: Maps, masks: Masks) -> tuple[TrueRegion, ...]:
    """All ground-truth regions of the pictures.

    Args:
        maps: (h, w) float32 each, logits.
        masks: (h, w) bool each, at the maps' resolution.
    """
    regions = []
    for picture, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        count, ids = _regions(mask)
        if count == 1:
            continue
        highest = np.full(count, -np.inf)
        np.maximum.at(highest, ids.ravel(), anomaly_map.ravel().astype(np.float64))
        areas = np.bincount(ids.ravel(), minlength=count)
        regions += [
            TrueRegion(picture, int(areas[each]), float(highest[each])) for each in range(1, count)
        ]
    return tuple(regions)


def regions_found(
    regions: Sequence[TrueRegion], pixel_threshold: float, groups: Groups = None
) -> Rate:
    """The share of regions found.

    Args:
        regions: From `true_regions`.
        pixel_threshold: A map value at it counts as found.
        groups: One a picture; regions of one picture belong together in any case.
    """
    return rate_of(
        [each.highest >= pixel_threshold for each in regions],
        [_group_of(each.picture, groups) for each in regions],
    )


def found_by_size(
    regions: Sequence[TrueRegion], pixel_threshold: float, groups: Groups = None
) -> tuple[SizeClass, ...]:
    """The share of regions found, by size; classes without a region are left out.

    Args:
        regions: From `true_regions`.
        pixel_threshold: A map value at it counts as found.
        groups: One a picture; regions of one picture belong together in any case.
    """
    classes = []
    for low, high in zip(SIDES, (*SIDES[1:], math.inf), strict=True):
        members = [each for each in regions if low**2 <= each.area < high**2]
        if members:
            found = regions_found(members, pixel_threshold, groups)
            classes.append(SizeClass(low, high, found))
    return tuple(classes)


def froc_points(maps: Maps, masks: Masks, regions: Sequence[TrueRegion]) -> Points:
    """The FROC curve as (false regions a picture, share of true regions found), both rising.

    At up to `THRESHOLDS` thresholds: the true regions' highest values, evenly picked. The curve
    ends where false regions are most: below that threshold they grow together into few large ones,
    and what these cover is not found. On the way, points that another one excels in both are left
    out. Empty where no defect is drawn.

    Args:
        maps: (h, w) float32 each, logits.
        masks: (h, w) bool each, at the maps' resolution.
        regions: From `true_regions` of the same pictures.
    """
    if not regions:
        return ()
    highest = np.sort(np.array([each.highest for each in regions]))[::-1]
    distinct = np.unique(highest)[::-1]
    picked = np.unique(
        np.linspace(0, distinct.size - 1, min(THRESHOLDS, distinct.size)).astype(int)
    )
    measured: list[tuple[float, float]] = []
    for threshold in distinct[picked]:
        false = false_regions_at(maps, masks, float(threshold))
        if false > MOST_FALSE_REGIONS:
            break
        measured.append((false, float(np.mean(highest >= threshold))))
    most = max((false for false, _ in measured), default=0.0)
    points = [(0.0, 0.0)]
    for false, found in measured:
        while len(points) > 1 and points[-1][0] >= false:
            points.pop()
        points.append((false, found))
        if false == most:
            break
    return tuple(points)


def false_regions_at(maps: Maps, masks: Masks, pixel_threshold: float) -> float:
    """False regions a picture at one threshold, on average. At least one picture is needed."""
    return sum(
        _false_regions(anomaly_map, mask, pixel_threshold)
        for anomaly_map, mask in zip(maps, masks, strict=True)
    ) / len(maps)


def _false_regions(anomaly_map: FloatArray, mask: BoolMask, threshold: float) -> int:
    if anomaly_map.max() < threshold:
        return 0
    count, ids = _regions(anomaly_map >= threshold)
    return count - 1 - int(np.count_nonzero(np.unique(ids[mask])))


def _regions(mask: BoolMask) -> tuple[int, npt.NDArray[np.int32]]:
    """One more than there are regions, and each pixel's region; 0 is none."""
    count, ids = cv2.connectedComponents(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    return count, ids


def _group_of(picture: int, groups: Groups) -> Hashable:
    name = None if groups is None else groups[picture]
    return ("alone", picture) if name is None else ("group", name)
