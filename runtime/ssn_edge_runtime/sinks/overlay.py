"""A frame with what was found drawn on it, for the eye only."""

from __future__ import annotations

import cv2
import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import Decision

HEAT_FROM, HEAT_TO = -0.5, 2.0
"""Logits from the pixel threshold between which the heat fades in. Training pulls normal and
defective pixels one logit apart, so a sound surface stays as the camera saw it."""
HEAT_OPACITY = 0.6
OUTLINE_BGR = (0, 0, 255)


def draw_overlay(image: ByteImage, decision: Decision) -> ByteImage:
    """Draw the heat of the anomaly map and the outline of the defect mask on a frame.

    Args:
        image: (H, W, 3) BGR or (H, W) mono uint8; not changed.
        decision: What was decided on this very frame; without a map, the frame is only copied.

    Returns:
        (H, W, 3) BGR uint8, a new array.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    if (
        decision.anomaly_map is None
        or decision.pixel_threshold is None
        or decision.geometry is None
    ):
        return np.asarray(canvas, dtype=np.uint8)
    x, y, width, height = decision.geometry.region_xywh((image.shape[0], image.shape[1]))
    draw_heat(canvas[y : y + height, x : x + width], decision.anomaly_map, decision.pixel_threshold)
    mask = decision.camera_mask()
    if mask is not None:
        draw_outline(canvas, mask)
    return np.asarray(canvas, dtype=np.uint8)


def draw_heat(region: ByteImage, anomaly_map: FloatArray, pixel_threshold: float) -> None:
    """Let the heat of a map glow on what was judged, (H, W, 3) BGR uint8, which is changed."""
    height, width = region.shape[:2]
    heat = cv2.resize(_heat(anomaly_map, pixel_threshold), (width, height))
    colour = cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO)
    opacity = cv2.merge([cv2.convertScaleAbs(heat, alpha=HEAT_OPACITY)] * 3)
    region[:] = cv2.add(
        cv2.multiply(region, 255 - opacity, scale=1 / 255),
        cv2.multiply(colour, opacity, scale=1 / 255),
    )


def draw_outline(canvas: ByteImage, mask: BoolMask) -> None:
    """Draw a line around a mask, (H, W) bool, on a picture of its size, which is changed."""
    if mask.any():
        thickness = 2 * max(1, round(min(canvas.shape[:2]) / 500)) + 1
        kernel = np.ones((thickness, thickness), dtype=np.uint8)
        # Just outside the mask, so that the defect itself stays visible.
        canvas[(cv2.dilate(mask.view(np.uint8), kernel) != 0) & ~mask] = OUTLINE_BGR


def _heat(anomaly_map: FloatArray, pixel_threshold: float) -> ByteImage:
    """Levels 0 to 255."""
    level = (anomaly_map - (pixel_threshold + HEAT_FROM)) / (HEAT_TO - HEAT_FROM)
    return np.asarray(np.clip(level, 0.0, 1.0) * 255.0, dtype=np.uint8)
