"""Industrial cameras by GenICam (GigE Vision, USB3 Vision), through Aravis."""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic, monotonic_ns
from typing import Any

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.sources.base import Frame, NoFrameYet, Source
from ssn_edge_runtime.sources.device_clock import DeviceClock
from ssn_edge_runtime.sources.frame_counter import FrameCounter
from ssn_edge_runtime.sources.genicam_settings import (
    apply_settings,
    glib_text,
    modern_name,
    note_settings,
)
from ssn_edge_runtime.sources.gi_import import load_typelibs
from ssn_edge_runtime.sources.options import SourceOptions, TriggerMode

BUFFERS = 8
SOCKET_BUFFER_BYTES = 8 * 1024 * 1024
TRIGGER_FORGOTTEN_NS = 1_000_000_000
_SLICE_US = 100_000
_SLOWEST_PERIOD_NS = 100_000_000
"""What reading a sensor out takes at most, where the camera does not tell its rate."""

# Bayer names say which pixels come first in the first two rows; OpenCV's name the second row's (it
# has names like these, too, but not yet in the 4.5.4 of Ubuntu 22.04).
_TO_BGR = {
    "RGB8": cv2.COLOR_RGB2BGR,
    "BayerRG8": cv2.COLOR_BayerBG2BGR,
    "BayerGR8": cv2.COLOR_BayerGB2BGR,
    "BayerGB8": cv2.COLOR_BayerGR2BGR,
    "BayerBG8": cv2.COLOR_BayerRG2BGR,
}
logger = logging.getLogger(__name__)


