"""The wall clock stamps, and nothing else; its steps are noticed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from time import CLOCK_BOOTTIME, clock_gettime_ns, monotonic_ns, time_ns

STEP_LIMIT_NS = 500_000_000
SLEPT_NS = 100_000_000
"""A shorter sleep is none: both clocks cannot be read at once."""
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


def with_sleep_ns() -> int:
    """Nanoseconds since the boot; other than the monotonic clock, it goes on while we sleep."""
    return clock_gettime_ns(CLOCK_BOOTTIME)


class SleepWatch:
    """Notices that the machine was suspended: deadlines stood still, and parts and frames did not.

    Args:
        with_sleep: Nanoseconds of a clock that goes on meanwhile.
        monotonic: Nanoseconds of the one that does not.
    """

    def __init__(
        self,
        with_sleep: Callable[[], int] = with_sleep_ns,
        *,
        monotonic: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._with_sleep = with_sleep
        self._monotonic = monotonic
        self._apart_ns = max(self._look() for _ in range(3))

    def slept_ns(self) -> int:
        """How long the machine slept since the last call; 0 for not at all."""
        slept_ns = self._look() - self._apart_ns
        if slept_ns < SLEPT_NS:
            return 0
        self._apart_ns += slept_ns
        return slept_ns

    def _look(self) -> int:
        # In this order: whatever comes in between makes it less, and is taken for no sleep.
        since_boot_ns = self._with_sleep()
        return since_boot_ns - self._monotonic()
