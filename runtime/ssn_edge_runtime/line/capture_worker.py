"""The process that reads one camera: `python -m ssn_edge_runtime.line.capture_worker FD`.

Frames go into slots that the authority lent; a message tells when each was exposed, and what is
wrong with it. A lost camera is opened again here, within its budget.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timezone
from time import monotonic, monotonic_ns
from typing import cast

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SourceError, SsnEdgeError
from ssn_edge_runtime.frame_stream_checks import FrameStreamChecks, StreamFault
from ssn_edge_runtime.line.messages import Message
from ssn_edge_runtime.line.shared_frames import FrameMap
from ssn_edge_runtime.line.worker_side import (
    WorkerLink,
    ask_the_system,
    call_factory,
    report_failure,
    set_up_logging,
    settle,
    single_thread_opencv,
)
from ssn_edge_runtime.preprocess import FrameError, check_frame
from ssn_edge_runtime.sources import open_source
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, NoFrameYet, Source
from ssn_edge_runtime.sources.reopening import ReopenBudget


def open_device(device: str) -> Source:
    """The factory of `--device`."""
    return open_source(device)


class _Capture:
    """One camera, its slots and its link."""

    def __init__(self, link: WorkerLink, setup: Message, source: Source, frames: FrameMap) -> None:
        self._link = link
        self._source = source
        self._frames = frames
        self._waits = setup.flag("waits")
        self._timeout_s = setup.number("frame_timeout_s") or 5.0
        self._budget = ReopenBudget(
            setup.whole("reopen_attempts"), setup.number("reopen_pause_s") or 2.0
        )
        self._checks = FrameStreamChecks.for_source(source)
        self._lent: deque[tuple[int, int]] = deque()
        self._dropped: list[int] = []
        self._dropped_ns = 0
        self._told_missed = 0
        self._attempts = 0
        self._opened_s = monotonic()
        if setup.raw("last") is not None:
            self._remember(setup.inner("last"))

    def run(self) -> None:
        """Read until the end, the stop, or a loss beyond the budget."""
        while not self._link.is_stopped:
            try:
                if not self._one_frame():
                    self._tell_dropped()
                    self._link.send("end")
                    while not self._link.is_stopped:
                        self._take(None)
                    return
            except NoFrameYet:
                continue
            except DamagedFrame as damage:
                self._link.send(
                    "damaged",
                    index=damage.index,
                    part_id=damage.part_id,
                    captured_ns=monotonic_ns(),
                    detail=str(damage),
                )
            except SourceError as error:
                if not self._source.is_live or not self._open_again(error):
                    raise

    def _one_frame(self) -> bool:
        while self._waits and not self._lent and not self._link.is_stopped:
            self._take(None)
        if self._link.is_stopped:
            return True
        began_ns = monotonic_ns()
        self._link.busy(True)
        try:
            frame = self._source.read(self._timeout_s)
        finally:
            self._link.busy(False)
        if frame is None:
            return False
        capture_ms = (monotonic_ns() - began_ns) / 1e6
        if self._attempts and monotonic() - self._opened_s > self._budget.healthy_s:
            self._attempts = 0
        fault = self._fault(frame)
        while self._take(0.0):  # slots that came back meanwhile
            pass
        if self._lent:
            self._tell_dropped()
            self._announce(frame, fault, capture_ms)
        else:
            self._dropped.append(frame.index)
            self._dropped_ns = frame.captured_monotonic_ns
            if len(self._dropped) >= 100:
                self._tell_dropped()
        return True

    def _fault(self, frame: Frame) -> StreamFault | None:
        """All that can be wrong with a frame and its neighbours is looked for here."""
        try:
            check_frame(frame.image)
        except FrameError as error:
            from ssn_edge_runtime.decision import Reason

            return StreamFault(Reason.BAD_FRAME, str(error))
        return self._checks.check(frame)

    def _announce(self, frame: Frame, fault: StreamFault | None, capture_ms: float) -> None:
        slot, generation = self._lent.popleft()
        reason, detail = (None, "") if fault is None else (fault.reason.value, fault.detail)
        shape = list(frame.image.shape)
        fits = self._frames.put(slot, frame.image)
        missed = self._checks.missed - self._told_missed
        self._told_missed += missed
        if not fits:
            reason, detail = "frame_size", f"a frame of {shape} does not fit into its slot"
        self._link.send(
            "frame",
            slot=slot,
            generation=generation,
            shape=shape,
            index=frame.index,
            frame_id=frame.frame_id,
            missed=missed,
            exposed_ns=frame.exposed_monotonic_ns,
            captured_ns=frame.captured_monotonic_ns,
            capture_ms=capture_ms,
            part_id=frame.part_id,
            fault=reason,
            detail=detail[:500],
            has_pixels=fits and _is_picture(frame.image),
        )

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, []
        if dropped:
            self._link.send(
                "dropped",
                first=dropped[0],
                last=dropped[-1],
                count=len(dropped),
                captured_ns=self._dropped_ns,  # of the last one
            )

    def _take(self, timeout_s: float | None) -> bool:
        message = self._link.receive(timeout_s)
        if message is not None and message.kind == "lend":
            self._lent.append((message.whole("slot"), message.whole("generation")))
        return message is not None

    def _open_again(self, failure: SourceError) -> bool:
        """Whether the camera is back, or nobody waits for it any more."""
        self._tell_dropped()
        self._link.send("lost", detail=str(failure)[:500])
        self._source.close()
        while self._attempts < self._budget.attempts:
            self._attempts += 1
            until_s = monotonic() + self._budget.pause_before(self._attempts, 1.0)
            while (left_s := until_s - monotonic()) > 0:
                self._take(left_s)
                if self._link.is_stopped:
                    return True
            self._link.busy(True)
            try:
                self._source.open()
            except SourceError:
                self._source.close()  # whatever half of it was opened
                continue
            finally:
                self._link.busy(False)
            self._opened_s = monotonic()
            self._checks.reopened()
            self._link.send("back", attempts=self._attempts)
            return True
        return False

    def _remember(self, last: Message) -> None:
        """Show the checks the frame before the restart: a frozen camera is still frozen."""
        image = self._frames.look(last.whole("slot"), last.shape("shape")).copy()
        moment = datetime.now(timezone.utc)
        self._checks.check(Frame(image, "before", 0, moment, monotonic_ns()))
        self._checks.reopened()


def _is_picture(image: ByteImage) -> bool:
    """Whether a slot can hold it as it is, and a PNG can; of more bits only 8 would be left."""
    is_shape = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    return is_shape and image.dtype == np.uint8


def main() -> None:
    """Serve one authority, then end."""
    set_up_logging()
    link, setup = WorkerLink.from_arguments()
    memory = setup.inner("memory")
    frames = FrameMap(
        memory.whole("fd"), memory.whole("bytes"), memory.whole("slot_bytes"), is_writer=True
    )
    granted = ask_the_system(setup)
    single_thread_opencv()
    try:
        source = cast(Source, call_factory(setup))
        with source:
            link.send(
                "ready",
                name=source.name,
                is_live=source.is_live,
                tells_exposure=source.tells_exposure,
                granted=granted,
            )
            settle()
            link.start_pulse()
            _Capture(link, setup, source, frames).run()
    except SsnEdgeError as error:
        report_failure(link, error)
    frames.close()


if __name__ == "__main__":
    main()
