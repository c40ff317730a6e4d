"""A camera's own clock on this machine's: when was a frame exposed, at the earliest?"""

from __future__ import annotations

from collections import deque

WINDOW_S = 10.0
"""Clocks drift apart by some 50 microseconds a second; older pairs would mislead."""


class DeviceClock:
    """Turns a camera's time stamps into CLOCK_MONOTONIC, never later than the exposure's start.

    A frame arrives some time after its stamp, never before it. Over the last seconds, the frame
    that took least tells how far apart both clocks are, but for that least delay; `least_delay_ns`
    is an upper bound of it, and is taken off. So a stamp comes out early by at most the bound plus
    the drift within the window: a frame may seem too old for its trigger, never too young. That
    holds once one frame came without a delay; the very first is taken to be such a frame.

    Args:
        least_delay_ns: What a frame takes at most, from its exposure's start until it is here,
            when nothing stands in its way: exposure, readout, transfer.
    """

    def __init__(self, least_delay_ns: int) -> None:
        self._least_delay_ns = least_delay_ns
        # In the order of arrival, each greater than the one before: the first is the least.
        self._differences: deque[tuple[int, int]] = deque()
        self._last_stamp_ns: int | None = None

    def exposed_ns(self, stamp_ns: int, arrived_ns: int) -> int:
        """When a frame was exposed at the earliest, on the monotonic clock.

        Args:
            stamp_ns: The camera's stamp.
            arrived_ns: The monotonic clock when the frame was here.
        """
        if self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns:
            self._differences.clear()  # the camera's clock was set back, or it was switched on anew
        self._last_stamp_ns = stamp_ns
        difference = arrived_ns - stamp_ns
        while self._differences and self._differences[-1][1] >= difference:
            self._differences.pop()
        self._differences.append((arrived_ns, difference))
        while self._differences[0][0] < arrived_ns - int(WINDOW_S * 1e9):
            self._differences.popleft()
        return stamp_ns + self._differences[0][1] - self._least_delay_ns
