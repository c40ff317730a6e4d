"""The four panels of a report's example: picture, anomaly map, predicted mask, ground truth."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.preprocess import check_frame

PANEL_SIDE = 320
"""The longer side of a panel in pixels."""
JPEG_QUALITY = 85

PREDICTED_RGB = (255, 159, 28)
TRUTH_RGB = (34, 211, 238)
"""Orange and cyan: apart for all common kinds of colour blindness, and rare on metal and stone."""

_AROUND = np.ones((9, 9), dtype=np.uint8)  # 4 pixels to each side: half the line, and a gap
_COLOUR_MAP = cv2.COLORMAP_INFERNO
_FIRST_COLOUR = 60  # of 255; what lies before is nearly black and would look like a shadow
_STRONGEST = 0.85  # opacity of the upper half of the scale; the surface still shows through


@dataclass(frozen=True, slots=True)
class HeatScale:
    """The one colour scale of a page, in logits.

    Args:
        low: Not coloured, nor is anything below.
        high: The last colour, also for anything above.
        pixel_threshold: Marked on the scale.
    """

    low: float
    high: float
    pixel_threshold: float

    def share(self, anomaly_map: FloatArray) -> FloatArray:
        """Where each score lies between `low` (0) and `high` (1), (H, W) float32."""
        finite = np.nan_to_num(anomaly_map, nan=self.low, posinf=self.high, neginf=self.low)
        share = np.clip((finite - self.low) / (self.high - self.low), 0, 1)
        return np.asarray(share, dtype=np.float32)


def fit_heat_scale(maps: Iterable[FloatArray], pixel_threshold: float) -> HeatScale:
    """Choose the scale for a page: from the median of all its maps to almost their maximum.

    The top is the 99.9th percentile, or half as far above the threshold as the bottom is below it,
    if that is more: on a page of good parts, noise must not look like a defect.
    """
    values = np.concatenate([np.zeros(0, np.float32), *(each.ravel() for each in maps)])
    values = values[np.isfinite(values)]
    if not values.size:
        return HeatScale(pixel_threshold - 1, pixel_threshold + 1, pixel_threshold)
    low = min(float(np.median(values)), pixel_threshold)
    high = max(
        float(np.percentile(values, 99.9)), pixel_threshold + (pixel_threshold - low) / 2, low + 0.1
    )
    return HeatScale(low, high, pixel_threshold)


def picture_panel(picture: ByteImage) -> ByteImage:
    """A picture at panel size.

    Args:
        picture: (H, W, 3) uint8 BGR or (H, W) uint8.

    Returns:
        (h, w, 3) uint8 BGR, the longer side `PANEL_SIDE`; a new array.

    Raises:
        FrameError: Not a picture of 8-bit pixels.
    """
    check_frame(picture)
    height, width = picture.shape[:2]
    scale = PANEL_SIDE / max(height, width)
    resized = cv2.resize(
        picture,
        (max(1, round(width * scale)), max(1, round(height * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    return _bgr(resized)


def heat_panel(panel: ByteImage, anomaly_map: FloatArray, scale: HeatScale) -> ByteImage:
    """Lay an anomaly map in colour over the grey picture.

    Args:
        panel: What `picture_panel` gave.
        anomaly_map: (H, W) float32 logits of the same field of view.
        scale: The page's colour scale.

    Returns:
        (h, w, 3) uint8 BGR, a new array of the panel's size.
    """
    height, width = panel.shape[:2]
    share = cv2.resize(
        scale.share(anomaly_map), (width, height), interpolation=cv2.INTER_LINEAR
    )  # (h, w)
    heat = _coloured(share)  # (h, w, 3)
    grey = _bgr(cv2.cvtColor(panel, cv2.COLOR_BGR2GRAY))
    opacity = (_STRONGEST * np.minimum(1, 2 * share))[:, :, None]  # (h, w, 1)
    return np.asarray(np.rint(grey * (1 - opacity) + heat * opacity), dtype=np.uint8)


def outline_panel(panel: ByteImage, mask: BoolMask, colour_rgb: tuple[int, int, int]) -> ByteImage:
    """Draw a line round a mask on the picture, with a dark edge that shows on any surface.

    The line runs outside the mask, so that a thin defect stays visible between it.

    Args:
        panel: What `picture_panel` gave.
        mask: (H, W) bool of the same field of view.
        colour_rgb: Of the line.

    Returns:
        (h, w, 3) uint8 BGR, a new array of the panel's size.
    """
    height, width = panel.shape[:2]
    shrinks = mask.shape[0] > height or mask.shape[1] > width
    # Area averages keep what is thinner than a pixel of the panel.
    resized = cv2.resize(
        mask.astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST,
    )
    contours, _ = cv2.findContours(
        cv2.dilate((resized > 0).astype(np.uint8), _AROUND), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    drawn: ByteImage = panel.copy()
    cv2.drawContours(drawn, contours, -1, (20, 20, 20), thickness=4)
    cv2.drawContours(drawn, contours, -1, colour_rgb[::-1], thickness=2)
    return drawn


def heat_colours(count: int) -> list[str]:
    """CSS colours of the scale from low to high, for its legend."""
    colours = _coloured(np.linspace(0, 1, count, dtype=np.float32)[None])[0]  # (count, 3)
    return [f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in colours.tolist()]


def data_uri(panel: ByteImage) -> str:
    """A panel as a JPEG inside a `data:` address, so that the page needs no other file."""
    # Colour at full resolution: the usual halved one would blur a thin outline.
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    ok, data = cv2.imencode(".jpg", panel, options)
    if not ok:
        raise StorageError(f"a picture of shape {panel.shape} cannot be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(bytes(data)).decode("ascii")


def _coloured(share: FloatArray) -> ByteImage:
    """Shares of the scale, (h, w) in [0, 1], to its colours, (h, w, 3) BGR."""
    steps = np.rint(_FIRST_COLOUR + (255 - _FIRST_COLOUR) * share).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(steps, _COLOUR_MAP), dtype=np.uint8)


def _bgr(image: ByteImage) -> ByteImage:
    """(h, w) or (h, w, 3) to (h, w, 3), always a new array."""
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image.copy()
