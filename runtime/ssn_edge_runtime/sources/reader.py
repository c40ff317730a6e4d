"""A source read in a thread of its own, into a queue that is bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Condition, Event, Thread
from time import monotonic, perf_counter_ns
from types import TracebackType

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.record import frame_sha256
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, NoFrameYet, Source

LIVE_DEPTH = 1
"""A camera's queue: the newest frame. More would only make frames older."""
RECORDING_DEPTH = 4
_POLL_S = 0.05
_RECORDING_WAIT_S = 0.5
"""So that a folder that is watched, and stays empty, does not hold up the end."""


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """One part as it came from a source.

    Args:
        frame: The frame; None if it is damaged.
        damage: What is wrong with it, if it is damaged.
        capture_ms: How long the source took to give it, waiting included.
        sha256: Hash of the frame.
    """

    frame: Frame | None
    damage: DamagedFrame | None
    capture_ms: float
    sha256: str | None


class Reader:
    """Reads an open source until its end, its failure, or `stop`. A context manager.

    A live source is never kept waiting: when the queue is full, the oldest frame is dropped, which
    shows as a gap in the frames' index. A recording waits, and nothing of it is dropped. Frames are
    hashed here, beside the judge's work and not before it.

    Args:
        source: An open source.
        timeout_s: Longest wait for a frame of a live source, in seconds.
        stop_timeout_s: How long the end waits for a `read` that sits in a driver.
    """

    def __init__(
        self,
        source: Source,
        *,
        timeout_s: float,
        stop_timeout_s: float = 12.0,
    ) -> None:
        self._source = source
        self._timeout_s = timeout_s
        # A source that answers just in time, to say that it has nothing yet, is not stalled.
        self._stall_s = 1.1 * timeout_s + 2 * _POLL_S
        self._read_s = timeout_s if source.is_live else min(timeout_s, _RECORDING_WAIT_S)
        self._stop_timeout_s = stop_timeout_s
        self._depth = LIVE_DEPTH if source.is_live else RECORDING_DEPTH
        self._queue: deque[Captured] = deque()
        self._changed = Condition()
        self._stopping = False
        self._waits_since_s = monotonic()
        self._ended = False
        self._failure: SourceError | None = None
        self._thread = Thread(target=self._read_all, name="ssn-edge-reader", daemon=True)

    def __enter__(self) -> Reader:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop reading; see `is_stuck`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(self._stop_timeout_s)

    @property
    def is_stuck(self) -> bool:
        """After the end: whether the thread still sits in the driver and had to be left there."""
        return self._thread.is_alive()

    def take(self, stop: Event) -> Captured | None:
        """Wait for the next part.

        Returns:
            The part; None at the end of a recording, or once `stop` is set.

        Raises:
            SourceError: The source failed, or a live one gave nothing for `timeout_s`.
        """
        with self._changed:
            self._waits_since_s = monotonic()
            while not stop.is_set():
                if self._queue:
                    captured = self._queue.popleft()
                    self._changed.notify_all()
                    return captured
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return None
                if self._source.is_live and monotonic() - self._waits_since_s > self._stall_s:
                    raise SourceError(
                        f"{self._source.name}: stalled, no frame within {self._timeout_s:.1f} s"
                    )
                self._changed.wait(_POLL_S)
        return None

    def _read_all(self) -> None:
        failure: SourceError | None = SourceError(f"{self._source.name}: reading ended early")
        try:
            while not self._stopping:
                try:
                    captured = self._read()
                except NoFrameYet:
                    # No fault, and the driver came back: the clock that sees stalls starts anew.
                    self._waits_since_s = monotonic()
                    continue
                if captured is None or not self._put(captured):
                    break
            failure = None
        except SourceError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the thread's outermost handler: told to `take`
            failure = SourceError(f"{self._source.name}: reading failed ({error!r})")
            failure.__cause__ = error
        finally:
            with self._changed:
                self._ended = True
                self._failure = failure
                self._changed.notify_all()

    def _read(self) -> Captured | None:
        started_ns = perf_counter_ns()
        try:
            frame = self._source.read(self._read_s)
        except DamagedFrame as damage:
            return Captured(None, damage, _ms_since(started_ns), None)
        capture_ms = _ms_since(started_ns)
        if frame is None:
            return None
        sha256 = frame_sha256(frame.image)
        return Captured(frame, None, capture_ms, sha256)

    def _put(self, captured: Captured) -> bool:
        """Queue a part; False once nobody takes them any more."""
        with self._changed:
            while len(self._queue) >= self._depth and not self._stopping:
                if self._source.is_live:
                    self._queue.popleft()
                else:
                    self._changed.wait(_POLL_S)
            self._queue.append(captured)
            self._changed.notify_all()
            return not self._stopping


def _ms_since(started_ns: int) -> float:
    return (perf_counter_ns() - started_ns) / 1e6
