from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources import Frame, GStreamerSource, ReopenBudget, RtspSource
from tests.runtime.line.gi_of_the_system import SYSTEM_PYTHON, need_elements, need_typelibs

need_typelibs("Gst", "GstApp", "GstVideo")
need_elements("rtspsrc", "x264enc", "rtph264pay", "h264parse", "avdec_h264", "decodebin")

WIDTH, HEIGHT, BLOCK = 320, 240, 16
SMEARED_LEVELS = 4.0
"""Of the worst 16 x 16 block: the encoder's own loss is 1, a smear 12 and more (measured)."""


@contextmanager
def camera(
    port: int, *, drop: float = 0.0, key_frames: int = 10
) -> Iterator[subprocess.Popen[str]]:
    """A camera on loopback, killed at the end."""
    script = Path(__file__).with_name("rtsp_server.py")
    arguments = [str(each) for each in (port, WIDTH, HEIGHT, drop, key_frames)]
    with subprocess.Popen(
        [SYSTEM_PYTHON, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def url(port: int) -> str:
    return f"rtsp://user:secret@127.0.0.1:{port}/camera"


def frames(source: GStreamerSource, count: int, timeout_s: float = 10.0) -> list[Frame]:
    found = []
    for _ in range(count):
        frame = source.read(timeout_s)
        assert frame is not None
        found.append(frame)
    return found


@pytest.fixture(scope="module")
def true_pictures() -> np.ndarray:
    """The 64 pictures that the camera shows in turn, before they are encoded."""
    pipeline = (
        "videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 kt=4 ! "
        f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate=400/1 ! "
        "videoconvert ! video/x-raw,format=I420"
    )
    found: dict[bytes, ByteImage] = {}
    with GStreamerSource(pipeline, stamps="exposure") as source:
        while len(found) < 64:
            (frame,) = frames(source, 1)
            found[frame.image.tobytes()] = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
    return np.array(list(found.values()), np.int16)


def worst_block(image: ByteImage, true_pictures: np.ndarray) -> float:
    """Mean difference, in levels, of the worst block to the nearest of the true pictures."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.int16)
    difference = np.abs(true_pictures - grey)
    blocks = difference.reshape(-1, HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK).mean((2, 4))
    worst: float = blocks.max((1, 2)).min()
    return worst


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_stream_gives_its_pictures_as_they_are(
    port: int, transport: str, true_pictures: np.ndarray
) -> None:
    with camera(port), RtspSource(url(port), transport=transport) as source:
        assert source.is_live
        assert not source.tells_exposure
        seen = frames(source, 20)
        assert "secret" not in source.name
    assert {frame.image.shape for frame in seen} == {(HEIGHT, WIDTH, 3)}
    assert max(worst_block(frame.image, true_pictures) for frame in seen) < SMEARED_LEVELS


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_no_smeared_frame_is_given_where_packets_are_lost(
    port: int, transport: str, true_pictures: np.ndarray
) -> None:
    with camera(port, drop=0.003), RtspSource(url(port), transport=transport) as source:
        seen = frames(source, 40)
        assert source.withheld > 0
    assert max(worst_block(frame.image, true_pictures) for frame in seen) < SMEARED_LEVELS


def test_a_camera_that_freezes_is_seen_within_the_timeout(port: int) -> None:
    with camera(port) as process, RtspSource(url(port)) as source:
        frames(source, 3)
        process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(SourceError, match=r"stalled, no frame within 0.5 s"):
                frames(source, 1000, timeout_s=0.5)
            assert time.monotonic() - started < 5.0
            started = time.monotonic()
            source.close()
            assert time.monotonic() - started < 5.0
        finally:
            process.send_signal(signal.SIGCONT)


def test_a_camera_that_is_not_there_is_a_source_error_without_its_password(port: int) -> None:
    with pytest.raises(SourceError, match=r"rtsp://user:\*\*\*@127.0.0.1") as caught:
        RtspSource(url(port)).open()
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_camera_that_is_killed_and_comes_back_goes_on_in_the_line(
    port: int, judge: Any, output: Path, records: Any, true_pictures: np.ndarray
) -> None:
    stop = threading.Event()
    was_lost = threading.Event()
    shapes: set[tuple[int, ...]] = set()
    worst: list[float] = []
    after = 0

    class Watching(type(judge)):  # type: ignore[misc]
        def inspect(self, frame: ByteImage) -> Any:
            nonlocal after
            shapes.add(frame.shape)
            worst.append(worst_block(frame, true_pictures))
            if was_lost.is_set():
                after += 1
                if after >= 5:
                    stop.set()
            return super().inspect(frame)

    def on_decision(record: DecisionRecord, _decision: object) -> None:
        if record.reason == "no_frame":
            was_lost.set()

    def live_twice() -> None:
        with camera(port):
            started.set()
            time.sleep(3.0)
        time.sleep(0.5)
        with camera(port):
            stop.wait(30.0)

    started = threading.Event()
    life = threading.Thread(target=live_twice)
    life.start()
    assert started.wait(20.0)
    with RtspSource(url(port)) as source, Journal(output) as journal:
        summary = run_line(
            source,
            Watching(),
            journal,
            stop=stop,
            frame_timeout_s=2.0,
            reopen=ReopenBudget(pause_s=0.2, longest_pause_s=0.5),
            on_decision=on_decision,
        )
    life.join()
    assert summary.reopened >= 1
    assert after >= 5
    assert shapes == {(HEIGHT, WIDTH, 3)}
    assert max(worst) < SMEARED_LEVELS
    lost = [record for record in records(output) if record["reason"] == "no_frame"]
    assert len(lost) == summary.reopened  # one for each outage, however many attempts it took
    indices = [record["frame_index"] for record in records(output) if record["reason"] == "none"]
    assert indices == sorted(set(indices))
