"""Mask and overlay pictures, written behind the journal in a thread of their own."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import monotonic

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Verdict
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks.base import Follower, PictureNames
from ssn_edge_runtime.sinks.overlay import draw_overlay
from ssn_edge_runtime.sources.base import Frame

PICTURES_FOLDER = "pictures"
JPEG_QUALITY = 90
_POLL_S = 0.1
_CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


class KeepPolicy(Enum):
    """Whose pictures are kept."""

    ALL = "all"
    REJECTS = "rejects"
    """Of every part that did not pass."""
    NONE = "none"


class OverlayFormat(Enum):
    """How overlays are written; masks are always PNG."""

    JPG = "jpg"
    PNG = "png"
    NONE = "none"


class WhenFull(Enum):
    """What happens to a part's pictures when the writer lags behind."""

    SHED = "shed"
    """They are left out and counted: a camera does not wait."""
    WAIT = "wait"
    """The line waits: right for a recording, wrong for a camera."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    names: PictureNames
    frame: Frame
    decision: Decision


class PictureFollower(Follower):
    """Writes ``pictures/<sequence>_<verdict>_mask.png`` and ``..._overlay.jpg``.

    The mask is lossless and in camera coordinates, 255 where there is a defect. A picture that
    cannot be written is logged and counted in `failed`; the journal, not the pictures, is the
    truth. Each appears under its name only when it is whole; they are not synced.

    Args:
        folder: The journal's folder.
        keep: Whose pictures are kept.
        overlay: How overlays are written, if at all.
        when_full: What happens when the writer lags behind.
        depth: Parts that may wait for the writer; each holds its frame in memory.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: KeepPolicy = KeepPolicy.REJECTS,
        overlay: OverlayFormat = OverlayFormat.JPG,
        when_full: WhenFull = WhenFull.SHED,
        depth: int = 8,
    ) -> None:
        if depth < 1:
            raise ConfigError(f"the picture queue holds {depth} parts; at least 1 is needed")
        self._folder = folder
        self._policy = keep
        self._overlay = overlay
        self._when_full = when_full
        self._queue: Queue[_Job] = Queue(depth)
        self._closing = Event()
        self._writer: Thread | None = None
        self._shed = 0
        self._failed = 0

    @property
    def shed(self) -> int:
        """Parts whose pictures were left out because the writer lagged behind."""
        return self._shed

    @property
    def failed(self) -> int:
        """Parts whose pictures could not be written; final after `close`."""
        return self._failed

    def open(self) -> None:
        """Make the folder and start the writer.

        Raises:
            StorageError: The folder cannot be made.
        """
        if self._policy is not KeepPolicy.NONE:
            try:
                (self._folder / PICTURES_FOLDER).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"{self._folder / PICTURES_FOLDER}: cannot be made ({error.strerror})"
                ) from error
        self._closing.clear()
        self._writer = Thread(target=self._write_all, name="ssn-edge-pictures", daemon=True)
        self._writer.start()

    def plan(self, sequence: int, frame: Frame | None, decision: Decision) -> PictureNames:
        """Name the pictures that this part will get; none if it is shed, or not to be kept."""
        if frame is None or not self._keeps(decision) or not _is_drawable(frame.image):
            return PictureNames()
        if not self._has_room():
            self._shed += 1
            return PictureNames()
        stem = f"{PICTURES_FOLDER}/{sequence:09d}_{decision.verdict.value}"
        overlay = self._overlay
        return PictureNames(
            mask=None if decision.mask is None else f"{stem}_mask.png",
            overlay=(None if overlay is OverlayFormat.NONE else f"{stem}_overlay.{overlay.value}"),
        )

    def write(self, record: DecisionRecord, frame: Frame | None, decision: Decision) -> None:
        """Hand the part to the writer, if its record names pictures."""
        self.keep(PictureNames(record.mask, record.overlay), frame, decision)

    def keep(self, names: PictureNames, frame: Frame | None, decision: Decision) -> None:
        """Hand pictures that were planned to the writer; the frame must not change any more."""
        if frame is None or names == PictureNames():
            return
        try:
            # `plan` saw room, and only this thread fills the queue.
            self._queue.put_nowait(_Job(names, frame, decision))
        except Full:
            self._failed += 1
            logger.warning("%s: no room for pictures that were planned", self._folder)

    def close(self) -> None:
        """Write all that is queued, then end the writer."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._closing.set()
        writer.join(_CLOSE_TIMEOUT_S)
        if writer.is_alive():
            logger.warning(
                "%s: the disk is too slow, pictures of %d parts are given up",
                self._folder,
                self._queue.qsize(),
            )
        if self._failed:
            logger.warning("%s: pictures of %d parts are missing", self._folder, self._failed)

    def _keeps(self, decision: Decision) -> bool:
        if self._policy is KeepPolicy.REJECTS:
            return decision.verdict is not Verdict.PASS
        return self._policy is KeepPolicy.ALL

    def _has_room(self) -> bool:
        if self._when_full is WhenFull.WAIT:
            deadline = monotonic() + _CLOSE_TIMEOUT_S
            while self._queue.full() and monotonic() < deadline:
                self._closing.wait(0.005)
        return not self._queue.full()

    def _write_all(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=_POLL_S)
            except Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self._write_pictures(job)
            except StorageError as error:
                self._failed += 1
                log = logger.warning if self._failed == 1 else logger.debug
                log("%s; the line goes on without this picture", error)
            except Exception as error:  # noqa: BLE001 - outermost handler: the next part goes on
                self._failed += 1
                log = logger.exception if self._failed == 1 else logger.debug
                log("pictures %s cannot be written: %s", job.names, error)

    def _write_pictures(self, job: _Job) -> None:
        if job.names.mask is not None:
            mask = job.decision.camera_mask()
            if mask is not None:
                self._write_file(job.names.mask, encode_png(mask.view(np.uint8) * np.uint8(255)))
        if job.names.overlay is not None:
            overlay = draw_overlay(job.frame.image, job.decision)
            encode = encode_png if self._overlay is OverlayFormat.PNG else _encode_jpeg
            self._write_file(job.names.overlay, encode(overlay))

    def _write_file(self, name: str, data: bytes) -> None:
        path = self._folder / name
        unfinished = path.with_name(f".{path.name}.tmp")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):  # half a picture takes the room that the journal needs
                unfinished.unlink()
            raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def _is_drawable(image: ByteImage) -> bool:
    return (
        image.dtype == np.uint8
        and image.size > 0
        and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3))
    )


def _encode_jpeg(picture: ByteImage) -> bytes:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise StorageError(f"a picture of shape {picture.shape} cannot be encoded as JPEG")
    return bytes(data)
