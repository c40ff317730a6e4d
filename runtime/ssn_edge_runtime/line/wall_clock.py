"""The wall clock stamps, and nothing else; its steps are noticed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from time import monotonic_ns, time_ns

STEP_LIMIT_NS = 500_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class WallClock:
    """Moments of the monotonic clock as UTC, by how far both clocks are apart now.

    Args:
        wall: Nanoseconds since 1970, UTC.
        monotonic: Nanoseconds of the clock that all decisions are made by.
        step_limit_ns: A change between two looks beyond this is a step. Slewing stays below it.
    """

    def __init__(
        self,
        wall: Callable[[], int] = time_ns,
        *,
        monotonic: Callable[[], int] = monotonic_ns,
        step_limit_ns: int = STEP_LIMIT_NS,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._step_limit_ns = step_limit_ns
        self._apart_ns = self._look()

    def step_ns(self) -> int:
        """How far the wall clock was set since the last call; 0 for none."""
        before, self._apart_ns = self._apart_ns, self._look()
        step = self._apart_ns - before
        return step if abs(step) > self._step_limit_ns else 0

    def utc(self, at_ns: int) -> datetime:
        """A moment of the monotonic clock, in the wall clock's time as it stands."""
        return _EPOCH + timedelta(microseconds=(at_ns + self._apart_ns) // 1000)

    def _look(self) -> int:
        return self._wall() - self._monotonic()
