"""A camera of Video4Linux with its settings, time stamps and frame numbers, through linuxpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources.base import Frame, Source
from ssn_edge_runtime.sources.frame_counter import FrameCounter
from ssn_edge_runtime.sources.options import SourceOptions
from ssn_edge_runtime.sources.v4l2 import devices_there_are
from ssn_edge_runtime.sources.v4l2_device import (
    EXPOSURE_ABSOLUTE,
    DriverBuffer,
    LinuxpyDevice,
    Stamps,
    V4l2Device,
)
from ssn_edge_runtime.sources.v4l2_pixels import decode
from ssn_edge_runtime.sources.v4l2_settings import (
    EXPOSURE_UNIT_US,
    V4l2Settings,
    apply_settings,
    restore_settings,
)

CLOSE_TIMEOUT_S = 1.0
_SLOWEST_PERIOD_NS = 100_000_000
"""What reading a sensor out takes at most, where the driver does not tell its rate."""


class KernelV4l2Source(Source):
    """A free-running V4L2 camera; frames are BGR, or mono where the driver gives one channel.

    Settings are written, read back, and what the camera does not take is an error that says what it
    offers. On the first opening all settings are noted, also those that nobody asked for; a camera
    that comes back is set to them again, and it is an error if it then gives something else.

    `exposed_monotonic_ns` is the driver's stamp. Most drivers stamp the end of a frame: then its
    exposure and one frame's period for the readout are taken off, so that a frame may seem too old
    for its trigger, never too young.

    Args:
        device: Device file, such as ``/dev/video0``.
        options: Width, height, format, fps, exposure, gain.
        open_device: Opens the device file.
    """

    is_live = True

    def __init__(
        self,
        device: str,
        options: SourceOptions = SourceOptions(),  # noqa: B008 - frozen
        *,
        open_device: Callable[[str], V4l2Device] = LinuxpyDevice,
    ) -> None:
        self._path = device
        self._options = options
        self._open_device = open_device
        self._device: V4l2Device | None = None
        self._settings: V4l2Settings | None = None
        self._stamps = Stamps(is_monotonic=False, is_start_of_exposure=False)
        self._counter = FrameCounter(32)
        self._reading = Lock()
        self._index = 0

    @property
    def name(self) -> str:
        """The device file."""
        return self._path

    @property
    def tells_exposure(self) -> bool:
        """Whether the driver stamps by the monotonic clock; known once it is open."""
        return self._stamps.is_monotonic

    @property
    def settings(self) -> V4l2Settings | None:
        """What the camera was set to on the first opening."""
        return self._settings

    def open(self) -> None:
        """Open the device, set it up and start it; the frame index goes on where it was.

        Raises:
            ConfigError: The camera does not take a setting.
            SourceError: There is no such device (the message lists those there are), it cannot be
                opened, or it came back with other settings.
        """
        if not Path(self._path).exists():
            raise SourceError(f"{self._path}: there is no such camera; {devices_there_are()}")
        try:
            self._device = self._open_device(self._path)
            if self._settings is None:
                self._settings = apply_settings(self._device, self._options, self._path)
            else:
                restore_settings(self._device, self._settings, self._path)
            self._stamps = self._device.start()
            self._counter = FrameCounter(32)
        except OSError as error:
            self.close()
            raise SourceError(
                f"{self._path}: cannot be opened as a camera ({error.strerror}); another program "
                "may hold it, or this user may not (group video)"
            ) from error
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame.

        Raises:
            SourceError: Not open, unplugged, or no frame within the timeout.
        """
        with self._reading:
            if self._device is None:
                raise SourceError(f"{self._path}: is not open")
            try:
                taken = self._device.take(timeout_s)
            except OSError as error:
                raise SourceError(
                    f"{self._path}: gave no frame ({error.strerror}); is the camera still "
                    "connected?"
                ) from error
        if taken is None:
            raise SourceError(f"{self._path}: stalled, no frame within {timeout_s:.1f} s")
        frame = self._frame(taken)
        self._index += 1
        return frame

    def close(self) -> None:
        """Stop the camera and let it go."""
        if self._reading.acquire(timeout=CLOSE_TIMEOUT_S):
            device, self._device = self._device, None
            self._reading.release()
            if device is not None:
                device.close()

    def _frame(self, taken: DriverBuffer) -> Frame:
        assert self._settings is not None
        image, is_whole = decode(taken.data, self._settings.pixel_format)
        return Frame.taken_now(
            image,
            source=self._path,
            index=self._index,
            exposed_monotonic_ns=self._exposed_ns(taken.stamp_ns),
            frame_id=self._counter.running(taken.sequence),
            is_incomplete=taken.is_error or not is_whole,
        )

    def _exposed_ns(self, stamp_ns: int) -> int | None:
        assert self._settings is not None
        if not self._stamps.is_monotonic:
            return None
        if self._stamps.is_start_of_exposure:
            return stamp_ns
        rate = self._settings.fps
        period_ns = _SLOWEST_PERIOD_NS if not rate else min(int(1e9 / rate), _SLOWEST_PERIOD_NS)
        units = dict(self._settings.controls).get(EXPOSURE_ABSOLUTE)
        # An automatic exposure cannot be longer than the time between two frames.
        exposure_ns = period_ns if units is None else units * EXPOSURE_UNIT_US * 1_000
        return stamp_ns - period_ns - exposure_ns
