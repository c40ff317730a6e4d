"""A defect mask to its connected regions, in camera pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.normalised import normalised_score


@dataclass(frozen=True, slots=True)
class Defect:
    """One connected region of the defect mask.

    Args:
        box_xyxy: Bounding box in camera pixels: left, top, and the first column and row beyond.
        area_px: Area in camera pixels.
        peak: Largest pixel score of the region, in [0, 1]; 0.5 is the pixel threshold.
        mean: Mean logit of the region, on the same scale.
    """

    box_xyxy: tuple[int, int, int, int]
    area_px: float
    peak: float
    mean: float


def find_defects(
    mask: BoolMask,
    anomaly_map: FloatArray,
    *,
    pixel_threshold: float,
    region_xywh: tuple[int, int, int, int],
) -> tuple[Defect, ...]:
    """List the 8-connected regions of a mask, largest first.

    Args:
        mask: (h, w) bool at network resolution.
        anomaly_map: (h, w) float32 logits of the same frame.
        pixel_threshold: The logit that the mask was made with.
        region_xywh: The part of the frame, in camera pixels, that the mask covers.
    """
    if not mask.any():
        return ()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    x0, y0, region_width, region_height = region_xywh
    mask_height, mask_width = mask.shape

    # Sorting the masked pixels by label once beats one pass over the map for each region.
    members = labels[mask]
    order = np.argsort(members, kind="stable")
    starts = np.searchsorted(members[order], np.arange(1, count))
    logits = anomaly_map[mask][order].astype(np.float64)
    peaks = np.maximum.reduceat(logits, starts)
    means = np.add.reduceat(logits, starts) / stats[1:, cv2.CC_STAT_AREA]

    defects = []
    for index in np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable"):
        left, top, width, height, pixels = (int(value) for value in stats[index + 1])
        defects.append(
            Defect(
                box_xyxy=(
                    # Whole numbers: 180 * (432 / 320) is above 243, and its ceiling outside.
                    x0 + left * region_width // mask_width,
                    y0 + top * region_height // mask_height,
                    x0 + _ceil_div((left + width) * region_width, mask_width),
                    y0 + _ceil_div((top + height) * region_height, mask_height),
                ),
                # Rounded once: a region of exactly the minimum area must not fall below it.
                area_px=pixels * region_width * region_height / (mask_width * mask_height),
                peak=normalised_score(float(peaks[index]), pixel_threshold),
                mean=normalised_score(float(means[index]), pixel_threshold),
            )
        )
    return tuple(defects)


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
