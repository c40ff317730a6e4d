"""Cameras behind a GStreamer pipeline: CSI cameras on Jetson, and whatever else has a plugin."""

from __future__ import annotations

from time import monotonic
from typing import Any

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, SourceError, SsnEdgeError
from ssn_edge_runtime.sources.address import without_password
from ssn_edge_runtime.sources.base import Frame, Source
from ssn_edge_runtime.sources.gi_import import load_typelibs

OPEN_TIMEOUT_S = 10.0
_SLICE_S = 0.1
"""How often the pipeline is asked for errors while no frame comes."""
_SINK = "ssn_edge_sink"
_DEPTH = 1
_DEPTH_TRIGGERED = 4
"""Frames of several triggers may be on their way; a lost one shows as a gap, never in silence."""


class GStreamerSource(Source):
    """Frames of a pipeline that ends in raw video; BGR, or mono where it gives one channel.

    ``videoconvert`` and a sink are added; the sink holds the newest frame only. A pipeline that
    ends or fails is a `SourceError`: it is meant for cameras.

    Whether it is fit for triggers only its maker can know: ``stamps=exposure`` says that the time
    stamps of the first element stand for the exposure's start (or earlier), as those of ``v4l2src``
    do within a frame's period. They are then read on the monotonic clock.

    Args:
        pipeline: In the words of ``gst-launch-1.0``, without a sink.
        stamps: ``exposure``, or None if the time stamps stand for something else.
        name: What records call it; default ``gst:`` and the pipeline.
    """

    is_live = True
    open_timeout_s = OPEN_TIMEOUT_S

    def __init__(
        self, pipeline: str, *, stamps: str | None = None, name: str | None = None
    ) -> None:
        self._text = pipeline
        self._stamps = stamps
        self._name = f"gst:{without_password(pipeline)}" if name is None else name
        self._gst: Any = None
        self._video: Any = None
        self._pipeline: Any = None
        self._sink: Any = None
        self._pending: Any = None
        self._index = 0

    @property
    def name(self) -> str:
        """The pipeline's text."""
        return self._name

    @property
    def tells_exposure(self) -> bool:
        """Whether the address says that the time stamps are those of the exposure."""
        return self._stamps == "exposure"

    def open(self) -> None:
        """Start the pipeline and wait for its first frame.

        Raises:
            ConfigError: The text is no pipeline.
            SourceError: GStreamer is missing, it failed, or gave no frame within `open_timeout_s`.
        """
        self._gst, self._video, _ = load_typelibs("Gst", "GstVideo", "GstApp")
        self._gst.init(None)
        self._pipeline = self._launch()
        try:
            self._sink = self._pipeline.get_by_name(_SINK)
            self._prepare(self._pipeline)
            # PTS and base time then add up to nanoseconds of CLOCK_MONOTONIC.
            clock = self._gst.SystemClock.obtain()
            if self._stamps is not None:
                self._pipeline.use_clock(clock)
            self._pipeline.set_state(self._gst.State.PLAYING)
            self._pending = self._pull(self.open_timeout_s)
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame.

        Raises:
            SourceError: Not open, the pipeline failed or ended, or no frame within the timeout.
        """
        if self._pipeline is None:
            raise SourceError(f"{self.name}: is not open")
        pending, self._pending = self._pending, None
        if pending is not None:
            # The frame that opening waited for may be old by now.
            pending = self._sink.try_pull_sample(0) or pending
        frame = self._frame(pending or self._pull(timeout_s))
        self._index += 1
        return frame

    def close(self) -> None:
        """Stop the pipeline and free what it holds."""
        pipeline, self._pipeline = self._pipeline, None
        self._sink = self._pending = None
        if pipeline is not None:
            pipeline.set_state(self._gst.State.NULL)

    def _prepare(self, pipeline: Any) -> None:
        """A place for those who build on this class to set properties."""

    def _launch(self) -> Any:
        depth = _DEPTH if self._stamps is None else _DEPTH_TRIGGERED
        text = (
            f"{self._text} ! videoconvert ! video/x-raw,format=(string){{BGR,GRAY8}} ! "
            f"appsink name={_SINK} max-buffers={depth} drop=true sync=false"
        )
        try:
            return self._gst.parse_launch(text)
        except Exception as error:
            raise self._not_launched(_glib_text(error)) from error

    def _not_launched(self, why: str) -> SsnEdgeError:
        """The error of a text that GStreamer does not take: its writer's."""
        return ConfigError(f"{self.name}: is no pipeline that GStreamer understands ({why})")

    def _pull(self, timeout_s: float) -> Any:
        # Names of its own: `close` may come from another thread meanwhile.
        sink, bus = self._sink, self._pipeline.get_bus()
        deadline = monotonic() + timeout_s
        while True:
            left_s = deadline - monotonic()
            sample = sink.try_pull_sample(int(max(0.0, min(left_s, _SLICE_S)) * 1e9))
            if sample is not None:
                return sample
            self._raise_failure(bus)
            if self._pipeline is None:
                raise SourceError(f"{self.name}: was closed")
            if left_s <= 0:
                raise SourceError(f"{self.name}: stalled, no frame within {timeout_s:.1f} s")

    def _raise_failure(self, bus: Any) -> None:
        kinds = self._gst.MessageType.ERROR | self._gst.MessageType.EOS
        message = bus.pop_filtered(kinds)
        if message is None:
            return
        if message.type == self._gst.MessageType.EOS:
            raise SourceError(f"{self.name}: the pipeline ended")
        error, _debug = message.parse_error()
        raise SourceError(f"{self.name}: {_glib_text(error)}")

    def _frame(self, sample: Any) -> Frame:
        gst, buffer = self._gst, sample.get_buffer()
        exposed_ns = frame_id = None
        if self._stamps is not None and buffer.pts != gst.CLOCK_TIME_NONE:
            exposed_ns = buffer.pts + self._pipeline.get_base_time()
            frame_id = None if buffer.offset == gst.BUFFER_OFFSET_NONE else buffer.offset
        return Frame.taken_now(
            self._image(sample, buffer),
            source=self.name,
            index=self._index,
            exposed_monotonic_ns=exposed_ns,
            frame_id=frame_id,
            is_incomplete=buffer.has_flags(gst.BufferFlags.CORRUPTED),
        )

    def _image(self, sample: Any, buffer: Any) -> ByteImage:
        info = self._video.VideoInfo.new_from_caps(sample.get_caps())
        meta = self._video.buffer_get_video_meta(buffer)
        stride = meta.stride[0] if meta is not None else info.stride[0]
        channels = 1 if info.finfo.name == "GRAY8" else 3
        ok, mapped = buffer.map(self._gst.MapFlags.READ)
        if not ok:
            raise SourceError(f"{self.name}: the frame's memory cannot be read")
        try:
            flat = np.frombuffer(mapped.data, np.uint8)
            rows = np.lib.stride_tricks.as_strided(
                flat, (info.height, info.width * channels), (stride, 1), writeable=False
            )
            if flat.size < stride * (info.height - 1) + info.width * channels:
                raise SourceError(f"{self.name}: a frame is shorter than its caps say")
            image: ByteImage = rows.copy()
        finally:
            buffer.unmap(mapped)
        return image if channels == 1 else image.reshape(info.height, info.width, 3)


def _glib_text(error: object) -> str:
    return str(getattr(error, "message", error)).strip()
