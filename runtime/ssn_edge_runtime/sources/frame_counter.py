"""A camera's frame counter, made to run on where the camera's own one wraps."""

from __future__ import annotations


class FrameCounter:
    """Turns a counter of few bits into one that does not wrap.

    Args:
        bits: Of the camera's counter.
        skips_zero: Whether it wraps to 1, as GigE Vision's does.
    """

    def __init__(self, bits: int, *, skips_zero: bool = False) -> None:
        self._period = 2**bits - (1 if skips_zero else 0)
        self._last: int | None = None
        self._running = 0

    def running(self, raw: int) -> int:
        """The counter that runs on; a value from just before the last one counts backwards."""
        if self._last is None:
            self._running = raw
        else:
            step = (raw - self._last) % self._period
            self._running += step if step <= self._period // 2 else step - self._period
        self._last = raw
        return self._running
