"""A camera of Video4Linux, through OpenCV: where linuxpy is not installed.

Without settings, exposure times and frame numbers; `v4l2_kernel.py` has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Protocol, TypeAlias

import cv2

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources.base import Frame, Source

DEVICES_FOLDER = Path("/dev")
CLOSE_TIMEOUT_S = 1.0
"""How long `close` waits for a `read` in the driver, before it leaves the device to it."""


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`; tests bring their own."""

    def isOpened(self) -> bool:
        """Whether the device could be opened."""
        ...

    def read(self) -> tuple[bool, ByteImage | None]:
        """Wait for a frame; False if there is none."""
        ...

    def get(self, prop: int) -> float:
        """A property by its OpenCV number."""
        ...

    def set(self, prop: int, value: float) -> bool:
        """Set a property; False if the device does not know it."""
        ...

    def release(self) -> None:
        """Close the device."""
        ...


CaptureFactory: TypeAlias = Callable[[str], Capture]


def capture_from_device(device: str) -> Capture:
    """Open a device file with OpenCV's V4L2 backend, and no other."""
    capture: Capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    return capture


class V4l2Source(Source):
    """A free-running V4L2 camera; frames are BGR, or mono where the driver gives one channel.

    OpenCV waits up to ten seconds in the driver for a frame and cannot be interrupted there, so a
    stall is seen by the loop's clock, and this source only refuses the late frame.

    Args:
        device: Device file, such as ``/dev/video0``, or its number.
        capture_factory: Opens the device file.
    """

    is_live = True
    tells_exposure = False

    def __init__(
        self, device: str | int, *, capture_factory: CaptureFactory = capture_from_device
    ) -> None:
        text = str(device)
        self._device = str(DEVICES_FOLDER / f"video{int(text)}") if text.isdecimal() else text
        self._capture_factory = capture_factory
        self._capture: Capture | None = None
        self._reading = Lock()
        self._index = 0

    @property
    def name(self) -> str:
        """The device file."""
        return self._device

    def open(self) -> None:
        """Open the device; the frame index goes on where it was.

        Raises:
            SourceError: There is no such device (the message lists those there are), or it cannot
                be opened.
        """
        if not Path(self._device).exists():
            raise SourceError(f"{self._device}: there is no such camera; {devices_there_are()}")
        try:
            capture = self._capture_factory(self._device)
        except cv2.error as error:
            raise SourceError(f"{self._device}: cannot be opened ({error})") from error
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{self._device}: cannot be opened as a camera; another program may hold it, or "
                "this user may not (group video)"
            )
        # One buffer: a longer queue only hands out older frames. Not every driver obeys.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame.

        Raises:
            SourceError: Not open, no frame, or it came later than the timeout.
        """
        started = monotonic()
        with self._reading:
            if self._capture is None:
                raise SourceError(f"{self._device}: is not open")
            try:
                ok, image = self._capture.read()
            except cv2.error as error:
                raise SourceError(f"{self._device}: reading failed ({error})") from error
        waited_s = monotonic() - started
        if not ok or image is None:
            raise SourceError(f"{self._device}: gave no frame; is the camera still connected?")
        if waited_s > timeout_s:
            raise SourceError(
                f"{self._device}: stalled, a frame took {waited_s:.1f} s, the limit is "
                f"{timeout_s:.1f} s"
            )
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[:, :, 0]
        frame = Frame.taken_now(image, source=self._device, index=self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Release the device, unless a read still waits in the driver: releasing would crash."""
        if self._reading.acquire(timeout=CLOSE_TIMEOUT_S):
            try:
                if self._capture is not None:
                    self._capture.release()
            finally:
                self._capture = None
                self._reading.release()


def devices_there_are() -> str:
    """What cameras this machine has, for the end of a message."""
    numbers = sorted(
        int(match[1])
        for path in DEVICES_FOLDER.glob("video*")
        if (match := re.fullmatch(r"video(\d+)", path.name))
    )
    if not numbers:
        return "this machine has no video device at all: check the cable and the driver"
    return "there are " + ", ".join(f"{DEVICES_FOLDER}/video{number}" for number in numbers)
