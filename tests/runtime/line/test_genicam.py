from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.frame_stream_checks import FrameStreamChecks
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources import Frame, GenicamSource, NoFrameYet, ReopenBudget, open_source
from tests.runtime.line.gi_of_the_system import need_command, need_typelibs

need_typelibs("Aravis")
FAKE_CAMERA = need_command("arv-fake-gv-camera-0.8", "aravis-tools")
SMALL = "width=256&height=128&packet_size=8000"


@contextmanager
def camera(*options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Aravis' fake GigE camera on loopback, killed at the end."""
    with subprocess.Popen([FAKE_CAMERA, "-i", "127.0.0.1", *options]) as process:
        try:
            deadline = time.monotonic() + 10.0
            while True:
                source = GenicamSource("127.0.0.1")
                try:
                    source.open()
                    break
                except SourceError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                finally:
                    source.close()
            yield process
        finally:
            process.kill()


@pytest.fixture
def live() -> Iterator[None]:
    """A camera."""
    with camera():
        yield


def genicam(options: str = SMALL) -> GenicamSource:
    source = open_source(f"genicam:127.0.0.1?{options}")
    assert isinstance(source, GenicamSource)
    return source


def frames(source: GenicamSource, count: int) -> list[Frame]:
    found = []
    for _ in range(count):
        frame = source.read(5.0)
        assert frame is not None
        found.append(frame)
    return found


def test_frames_have_their_exposure_and_number(live: None) -> None:
    with genicam(f"{SMALL}&fps=50&exposure=2000") as source:
        assert source.is_live
        assert source.tells_exposure
        seen = frames(source, 10)
    for frame in seen:
        assert frame.image.shape == (128, 256)
        assert frame.exposed_monotonic_ns is not None
        # Exposure, readout and transfer, as bounds: 2 ms and two periods of 20 ms.
        age_ms = (frame.captured_monotonic_ns - frame.exposed_monotonic_ns) / 1e6
        assert 42.0 <= age_ms < 1000.0
    numbers = [frame.frame_id for frame in seen]
    assert numbers == sorted({number for number in numbers if number is not None})
    assert [frame.index for frame in seen] == list(range(10))


@pytest.mark.parametrize("pixel_format", ["RGB8", "BayerRG8"])
def test_colour_comes_as_bgr(live: None, pixel_format: str) -> None:
    with genicam(f"{SMALL}&format={pixel_format}") as source:
        assert frames(source, 1)[0].image.shape == (128, 256, 3)


def test_settings_are_read_back_from_the_camera(live: None) -> None:
    with genicam("width=320&height=200&format=Mono8&exposure=3000&gain=5&fps=40") as source:
        frames(source, 1)
        device = source._camera
        assert tuple(device.get_region())[2:] == (320, 200)
        assert device.get_exposure_time() == pytest.approx(3000)
        assert device.get_gain() == pytest.approx(5)
        assert device.get_frame_rate() == pytest.approx(40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("format=Mono99", "format=Mono99 is not taken .*; the camera offers .*Mono8"),
        ("format=Mono16", "gives Mono16, which is not read here; set format= to one of .*Mono8"),
        ("width=60000", r"size 60000 x \d+ is not taken .* offers \(1 to 2048\) x"),
        ("exposure=1e9", r"exposure=1e\+09 is not taken .* offers 10 to 1e\+07"),
        ("fps=90000", "fps=90000 is not taken"),
        ("trigger=line&line=Line7", "trigger from Line7 is not taken .* offers Line0, Software"),
    ],
)
def test_a_setting_that_is_not_taken_is_an_error_with_what_the_camera_offers(
    live: None, options: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        genicam(options).open()
    assert "\n" not in str(caught.value)
    with genicam(f"{SMALL}&format=Mono8") as source:  # it was let go
        frames(source, 1)


def test_a_camera_that_is_not_there_is_told_with_those_that_are(live: None) -> None:
    with pytest.raises(SourceError, match="there are Aravis-Fake-GV01") as caught:
        open_source("genicam:nowhere").open()
    assert caught.value.exit_code == 5


def test_a_triggered_frame_is_exposed_after_its_trigger(live: None) -> None:
    checks = FrameStreamChecks(still_frames=None)
    with genicam(f"{SMALL}&trigger=software&exposure=2000&fps=50") as source:
        with pytest.raises(NoFrameYet, match=r"no trigger within 0\.1 s"):
            source.read(0.1)
        for _ in range(5):
            triggered_ns = source.trigger_now()
            (frame,) = frames(source, 1)
            assert frame.exposed_monotonic_ns is not None
            assert triggered_ns <= frame.exposed_monotonic_ns <= frame.captured_monotonic_ns
            fault = checks.check(frame, triggered_ns=triggered_ns)
            assert fault is None or "repeats" in fault.detail  # the fake's picture may stand
        waiting = source.trigger_now()
        time.sleep(0.2)
        late = source.trigger_now()
        (stale,) = frames(source, 1)
        assert stale.exposed_monotonic_ns is not None
        assert waiting <= stale.exposed_monotonic_ns < late
        fault = checks.check(stale, triggered_ns=late)
        assert fault is not None
        assert fault.reason.value == "stale_frame"


def test_a_camera_that_runs_freely_cannot_be_triggered(live: None) -> None:
    with genicam() as source, pytest.raises(ConfigError, match="use trigger=software"):
        source.trigger_now()


def test_a_frame_with_missing_packets_is_incomplete_and_the_others_are_not() -> None:
    with camera("-r", "20"), genicam("width=512&height=512&packet_size=8000&fps=50") as source:
        seen = frames(source, 40)
    incomplete = [frame.is_incomplete for frame in seen]
    assert 0 < sum(incomplete) < 40
    assert {frame.image.shape for frame in seen} == {(512, 512)}
    checks = FrameStreamChecks(compares_pixels=False)
    reasons = [fault and fault.reason.value for fault in map(checks.check, seen)]
    assert [reason == "bad_frame" for reason in reasons] == incomplete


def test_a_camera_that_is_killed_and_comes_back_goes_on_with_its_settings(
    judge: Any, output: Path, records: Any
) -> None:
    stop = threading.Event()
    was_lost = threading.Event()
    shapes: set[tuple[int, ...]] = set()
    after = 0

    class Watching(type(judge)):  # type: ignore[misc]
        def inspect(self, frame: ByteImage) -> Any:
            nonlocal after
            shapes.add(frame.shape)
            after += was_lost.is_set()
            if after >= 3:
                stop.set()
            return super().inspect(frame)

    def on_decision(record: DecisionRecord, _decision: object) -> None:
        # Frames from before the loss may still be waiting; those after its record are of after it.
        if record.reason == "no_frame":
            was_lost.set()

    with camera() as process:
        # Nobody asks for this exposure: it is noted on the first opening.
        with genicam(f"{SMALL}&exposure=1234") as source:
            frames(source, 1)
        source = genicam(SMALL)
        source.open()

        def live_again() -> None:
            time.sleep(0.7)
            process.kill()
            process.wait()
            time.sleep(1.5)  # long enough to be missed
            again.append(subprocess.Popen([FAKE_CAMERA, "-i", "127.0.0.1"]))

        again: list[subprocess.Popen[bytes]] = []
        life = threading.Thread(target=live_again)
        life.start()
        try:
            with Journal(output) as journal:
                summary = run_line(
                    source,
                    Watching(),
                    journal,
                    stop=stop,
                    frame_timeout_s=1.0,
                    reopen=ReopenBudget(pause_s=0.3, longest_pause_s=0.5),
                    on_decision=on_decision,
                )
            exposure = source._camera.get_exposure_time()
            assert exposure == pytest.approx(1234), (summary.reopened, source._wanted)
        finally:
            life.join()
            source.close()
            for each in again:
                each.kill()
                each.wait()
    assert summary.reopened >= 1
    assert after >= 3
    assert shapes == {(128, 256)}
    lost = [record for record in records(output) if record["reason"] == "no_frame"]
    assert len(lost) == summary.reopened


def test_no_thread_and_no_descriptor_is_left(live: None) -> None:
    def held() -> tuple[int, int]:
        return (
            len(list(Path("/proc/self/task").iterdir())),
            len(list(Path("/proc/self/fd").iterdir())),
        )

    def use() -> None:
        with genicam() as source:
            frames(source, 1)

    use()
    before = held()
    for _ in range(5):
        use()
    deadline = time.monotonic() + 5.0
    while held() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held() <= before
