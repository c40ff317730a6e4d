"""The pictures that the page shows, drawn once for all viewers."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import PictureError
from ssn_edge_runtime.line.live_picture import LivePicture, LiveViewer
from ssn_edge_runtime.pictures import decode_picture
from ssn_edge_runtime.sinks.overlay import draw_heat, draw_outline
from ssn_edge_runtime.sinks.pictures import PICTURES_FOLDER

JPEG_QUALITY = 85
THUMBNAIL_PX = 320
THUMBNAILS_KEPT = 64
LARGEST_FILE_BYTES = 32 * 2**20
_OVERLAY = re.compile(PICTURES_FOLDER + r"/[0-9]{9,18}_(pass|fail|unknown)_overlay\.(jpg|png)")


class LiveImages:
    """The last part as JPEG, plain and with what was found; safe from several threads.

    Args:
        viewer: Reads what the line lays out.
    """

    def __init__(self, viewer: LiveViewer) -> None:
        self._viewer = viewer
        self._lock = threading.Lock()
        self._images: dict[str, bytes] = {}
        self._about: dict[str, object] | None = None
        self._version = 0

    def look(self) -> bool:
        """Draw the newest picture, if there is a newer one; whether there was."""
        picture = self._viewer.newest()
        if picture is None:
            return False
        try:
            images = {"frame": _jpeg(_coloured(picture.frame)), "overlay": _jpeg(drawn(picture))}
        except (cv2.error, ValueError):
            return False
        with self._lock:
            self._version += 1
            self._images = images
            self._about = {
                "version": self._version,
                "sequence": picture.sequence,
                "camera": picture.camera,
                "width": picture.frame.shape[1],
                "height": picture.frame.shape[0],
                "has_map": picture.anomaly_map is not None,
            }
        return True

    def somebody_looks(self) -> None:
        """Ask the line for pictures."""
        self._viewer.somebody_looks()

    @property
    def about(self) -> dict[str, object] | None:
        """What the picture shows; None before the first."""
        with self._lock:
            return None if self._about is None else dict(self._about)

    def get(self, layer: str) -> bytes | None:
        """A JPEG: ``frame`` or ``overlay``."""
        with self._lock:
            return self._images.get(layer)


class RejectImages:
    """Overlays that the line kept, whole and small; safe from several threads.

    Args:
        folder: Of the journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._small: OrderedDict[str, bytes] = OrderedDict()

    def is_there(self, name: str | None) -> bool:
        """Whether a named overlay was written: the line does that behind its verdicts."""
        return name is not None and (self._folder / name).is_file()

    def whole(self, name: str) -> tuple[bytes, str] | None:
        """A kept overlay and its media type; None where there is none.

        Args:
            name: As a record spells it; anything but the name of an overlay is none.
        """
        if not _OVERLAY.fullmatch(name):
            return None
        path = self._folder / name
        try:
            if path.is_symlink() or path.stat().st_size > LARGEST_FILE_BYTES:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        if data.startswith(b"\xff\xd8"):
            return data, "image/jpeg"
        return (data, "image/png") if data.startswith(b"\x89PNG") else None

    def small(self, name: str) -> bytes | None:
        """The same as a JPEG for a gallery."""
        with self._lock:
            if (kept := self._small.get(name)) is not None:
                self._small.move_to_end(name)
                return kept
        whole = self.whole(name)
        if whole is None:
            return None
        try:
            picture: ByteImage = _coloured(decode_picture(whole[0], name))
            scale = min(1.0, THUMBNAIL_PX / max(picture.shape[:2]))
            size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
            data = _jpeg(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        except (PictureError, cv2.error, ValueError):
            return None
        with self._lock:
            self._small[name] = data
            while len(self._small) > THUMBNAILS_KEPT:
                self._small.popitem(last=False)
        return data


def drawn(picture: LivePicture) -> ByteImage:
    """A live picture with heat and outline, (H, W, 3) BGR uint8, a new array."""
    canvas: ByteImage = _coloured(picture.frame).copy()
    x, y, width, height = picture.region_xywh
    region = canvas[y : y + height, x : x + width]
    if region.size == 0 or picture.anomaly_map is None or picture.pixel_threshold is None:
        return canvas
    draw_heat(region, picture.anomaly_map, picture.pixel_threshold)
    if picture.mask is not None:
        size = (region.shape[1], region.shape[0])
        mask = np.zeros(canvas.shape[:2], dtype=np.bool_)
        mask[y : y + height, x : x + width] = cv2.resize(
            picture.mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST
        ).astype(np.bool_)
        draw_outline(canvas, mask)
    return canvas


def _coloured(frame: ByteImage) -> ByteImage:
    if frame.ndim == 2:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return frame


def _jpeg(picture: ByteImage) -> bytes:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise ValueError("cannot be encoded")
    return bytes(data)