class GenicamSource(Source):
    """A GenICam camera with its settings, exposure times and frame numbers.

    Settings are written, read back, and what the camera does not take is an error that says what it
    offers. On the first opening size, format, rate, exposure and gain are noted, also those that
    nobody asked for, and a camera that comes back is set to them again. A frame whose packets are
    not all there is `is_incomplete`.

    Args:
        camera: Name, serial number or address; empty for the first one found.
        options: Width, height, format, fps, exposure, gain, packet_size, trigger, line.
    """

    is_live = True

    def __init__(self, camera: str, options: SourceOptions = SourceOptions()) -> None:  # noqa: B008
        self._id = camera
        self._options = options
        self._wanted = options
        self._aravis: Any = None
        self._camera: Any = None
        self._stream: Any = None
        self._is_lost = False
        self._was_open = False
        self._tells = True
        self._counter = FrameCounter(64)
        self._clock = DeviceClock(_SLOWEST_PERIOD_NS)
        self._format = ""
        self._size = (0, 0)
        self._index = 0
        self._triggered_ns: deque[int] = deque()

    @property
    def name(self) -> str:
        """As the address names it."""
        return f"genicam:{self._id}" if self._id else "genicam"

    @property
    def tells_exposure(self) -> bool:
        """True, unless the camera turned out to have no time stamps."""
        return self._tells

    def open(self) -> None:
        """Find the camera, set it up and start it; the frame index goes on where it was.

        Raises:
            ConfigError: The camera does not take a setting.
            SourceError: Aravis is missing, no such camera (the message lists those there are), or
                it is in use.
        """
        (aravis,) = load_typelibs("Aravis")
        self._aravis = aravis
        try:
            try:
                self._camera = aravis.Camera.new(self._id or None)
            except Exception as error:  # GLib.Error, whose class is known only with gi
                raise SourceError(
                    f"{self.name}: cannot be opened ({glib_text(error)}); "
                    f"{_cameras_there_are(aravis)}"
                ) from error
            self._set_up()
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame.

        Raises:
            NoFrameYet: Its trigger did not come within the timeout.
            SourceError: Not open, lost, or a camera that runs freely gave nothing in time.
        """
        stream = self._stream  # `close` may come from another thread meanwhile
        if stream is None:
            raise SourceError(f"{self.name}: is not open")
        deadline = monotonic() + timeout_s
        while True:
            left_us = int((deadline - monotonic()) * 1e6)
            buffer = stream.timeout_pop_buffer(max(0, min(_SLICE_US, left_us)))
            arrived_ns = monotonic_ns()
            if buffer is not None:
                try:
                    frame = self._frame(buffer, arrived_ns)
                finally:
                    stream.push_buffer(buffer)
                if frame is not None:
                    self._index += 1
                    return frame
            if self._is_lost:
                raise SourceError(f"{self.name}: the camera does not answer any more")
            if left_us <= 0:
                if self._options.trigger is not TriggerMode.OFF:
                    raise NoFrameYet(f"{self.name}: no trigger within {timeout_s:.1f} s")
                raise SourceError(f"{self.name}: stalled, no frame within {timeout_s:.1f} s")

    def trigger_now(self) -> int:
        """Expose one frame, with ``trigger=software``.

        Returns:
            The monotonic clock just before the command went out: the exposure is later.

        Raises:
            ConfigError: The camera is not set up for it.
            SourceError: Not open, or the camera does not answer.
        """
        if self._options.trigger is not TriggerMode.SOFTWARE:
            raise ConfigError(f"{self.name}: is not triggered by software; use trigger=software")
        if self._camera is None:
            raise SourceError(f"{self.name}: is not open")
        triggered_ns = monotonic_ns()
        self._triggered_ns.append(triggered_ns)
        try:
            self._camera.software_trigger()
        except Exception as error:  # GLib.Error
            raise SourceError(f"{self.name}: cannot be triggered ({glib_text(error)})") from error
        return triggered_ns

    def close(self) -> None:
        """Stop the camera and let it go."""
        camera, self._camera = self._camera, None
        self._stream = None
        if camera is not None:
            try:
                camera.stop_acquisition()
                if camera.is_gv_device():
                    # Not left to the last reference: an error that is kept would keep the camera.
                    camera.get_device().leave_control()
            except Exception as error:  # noqa: BLE001 - GLib.Error; a lost camera cannot be stopped
                logger.debug("%s: %s", self.name, glib_text(error))

    def _set_up(self) -> None:
        aravis, camera = self._aravis, self._camera
        is_gige = camera.is_gv_device()
        try:
            apply_settings(aravis, camera, self._wanted, self.name)
            if is_gige:
                # The kernel's own sockets see loopback, and need no privilege.
                camera.gv_set_stream_options(aravis.GvStreamOption.PACKET_SOCKET_DISABLED)
                if self._wanted.packet_size is not None:
                    camera.gv_set_packet_size(self._wanted.packet_size)
                    found = camera.gv_get_packet_size()
                    if found != self._wanted.packet_size:
                        raise ConfigError(
                            f"{self.name}: packet_size={self._wanted.packet_size} is not taken; "
                            f"the camera sends {found} bytes"
                        )
            self._wanted = note_settings(aravis, camera, self._wanted)
            self._format = modern_name(camera.get_pixel_format_as_string())
            self._size = tuple(camera.get_region())[2:]
            self._is_lost = False
            self._triggered_ns.clear()
            camera.get_device().connect("control-lost", self._on_lost)
            # GigE Vision 1 counts in 16 bits and leaves out 0; others in 64.
            self._counter = FrameCounter(16, skips_zero=True) if is_gige else FrameCounter(64)
            self._clock = DeviceClock(self._least_delay_ns(camera))
            self._stream = self._start_stream(is_gige=is_gige)
            camera.set_acquisition_mode(aravis.AcquisitionMode.CONTINUOUS)
            camera.start_acquisition()
            self._was_open = True
        except ConfigError as error:
            if self._was_open:  # another camera came back under its name, or half of this one
                raise SourceError(str(error)) from error
            raise
        except SourceError:
            raise
        except Exception as error:  # GLib.Error
            raise SourceError(f"{self.name}: cannot be set up ({glib_text(error)})") from error

    def _start_stream(self, *, is_gige: bool) -> Any:
        stream = self._camera.create_stream(None, None)
        if stream is None:
            raise SourceError(f"{self.name}: gives no stream")
        if is_gige:
            stream.set_property("socket-buffer", self._aravis.GvStreamSocketBuffer.FIXED)
            stream.set_property("socket-buffer-size", SOCKET_BUFFER_BYTES)
        payload = self._camera.get_payload()
        for _ in range(BUFFERS):
            stream.push_buffer(self._aravis.Buffer.new_allocate(payload))
        return stream

    def _least_delay_ns(self, camera: Any) -> int:
        """Exposure, readout and transfer of a frame: each of the last two fits a frame's period."""
        exposure_ns = period_ns = 0
        try:
            if camera.is_exposure_time_available():
                exposure_ns = int(camera.get_exposure_time() * 1e3)
            if camera.is_frame_rate_available():
                rate = camera.get_frame_rate()
                period_ns = int(1e9 / rate) if rate > 0 else 0
        except Exception as error:  # noqa: BLE001 - GLib.Error; then the bound is the widest
            logger.debug("%s: %s", self.name, glib_text(error))
        return exposure_ns + 2 * (min(period_ns, _SLOWEST_PERIOD_NS) or _SLOWEST_PERIOD_NS)

    def _frame(self, buffer: Any, arrived_ns: int) -> Frame | None:
        status = buffer.get_status()
        if status in (self._aravis.BufferStatus.ABORTED, self._aravis.BufferStatus.CLEARED):
            return None  # handed back at a stop: nothing was exposed
        is_whole = status == self._aravis.BufferStatus.SUCCESS
        stamp_ns = buffer.get_timestamp()
        if is_whole and not stamp_ns:
            self._tells = False
        image = self._image(buffer, is_whole=is_whole)
        return Frame.taken_now(
            image,
            source=self.name,
            index=self._index,
            exposed_monotonic_ns=self._exposed_ns(stamp_ns, arrived_ns),
            frame_id=self._counter.running(buffer.get_frame_id()),
            is_incomplete=not is_whole,
        )

    def _exposed_ns(self, stamp_ns: int, arrived_ns: int) -> int | None:
        if not stamp_ns:
            return None
        exposed_ns = self._clock.exposed_ns(stamp_ns, arrived_ns)
        # Each frame needs a trigger of its own, so this one came no sooner than the oldest that
        # waits for its frame: two lower bounds, of which the later holds. A trigger that the camera
        # passed over is forgotten after a while.
        waiting = self._triggered_ns
        while waiting and arrived_ns - waiting[0] > TRIGGER_FORGOTTEN_NS:
            waiting.popleft()
        return max(exposed_ns, waiting.popleft()) if waiting else exposed_ns

    def _image(self, buffer: Any, *, is_whole: bool) -> ByteImage:
        channels = 3 if modern_name(self._format) in ("RGB8", "BGR8") else 1
        raw: ByteImage = np.frombuffer(buffer.get_data(), np.uint8)
        width, height = self._size
        if is_whole:
            width, height = buffer.get_image_width(), buffer.get_image_height()
        size = width * height * channels
        if raw.size < size:
            if is_whole:
                raise SourceError(f"{self.name}: a frame is shorter than its size says")
            raw = np.zeros(size, np.uint8)  # its first packet was lost, and with it the size
        image = raw[:size].reshape((height, width) if channels == 1 else (height, width, channels))
        conversion = _TO_BGR.get(modern_name(self._format))
        if conversion is None:
            plain: ByteImage = image.copy()
            return plain
        converted: ByteImage = cv2.cvtColor(image, conversion)
        return converted

    def _on_lost(self, _device: Any) -> None:
        self._is_lost = True


def _cameras_there_are(aravis: Any) -> str:
    aravis.update_device_list()
    found = [aravis.get_device_id(number) for number in range(aravis.get_n_devices())]
    return "there are " + ", ".join(found) if found else "no camera answers at all"
