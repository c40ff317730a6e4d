"""The engine worker's second thread, on a real link and real shared memory."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, unknown
from ssn_edge_runtime.line.engine_intake import EngineIntake
from ssn_edge_runtime.line.engine_worker import answer
from ssn_edge_runtime.line.messages import MessageError, encode, link_pair
from ssn_edge_runtime.line.shared_frames import FrameMap, SharedFrames
from ssn_edge_runtime.line.worker_side import WorkerLink
from ssn_edge_runtime.prepared_frame import PreparedFrame


class Whole:
    """Judges frames, and cannot begin before."""

    package_id = engine_sha256 = "0" * 64
    precision, engine_name = "fp32", "none"

    def inspect(self, frame: ByteImage) -> Decision:
        return unknown(Reason.REVIEW, f"whole {frame[0, 0]}")


class Halves(Whole):
    """Begins before; with a frame of 13 it fails."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.may_judge = threading.Event()

    def prepare(self, frame: ByteImage) -> PreparedFrame:
        self.threads.append(threading.current_thread().name)
        if frame[0, 0] == 13:
            raise ValueError("thirteen")
        return PreparedFrame(unknown(Reason.REVIEW, f"half {frame[0, 0]}"), {})

    def judge_prepared(self, prepared: PreparedFrame, *, recipe: str | None = None) -> Decision:
        assert prepared.decision is not None
        return prepared.decision


@pytest.fixture
def frames() -> Iterator[SharedFrames]:
    shared = SharedFrames(3, slot_bytes=100)
    with FrameMap(os.dup(shared.writer_fd), shared.bytes, 100, is_writer=True) as writer:
        for slot, level in enumerate((7, 8, 13)):
            writer.put(slot, np.full((4, 4), level, dtype=np.uint8))
    yield shared
    shared.close()


@pytest.fixture
def ends(frames: SharedFrames) -> Iterator[tuple[socket.socket, WorkerLink, FrameMap]]:
    ours, theirs = link_pair()
    link = WorkerLink(theirs)
    with FrameMap(os.dup(frames.reader_fd), frames.bytes, 100, is_writer=False) as reader:
        yield ours, link, reader
        ours.send(encode("stop", {}))
        for thread in threading.enumerate():
            if thread.name == "ssn-edge-intake":
                thread.join(10.0)
    ours.close()
    theirs.close()


Ends = tuple[socket.socket, WorkerLink, FrameMap]


def job(slot: int, **more: object) -> bytes:
    return encode("job", {"job": slot, "camera": "a", "slot": slot, "shape": [4, 4], **more})


def judged(judge: Whole, intake: EngineIntake) -> str:
    task = intake.next(10.0)
    assert task is not None
    assert task.image is not None
    return answer(judge, task.image, task.prepared)[1].detail


def test_messages_keep_their_order_and_parts_are_prepared_beside_the_judge(ends: Ends) -> None:
    ours, link, reader = ends
    judge = Halves()
    intake = EngineIntake(link, judge, {"a": reader})
    for packet in (job(0), encode("settings", {"settings": "x"}), job(1)):
        ours.send(packet)
    intake.start()
    assert judged(judge, intake) == "half 7"
    between = intake.next(10.0)
    assert between is not None
    assert (between.message.kind, between.image) == ("settings", None)
    assert judged(judge, intake) == "half 8"
    assert judge.threads == ["ssn-edge-intake"] * 2
    assert intake.next(0.01) is None


def test_what_cannot_be_prepared_is_judged_whole(ends: Ends) -> None:
    ours, link, reader = ends
    for judge in (Whole(), Halves()):
        intake = EngineIntake(link, judge, {"a": reader})
        ours.send(job(2))
        ours.send(encode("stop", {}))
        intake.start()
        assert judged(judge, intake) == "whole 13"
        last = intake.next(10.0)
        assert last is not None
        assert last.message.kind == "stop"
        link.is_stopped = False


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (b"nonsense", MessageError),
        (job(0, camera="b"), KeyError),
        (job(0, shape=[0, 4]), MessageError),
        (job(999), ValueError),
    ],
)
def test_a_thread_that_ends_ends_the_worker(
    ends: Ends, packet: bytes, error: type[Exception]
) -> None:
    ours, link, reader = ends
    intake = EngineIntake(link, Halves(), {"a": reader})
    ours.send(packet)
    intake.start()
    with pytest.raises(error):
        intake.next(10.0)


def test_the_oldest_call_of_both_threads_counts(ends: Ends) -> None:
    _, link, _ = ends
    assert link.busy_since_ns is None
    link.busy(True, "intake")
    first_ns = link.busy_since_ns
    assert first_ns is not None
    link.busy(True)
    assert link.busy_since_ns == first_ns
    link.busy(False, "intake")
    later_ns = link.busy_since_ns
    assert later_ns is not None
    assert later_ns >= first_ns
    link.busy(False)
    assert link.busy_since_ns is None
