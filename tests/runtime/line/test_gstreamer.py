from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.frame_stream_checks import FrameStreamChecks
from ssn_edge_runtime.sources import Frame, GStreamerSource, open_source
from ssn_edge_runtime.sources.gi_import import load_typelibs
from ssn_edge_runtime.sources.rtsp import RtspSource
from tests.runtime.line.gi_of_the_system import need_typelibs

need_typelibs("Gst", "GstApp", "GstVideo")


def frames(source: GStreamerSource, count: int) -> list[Frame]:
    found = []
    for _ in range(count):
        frame = source.read(5.0)
        assert frame is not None
        found.append(frame)
    return found


@pytest.mark.parametrize("width", [320, 321])  # a row of 321 pixels is padded
def test_a_pipeline_gives_bgr_frames_of_its_size(width: int) -> None:
    pipeline = f"videotestsrc is-live=true pattern=red ! video/x-raw,width={width},height=50"
    with GStreamerSource(pipeline) as source:
        assert source.is_live
        assert not source.tells_exposure
        first, second = frames(source, 2)
    assert first.image.shape == (50, width, 3)
    assert (first.index, second.index) == (0, 1)
    assert first.exposed_monotonic_ns is None
    blue, green, red = first.image.reshape(-1, 3).mean(axis=0)
    assert red > 250
    assert max(blue, green) < 5


def test_a_mono_pipeline_gives_mono_frames() -> None:
    pipeline = "videotestsrc is-live=true ! video/x-raw,format=GRAY8,width=33,height=20"
    with GStreamerSource(pipeline) as source:
        assert frames(source, 1)[0].image.shape == (20, 33)


def test_time_stamps_that_stand_for_the_exposure_are_on_the_monotonic_clock() -> None:
    address = "gst:videotestsrc is-live=true pattern=snow ! video/x-raw,framerate=50/1"
    with open_source(f"{address} ?stamps=exposure") as source:
        assert isinstance(source, GStreamerSource)
        assert source.tells_exposure
        checks = FrameStreamChecks()
        seen = frames(source, 10)
    for frame in seen:
        assert frame.exposed_monotonic_ns is not None
        assert frame.exposed_monotonic_ns <= frame.captured_monotonic_ns
        assert frame.captured_monotonic_ns - frame.exposed_monotonic_ns < 2 * 10**9
        assert frame.frame_id is not None
        assert checks.check(frame) is None


def test_the_newest_frame_is_given_after_a_pause() -> None:
    pipeline = "videotestsrc is-live=true pattern=snow ! video/x-raw,framerate=50/1"
    with GStreamerSource(pipeline) as source:
        source.read(5.0)
        time.sleep(0.5)
        started = time.monotonic()
        seen = frames(source, 8)
        # One frame was waiting, not 25: the others had to be waited for, 20 ms each.
        assert time.monotonic() - started > 0.05
    assert not np.array_equal(seen[0].image, seen[1].image)


def test_a_pipeline_that_ends_is_a_source_error_and_opens_again() -> None:
    source = GStreamerSource("videotestsrc is-live=true num-buffers=3 ! video/x-raw,framerate=50/1")
    indices = []
    for _ in range(2):
        with source:
            indices += [frame.index for frame in frames(source, 1)]
            with pytest.raises(SourceError, match="the pipeline ended"):
                frames(source, 5)
    assert indices[0] == 0
    assert indices[1] > 0  # the index counts on


def test_a_stalled_pipeline_is_seen_within_the_timeout() -> None:
    with GStreamerSource("videotestsrc is-live=true ! video/x-raw,framerate=1/5") as source:
        frames(source, 1)
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"stalled, no frame within 0.3 s"):
            source.read(0.3)
        assert time.monotonic() - started < 3.0


def test_other_threads_run_while_a_frame_is_waited_for() -> None:
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.wait(0.01):
            counted += 1

    with GStreamerSource("videotestsrc is-live=true ! video/x-raw,framerate=1/5") as source:
        frames(source, 1)
        thread = threading.Thread(target=count)
        thread.start()
        with pytest.raises(SourceError):
            source.read(1.0)
        stop.set()
        thread.join()
    assert counted > 10


def test_closing_ends_a_read_that_waits() -> None:
    source = GStreamerSource("videotestsrc is-live=true ! video/x-raw,framerate=1/30")
    source.open()
    frames(source, 1)
    failures: list[SourceError] = []

    def read() -> None:
        try:
            source.read(30.0)
        except SourceError as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.2)
    source.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert "was closed" in str(failures[0])


def test_a_camera_that_is_not_there_is_a_source_error_with_what_gstreamer_says() -> None:
    with pytest.raises(SourceError, match="/dev/video99") as caught:
        GStreamerSource("v4l2src device=/dev/video99").open()
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("pipeline", ["nosuchelement", "videotestsrc ! ! x", "videotestsrc x=1"])
def test_a_text_that_is_no_pipeline_is_a_config_error(pipeline: str) -> None:
    with pytest.raises(ConfigError, match="is no pipeline that GStreamer understands"):
        GStreamerSource(pipeline).open()


def test_a_library_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ssn_edge_runtime.sources.gi_import._VERSIONS", {"Gst": "9.9", "GstApp": "1.0"}
    )
    with pytest.raises(SourceError, match=r"apt install gir1.2-gstreamer-1.0") as caught:
        load_typelibs("Gst")
    assert caught.value.exit_code == 5


def test_no_thread_and_no_descriptor_is_left() -> None:
    def held() -> tuple[int, int]:
        return (
            len(list(Path("/proc/self/task").iterdir())),
            len(list(Path("/proc/self/fd").iterdir())),
        )

    def use() -> None:
        with GStreamerSource("videotestsrc is-live=true ! video/x-raw,framerate=50/1") as source:
            frames(source, 1)

    use()  # GLib keeps a worker and its pipes
    before = held()
    for _ in range(10):
        use()
    deadline = time.monotonic() + 5.0
    while held() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held() <= before


def test_rtsp_without_a_plugin_of_gstreamer_says_what_to_install() -> None:
    source = RtspSource("rtsp://127.0.0.1/none")
    source._text = source._text.replace("rtspsrc", "nosuchsrc")
    with pytest.raises(SourceError, match=r"apt install gstreamer1.0-plugins-base"):
        source.open()
