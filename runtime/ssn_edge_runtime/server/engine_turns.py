"""One judge for many connections: a thread of its own, and a bounded number that wait for it."""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic_ns
from types import TracebackType

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, unknown
from ssn_edge_runtime.loop import Judge
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.sound_decision import is_sound

logger = logging.getLogger(__name__)


class EngineTurns:
    """Lets requests take turns at a judge.

    The judge has a thread of its own, so that who asked can stop waiting: a call that hangs holds
    this thread and its turn, and nobody else for longer than the deadline.

    Args:
        judge: What decides; called from one thread.
        waiting: How many turns may wait while one is taken.
    """

    def __init__(self, judge: Judge, *, waiting: int) -> None:
        self._judge = judge
        self._free = threading.BoundedSemaphore(waiting + 1)
        self._queue: queue.SimpleQueue[Turn | None] = queue.SimpleQueue()
        self._began_ns: int | None = None
        self._failures = 0
        # A daemon, because a call that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="ssn-edge-judge", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Let the turns in hand end; `is_running` tells whether they did."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    @property
    def is_running(self) -> bool:
        """Whether the judge's thread is alive."""
        return self._thread.is_alive()

    def is_stuck(self, limit_s: float) -> bool:
        """Whether the judge has been in one call for longer than that."""
        began_ns = self._began_ns
        return began_ns is not None and monotonic_ns() - began_ns > limit_s * 1e9

    def reserve(self) -> Turn:
        """Take a turn before the frame is received, so that memory is bounded, too.

        Raises:
            Refusal: As many turns as may be are taken.
        """
        if not self._free.acquire(blocking=False):
            raise Refusal(
                503,
                Reason.OVERRUN,
                "as many frames as may be wait for the engine; send fewer at once",
                (("Retry-After", "1"),),
            )
        return Turn(self._queue, self._free)

    def _run(self) -> None:
        while (turn := self._queue.get()) is not None:
            if not turn.answer.set_running_or_notify_cancel():
                turn.give_back()
                continue
            turn.began_ns = self._began_ns = monotonic_ns()
            decision = self._judged(turn.frame)
            self._began_ns = None
            turn.give_back()
            turn.answer.set_result(decision)

    def _judged(self, frame: ByteImage) -> Decision:
        try:
            decision = self._judge.inspect(frame)
        except Exception as error:  # the thread's one broad handler; it answers UNKNOWN
            self._failures += 1
            if self._failures == 1:
                logger.exception("the judge failed")
            return unknown(Reason.ENGINE_ERROR, f"the judge failed: {error!r}")
        if not is_sound(decision):
            return unknown(Reason.INVALID_OUTPUT, "the judge gave no sound decision")
        return decision


class Turn:
    """One frame's place at the judge; a context manager that gives it back if it was not used."""

    frame: ByteImage
    began_ns: int

    def __init__(
        self, queue_: queue.SimpleQueue[Turn | None], free: threading.BoundedSemaphore
    ) -> None:
        self._queue = queue_
        self._free = free
        self._is_used = False
        self.answer: Future[Decision] = Future()

    def judge(self, frame: ByteImage, *, deadline_ns: int) -> Decision:
        """Have a frame judged; it must not be written to, not even after the deadline.

        Args:
            frame: What the judge takes.
            deadline_ns: On the monotonic clock.

        Raises:
            Refusal: The deadline passed; a judgement that still comes is thrown away.
        """
        self.frame = frame
        self._is_used = True
        self._queue.put(self)
        try:
            return self.answer.result(max(0.0, (deadline_ns - monotonic_ns()) / 1e9))
        except (FutureTimeoutError, CancelledError):
            self.answer.cancel()
            raise too_late("the engine") from None

    def give_back(self) -> None:
        """Let another take it."""
        self._free.release()

    def __enter__(self) -> Turn:
        """Return the turn itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give it back, unless the judge's thread will."""
        if not self._is_used:
            self.give_back()


def too_late(what: str) -> Refusal:
    """The refusal for a deadline that passed while something was waited for."""
    return Refusal(504, Reason.DEADLINE, f"the deadline passed before {what} was done")
