"""Network cameras by RTSP: for watching, not for one part's verdict at its trigger."""

from __future__ import annotations

import logging
from typing import Any

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.sources.address import without_password
from ssn_edge_runtime.sources.gstreamer import GStreamerSource
from ssn_edge_runtime.sources.missing_library import missing_library

LATENCY_MS = 100
"""How long packets wait for those that were overtaken."""
SERVER_TIMEOUT_US = 5_000_000

logger = logging.getLogger(__name__)


class RtspSource(GStreamerSource):
    """The newest frame of an RTSP stream, BGR; H.264 is what it was tried with.

    Its frames do not say when they were exposed, so it is refused for triggered use.

    After a lost packet nothing is given until a key frame has come whole: a frame that builds on a
    damaged one looks sound to a decoder, and is not. What is not seen: bits that changed within a
    packet that arrived, and what the camera's own encoder left out.

    Args:
        url: ``rtsp://`` or ``rtsps://``; a password in it shows in no record and no message.
        transport: ``tcp``, or ``udp``: fresher where packets get lost, with more gaps.
    """

    open_timeout_s = 20.0
    """The first frame, which may have begun before we came, is not trusted; some cameras send a key
    frame every ten seconds only."""

    def __init__(self, url: str, *, transport: str = "tcp") -> None:
        self._url = url
        self._gap_pts: int | None = None
        self.withheld = 0
        """Frames that were not given because of lost packets."""
        super().__init__(
            f"rtspsrc name=ssn_edge_camera protocols={transport} latency={LATENCY_MS} "
            f"timeout={SERVER_TIMEOUT_US} tcp-timeout={SERVER_TIMEOUT_US} "
            "ssn_edge_camera. ! application/x-rtp,media=video ! decodebin",
            name=without_password(url),
        )

    def _not_launched(self, why: str) -> SsnEdgeError:
        # The text is ours: what GStreamer does not know of it is not installed.
        packages = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
        return missing_library(self.name, f"GStreamer's plugins ({why})", f"apt install {packages}")

    def _prepare(self, pipeline: Any) -> None:
        self._gap_pts = None
        # Not in the pipeline's text, where a blank or an exclamation mark would mean something.
        pipeline.get_by_name("ssn_edge_camera").set_property("location", self._url)
        pipeline.connect("deep-element-added", self._on_element)

    def _on_element(self, _pipeline: Any, _bin: Any, element: Any) -> None:
        kind = element.get_metadata("klass") or ""
        if "Depayloader" in kind:
            element.get_static_pad("sink").add_probe(self._gst.PadProbeType.BUFFER, self._on_packet)
        elif "Decoder" in kind and "Video" in kind:
            element.get_static_pad("sink").add_probe(self._gst.PadProbeType.BUFFER, self._on_coded)
            if element.find_property("output-corrupt") is not None:
                element.set_property("output-corrupt", False)

    def _on_packet(self, _pad: Any, info: Any) -> Any:
        """A packet on its way into the depacketiser: is one missing before it?"""
        buffer = info.get_buffer()
        if buffer.has_flags(self._gst.BufferFlags.DISCONT):
            if self._gap_pts is None:
                logger.debug("%s: a packet is missing", self.name)
            # All packets of a frame have one time stamp. What is missing belongs to this packet's
            # frame or to one before it, and those are not yet through.
            self._gap_pts = buffer.pts
        return self._gst.PadProbeReturn.OK

    def _on_coded(self, _pad: Any, info: Any) -> Any:
        """A whole coded frame on its way into the decoder: does it build on a damaged one?"""
        if self._gap_pts is None:
            return self._gst.PadProbeReturn.OK
        buffer = info.get_buffer()
        is_key = not buffer.has_flags(self._gst.BufferFlags.DELTA_UNIT)
        if is_key and buffer.pts > self._gap_pts:
            self._gap_pts = None
            return self._gst.PadProbeReturn.OK
        self.withheld += 1
        return self._gst.PadProbeReturn.DROP
