"""A request's body to a frame: raw pixels as they are, or a picture that is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import PictureError
from ssn_edge_runtime.pictures import decode_picture
from ssn_edge_runtime.server.answers import Refusal

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_BMP = b"BM"
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header, which holds its size."""
_JPEG_BARE = {0x01, *range(0xD0, 0xDA)}
"""Markers without a length."""


@dataclass(frozen=True, slots=True)
class RawShape:
    """Of a raw frame: rows, columns, and 1 (mono) or 3 (BGR) channels."""

    height: int
    width: int
    channels: int

    @property
    def size_bytes(self) -> int:
        """How long the body must be."""
        return self.height * self.width * self.channels


def frame_of_pixels(body: ByteImage, shape: RawShape) -> ByteImage:
    """View a body of `shape.size_bytes` as (H, W, 3) or (H, W) uint8; nothing is copied."""
    if shape.channels == 1:
        return body.reshape(shape.height, shape.width)
    return body.reshape(shape.height, shape.width, shape.channels)


def frame_of_picture(body: ByteImage, *, max_pixels: int) -> ByteImage:
    """Decode a PNG, JPEG or BMP.

    Raises:
        Refusal: Another format, too large, or cannot be decoded.
    """
    data = body.tobytes()
    size_hw = picture_size_hw(data)
    if size_hw is None:
        raise Refusal(415, Reason.BAD_FRAME, "the body is no PNG, JPEG or BMP")
    # Before decoding: a small file can claim a picture that fills the memory.
    if size_hw[0] * size_hw[1] > max_pixels:
        raise Refusal(
            413,
            Reason.BAD_FRAME,
            f"the picture has {size_hw[1]} x {size_hw[0]} pixels, at most {max_pixels} are taken",
        )
    try:
        return decode_picture(data, "the picture")
    except PictureError as error:
        raise Refusal(422, Reason.BAD_FRAME, str(error)) from error


def picture_size_hw(data: bytes) -> tuple[int, int] | None:
    """Height and width that a PNG, JPEG or BMP claims; None where there is no such claim."""
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if data.startswith(_BMP):
            width, height = struct.unpack_from("<ii", data, 18)
            return abs(height), abs(width)  # a negative height means rows from the top down
        if data.startswith(_JPEG):
            return _jpeg_size_hw(data)
    except (struct.error, IndexError):
        pass
    return None


def _jpeg_size_hw(data: bytes) -> tuple[int, int] | None:
    place = len(_JPEG)
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
