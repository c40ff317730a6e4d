"""Bytes of a V4L2 frame to BGR or mono pixels, and whether they are all there."""

from __future__ import annotations

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.sources.v4l2_device import PictureFormat

_JPEG = ("MJPG", "JPEG")
# FourCC: bytes a pixel, OpenCV's conversion (None: as it is).
_PACKED: dict[str, tuple[int, int | None]] = {
    "GREY": (1, None),
    "BGR3": (3, None),
    "RGB3": (3, cv2.COLOR_RGB2BGR),
    "YUYV": (2, cv2.COLOR_YUV2BGR_YUYV),
    "UYVY": (2, cv2.COLOR_YUV2BGR_UYVY),
}
READABLE = (*_PACKED, *_JPEG)
"""Formats that are read; those of 10, 12 and 16 bit are refused, not cut down in silence."""


def decode(data: bytes, pixel_format: PictureFormat) -> tuple[ByteImage, bool]:
    """Pixels of a frame.

    Args:
        data: As the driver gave them.
        pixel_format: One of `READABLE`.

    Returns:
        (H, W, 3) BGR or (H, W) mono, uint8, of the format's size; and whether it is whole. What is
        missing is black.
    """
    if pixel_format.fourcc in _JPEG:
        return _decode_jpeg(data, pixel_format)
    pixel_bytes, conversion = _PACKED[pixel_format.fourcc]
    height, width = pixel_format.height, pixel_format.width
    row_bytes = max(pixel_format.row_bytes, width * pixel_bytes)
    needed = row_bytes * (height - 1) + width * pixel_bytes
    is_whole = len(data) >= needed
    flat = np.zeros(row_bytes * height, np.uint8)
    there = min(len(data), flat.size)
    flat[:there] = np.frombuffer(data, np.uint8, there)
    rows = flat.reshape(height, row_bytes)[:, : width * pixel_bytes]
    if pixel_bytes == 1:
        return np.ascontiguousarray(rows), is_whole
    pixels = np.ascontiguousarray(rows).reshape(height, width, pixel_bytes)
    image: ByteImage = pixels if conversion is None else cv2.cvtColor(pixels, conversion)
    return image, is_whole


def _decode_jpeg(data: bytes, pixel_format: PictureFormat) -> tuple[ByteImage, bool]:
    # A frame that was cut short decodes to grey; its end tells. Cameras pad with zeros behind it.
    is_whole = data.startswith(b"\xff\xd8") and data.rstrip(b"\0").endswith(b"\xff\xd9")
    image: ByteImage | None = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        return np.zeros((pixel_format.height, pixel_format.width, 3), np.uint8), False
    return image, is_whole
