"""Picture files to frames and back: one reader for data sets, recordings and golden pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import PictureError, StorageError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Files that count as pictures, in lower case."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"


def read_picture(path: Path) -> ByteImage:
    """Read a picture file as a camera would have given it.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP.

    Returns:
        (H, W, 3) uint8 BGR, or (H, W) uint8 for a grey picture. An alpha channel that is opaque
        everywhere is dropped. The orientation flag of a JPEG is not applied: a camera has none.

    Raises:
        PictureError: Missing, unreadable, cut short, not 8 bit, or with real transparency.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_picture(data, str(path))


def decode_picture(data: bytes, name: str) -> ByteImage:
    """Decode an encoded picture; `name` is what an error calls it. See `read_picture`.

    Raises:
        PictureError: Unreadable, cut short, not 8 bit, or with real transparency.
    """
    if not data:
        raise PictureError(f"{name}: is empty")
    if is_cut_short(data):
        # OpenCV fills the missing rows of a JPEG with grey and says nothing.
        raise PictureError(f"{name}: is cut short, its end is missing; copy the file again")
    try:
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise PictureError(f"{name}: cannot be decoded as a picture") from error
    if picture is None:
        raise PictureError(f"{name}: cannot be decoded as a picture")
    if picture.dtype != np.uint8:
        raise PictureError(
            f"{name}: has {8 * picture.dtype.itemsize} bits a channel, 8 are needed; convert it "
            "with the scaling that your camera driver uses"
        )
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if picture.ndim == 3 and picture.shape[2] == 4:
        if int(picture[:, :, 3].min()) < 255:
            raise PictureError(f"{name}: has transparent pixels; flatten it onto its background")
        picture = picture[:, :, :3]
    if picture.ndim == 3 and picture.shape[2] != 3:
        raise PictureError(f"{name}: has {picture.shape[2]} channels; save it as grey or colour")
    return np.ascontiguousarray(picture)


def is_cut_short(data: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end; other formats are left to the decoder."""
    if data.startswith(_PNG_START):
        return _PNG_END not in data[-64:]
    if data.startswith(_JPEG_START):
        # No end marker occurs inside coded data, and a thumbnail's comes before the last scan.
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)
    return False


def encode_png(picture: ByteImage, *, compression: int = 1) -> bytes:
    """Encode (H, W) or (H, W, 3) BGR uint8 as PNG, without loss; compression 0 to 9.

    Raises:
        StorageError: Not such an array, or empty.
    """
    # OpenCV encodes another type as bytes after a warning, which is not without loss; and with
    # one channel or four, another shape or other pixels come back.
    is_picture = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if is_picture and picture.dtype == np.uint8 and picture.size > 0:
        ok, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, compression])
        if ok:
            return bytes(data)
    raise StorageError(
        f"a {picture.dtype} picture of shape {picture.shape} cannot be encoded as PNG"
    )
