"""A video file as a recorded line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources.base import Frame, Source

if TYPE_CHECKING:
    from ssn_edge_runtime.sources.v4l2 import Capture

logger = logging.getLogger(__name__)


class VideoFileSource(Source):
    """The frames of a video, in order, all of them, BGR.

    A rotation flag in the file is not applied: a camera has none. The decoder passes over what it
    cannot decode, so a frame count below the one in the file's header is logged as a warning.
    """

    is_live = False
    tells_exposure = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture: Capture | None = None
        self._index = 0

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self._path)

    def open(self) -> None:
        """Open the file.

        Raises:
            SourceError: Missing, or not a video that can be decoded here.
        """
        if not self._path.is_file():
            raise SourceError(f"{self._path}: there is no such file")
        self._index = 0
        # The absolute path, so that no name is taken for an address ("concat:...").
        self._capture = cv2.VideoCapture(str(self._path.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self.close()
            raise SourceError(f"{self._path}: cannot be opened as a video; is it whole?")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)

    def read(self, timeout_s: float) -> Frame | None:
        """Decode the next frame; a recording knows no timeout.

        Raises:
            SourceError: Not open, the decoder failed, or not one frame could be decoded.
        """
        if self._capture is None:
            raise SourceError(f"{self._path}: is not open")
        try:
            ok, image = self._capture.read()
        except cv2.error as error:
            raise SourceError(
                f"{self._path}: frame {self._index} cannot be decoded ({error})"
            ) from error
        if not ok or image is None:
            self._check_end(self._capture)
            return None
        frame = Frame.taken_now(image, source=self.name, index=self._index)
        self._index += 1
        return frame

    def _check_end(self, capture: Capture) -> None:
        if self._index == 0:
            raise SourceError(f"{self._path}: holds no frame that can be decoded here")
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self._index < stated:
            logger.warning(
                "%s: ended after %d frames, its header states %d; it may be cut short or damaged",
                self._path,
                self._index,
                stated,
            )

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
