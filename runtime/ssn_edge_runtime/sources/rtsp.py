"""Network cameras by RTSP: for watching, not for one part's verdict at its trigger."""

from __future__ import annotations

from typing import Any

from ssn_edge_runtime.sources.address import without_password
from ssn_edge_runtime.sources.gstreamer import GStreamerSource

LATENCY_MS = 100
"""How long packets wait for those that were overtaken."""
SERVER_TIMEOUT_US = 5_000_000


class RtspSource(GStreamerSource):
    """The newest frame of an RTSP stream, H.264, H.265 or MJPEG, BGR.

    Its frames do not say when they were exposed, so it is refused for triggered use.

    After a lost packet the frames up to the next key frame are dropped and not shown smeared; a
    frame that the decoder calls corrupt is `is_incomplete`. What is not seen: bits that change
    within a packet that arrives.

    Args:
        url: ``rtsp://`` or ``rtsps://``; a password in it shows in no record and no message.
        transport: ``tcp``, or ``udp``: fresher where packets get lost, with more gaps.
    """

    def __init__(self, url: str, *, transport: str = "tcp") -> None:
        self._url = url
        super().__init__(
            f"rtspsrc name=ssn_edge_camera protocols={transport} latency={LATENCY_MS} "
            f"timeout={SERVER_TIMEOUT_US} tcp-timeout={SERVER_TIMEOUT_US} "
            "ssn_edge_camera. ! application/x-rtp,media=video ! decodebin",
            name=without_password(url),
        )

    def _prepare(self, pipeline: Any) -> None:
        # Not in the pipeline's text, where a blank or an exclamation mark would mean something.
        pipeline.get_by_name("ssn_edge_camera").set_property("location", self._url)
        pipeline.connect("deep-element-added", _refuse_smear)


def _refuse_smear(_pipeline: Any, _bin: Any, element: Any) -> None:
    """Depacketisers wait for a key frame after a loss, decoders give out nothing corrupt."""
    for name, value in (("wait-for-keyframe", True), ("output-corrupt", False)):
        if element.find_property(name) is not None:
            element.set_property(name, value)
