"""A defect mask to its connected regions, in camera pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.normalised import normalised_score

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Defect:
    """One connected region of the defect mask.

    Args:
        box_xyxy: Bounding box in camera pixels: left, top, and the first column and row beyond.
        area_px: Area in camera pixels.
        peak: Largest pixel score of the region, in [0, 1]; 0.5 is the pixel threshold.
        mean: Mean logit of the region, on the same scale.
        min_area_px: Area, in camera pixels, from which on it fails the part, where zones say so;
            None for none, and without zones.
    """

    box_xyxy: tuple[int, int, int, int]
    area_px: float
    peak: float
    mean: float
    min_area_px: float | None = None


def find_defects(
    mask: BoolMask,
    anomaly_map: FloatArray,
    *,
    pixel_threshold: float,
    region_xywh: tuple[int, int, int, int],
    min_areas: npt.NDArray[np.float64] | None = None,
) -> tuple[Defect, ...]:
    """List the 8-connected regions of a mask, largest first.

    Args:
        mask: (h, w) bool at network resolution.
        anomaly_map: (h, w) float32 logits of the same frame.
        pixel_threshold: The logit that the mask was made with.
        region_xywh: The part of the frame, in camera pixels, that the mask covers.
        min_areas: Minimum area by pixel, (h, w) float64, infinite for none: a region meets the
            smallest that it touches. None for none at all.
    """
    if not mask.any():
        return ()
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    mask_height, mask_width = mask.shape
    x0, y0, region_width, region_height = region_xywh

    # Sorting the runs by label once beats one pass over the map for each region, and gives areas
    # and boxes for less than OpenCV's statistics, which look at the whole background as well.
    runs = _runs(mask)
    members = labels.ravel().take(runs.first)
    order = np.argsort(members, kind="stable")
    first, length, row, column = (each.take(order) for each in runs)
    starts = np.searchsorted(members.take(order), np.arange(1, count))
    areas = np.add.reduceat(length, starts)
    # The sort keeps a region's runs in the order of their rows.
    top, bottom = row[starts], row[np.append(starts[1:], len(row)) - 1] + 1
    left = np.minimum.reduceat(column, starts)
    right = np.maximum.reduceat(column + length, starts)

    # All pixels, region by region: those of a run follow one another.
    before = np.cumsum(length) - length
    pixels = np.repeat(first - before, length) + np.arange(before[-1] + length[-1])
    logits = anomaly_map.ravel().take(pixels).astype(np.float64)
    peaks = np.maximum.reduceat(logits, before[starts])
    means = np.add.reduceat(logits, before[starts]) / areas
    limits = np.full(len(areas), np.inf)
    if min_areas is not None:
        limits = np.minimum.reduceat(min_areas.ravel().take(pixels), before[starts])
    # Whole numbers: 180 * (432 / 320) is above 243, and its ceiling outside.
    found = (
        x0 + left * region_width // mask_width,
        y0 + top * region_height // mask_height,
        x0 + _ceil_div(right * region_width, mask_width),
        y0 + _ceil_div(bottom * region_height, mask_height),
        areas,
        peaks,
        means,
        limits,
    )
    region_area, mask_area = region_width * region_height, mask_width * mask_height
    largest_first = np.argsort(-areas, kind="stable")
    return tuple(
        Defect(
            box_xyxy=(x_left, y_top, x_right, y_bottom),
            # Rounded once: a region of exactly the minimum area must not fall below it.
            area_px=area * region_area / mask_area,
            peak=normalised_score(peak, pixel_threshold),
            mean=normalised_score(mean, pixel_threshold),
            min_area_px=limit if math.isfinite(limit) else None,
        )
        for x_left, y_top, x_right, y_bottom, area, peak, mean, limit in zip(
            *(each[largest_first].tolist() for each in found), strict=True
        )
    )


class _Runs(NamedTuple):
    """Masked pixels that follow one another in a row, in the order of the rows."""

    first: IntArray  # index of the first pixel in the mask, row after row
    length: IntArray
    row: IntArray
    column: IntArray  # of the first pixel


def _runs(mask: BoolMask) -> _Runs:
    height, width = mask.shape
    # A column of background before each row, and a pixel after the last, end every run.
    stride = width + 1
    padded = np.zeros(height * stride + 1, dtype=np.bool_)
    padded[:-1].reshape(height, stride)[:, 1:] = mask
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + 1
    start, end = edges[::2], edges[1::2]
    row = start // stride
    return _Runs(
        first=start - row - 1, length=end - start, row=row, column=start - row * stride - 1
    )


def _ceil_div(dividend: IntArray, divisor: int) -> IntArray:
    return -(-dividend // divisor)
