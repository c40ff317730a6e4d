"""Run by v4l2_in_qemu.sh in its machine: the V4L2 source on the kernel's virtual camera."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.frame_stream_checks import FrameStreamChecks
from ssn_edge_runtime.sources import Frame, KernelV4l2Source, Source, open_source

DRIVER = Path("/sys/bus/platform/drivers/vivid")
FORMATS = ("YUYV", "UYVY", "GREY", "BGR3", "RGB3")


def frames(source: Source, count: int) -> list[Frame]:
    found = []
    for _ in range(count):
        frame = source.read(10.0)
        assert frame is not None
        found.append(frame)
    return found


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    address = "v4l2:/dev/video0?width=640&height=360&format=YUYV&gain=77&fps=25"
    source = open_source(address)
    assert isinstance(source, KernelV4l2Source)
    with source:
        say(f"settings {source.settings}, tells exposure: {source.tells_exposure}")
        assert source.tells_exposure
        # The virtual camera's picture stands still, but for a clock that is drawn into it.
        checks = FrameStreamChecks(still_frames=None)
        seen = frames(source, 30)
        for frame in seen:
            assert frame.image.shape == (360, 640, 3)
            assert not frame.is_incomplete
            assert frame.exposed_monotonic_ns is not None
            assert frame.exposed_monotonic_ns < frame.captured_monotonic_ns
            fault = checks.check(frame)
            assert fault is None, fault
        ages = [
            (each.captured_monotonic_ns - (each.exposed_monotonic_ns or 0)) / 1e6 for each in seen
        ]
        first, last = seen[0], seen[-1]
        rate = 29e3 / ((last.captured_monotonic_ns - first.captured_monotonic_ns) / 1e6)
        say(
            f"frames {first.frame_id} to {last.frame_id}, {checks.missed} missed, "
            f"{rate:.1f} a second, told age {min(ages):.0f} to {max(ages):.0f} ms"
        )

    for fourcc in FORMATS:
        with open_source(f"v4l2:/dev/video0?format={fourcc}") as other:
            say(f"{fourcc}: {frames(other, 2)[1].image.shape}")
    for wrong in ("width=641&height=3", "format=MJPG", "gain=300", "exposure=500", "fps=1000"):
        try:
            with open_source(f"v4l2:/dev/video0?{wrong}"):
                raise AssertionError(f"{wrong} was taken")
        except ConfigError as error:
            say(f"{wrong}: {error}")

    with source:
        frames(source, 2)
        (DRIVER / "unbind").write_text("vivid.0")
        try:
            frames(source, 100)
            raise AssertionError("frames came from a camera that was unplugged")
        except SourceError as error:
            say(f"unplugged: {error}")
    (DRIVER / "bind").write_text("vivid.0")
    for _ in range(50):
        try:
            source.open()
            break
        except SourceError as error:
            say(f"not yet: {error}")
            time.sleep(0.5)
    again = frames(source, 3)
    assert again[0].index > last.index
    assert again[0].image.shape == (360, 640, 3)
    say(f"back: {source.settings}, frame {again[0].frame_id}")
    source.close()


main()
