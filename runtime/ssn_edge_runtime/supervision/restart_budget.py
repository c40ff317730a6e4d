"""How often something may be restarted before it is given up."""

from __future__ import annotations

import math
from collections import deque

from ssn_edge_runtime.errors import ConfigError


class RestartBudget:
    """At most so many restarts within any window of time. Pure: the caller brings the clock.

    Args:
        restarts: How many; 0 gives up at once.
        window_s: Any span of this length, in seconds.
    """

    def __init__(self, restarts: int = 5, window_s: float = 300.0) -> None:
        if restarts < 0 or not 0 < window_s < math.inf:
            raise ConfigError(
                f"{restarts} restarts within {window_s} s are no budget; 0 or more, and a time "
                "above 0, are wanted"
            )
        self._restarts = restarts
        self._window_s = window_s
        self._spent_s: deque[float] = deque()

    def spend(self, now_s: float) -> bool:
        """Ask for a restart now; False if the budget is spent, and nothing is counted then.

        Args:
            now_s: A monotonic clock; one that steps back is taken as standing still.
        """
        now_s = self._forget(now_s)
        if len(self._spent_s) >= self._restarts:
            return False
        self._spent_s.append(now_s)
        return True

    def left(self, now_s: float) -> int:
        """How many are left now."""
        self._forget(now_s)
        return self._restarts - len(self._spent_s)

    def next_free_s(self, now_s: float) -> float:
        """How long until one more is allowed; 0 for now, infinite if none ever is."""
        now_s = self._forget(now_s)
        if len(self._spent_s) < self._restarts:
            return 0.0
        return self._spent_s[0] + self._window_s - now_s if self._spent_s else math.inf

    def _forget(self, now_s: float) -> float:
        if self._spent_s:
            now_s = max(now_s, self._spent_s[-1])
        while self._spent_s and now_s - self._spent_s[0] >= self._window_s:
            self._spent_s.popleft()
        return now_s
