"""What may be told seldom: at once, and then once a minute with how often it was left out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

EVERY_S = 60.0
MOST_KEYS = 256
"""Kinds of messages that are told apart; those of this package are far fewer."""


class Seldom:
    """One thing that may be told once in a while. Pure: the caller brings the clock.

    Args:
        every_s: In seconds.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self.told_s = float("-inf")
        """When it was told last."""
        self.untold = 0
        """How often it happened since it was told last; to be counted up."""

    def is_free(self, now_s: float) -> bool:
        """Whether it may be told now."""
        return now_s - self.told_s >= self._every_s

    def tell(self, now_s: float) -> int:
        """It is told now; for how many it stands."""
        self.told_s = now_s
        count, self.untold = self.untold, 0
        return count


class SeldomFilter(logging.Filter):
    """Lets each kind of message through once in a while, with the number of those left out.

    A kind is the text before its arguments are put in. The number comes with the next one that is
    let through: a filter has no clock of its own.

    Args:
        every_s: In seconds.
        clock: Seconds, monotonic.
    """

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._kinds: dict[tuple[str, str], Seldom] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is let through; one that is says what was left out before it."""
        now_s = self._clock()
        key = (record.name, str(record.msg))
        if key not in self._kinds and len(self._kinds) >= MOST_KEYS:
            self._kinds.clear()
        kind = self._kinds.setdefault(key, Seldom(self._every_s))
        if not kind.is_free(now_s):
            kind.untold += 1
            return False
        if left_out := kind.tell(now_s):
            record.msg = f"{record.getMessage()} ({left_out} like it were left out)"
            record.args = None
        return True


def log_seldom(prefix: str = "") -> None:
    """In an outlet's process: warnings to standard error, each kind of them seldom.

    Args:
        prefix: Whose they are; empty where each of them says so itself.
    """
    begin = f"{prefix}: " if prefix else ""
    logging.basicConfig(level=logging.WARNING, format=f"{begin}%(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(SeldomFilter())
