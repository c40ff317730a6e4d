"""When a lost camera is opened again: paced, within a budget, never endless in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from threading import Event
from time import monotonic

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.sources.base import Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReopenBudget:
    """How often a lost camera is opened again before the line gives up.

    The pause before an attempt is `pause_s`, doubled with each, up to `longest_pause_s`; a share of
    it is left to chance, so that several stations on one switch do not all come back at once. With
    the defaults, giving up takes some three and a half minutes.

    Args:
        attempts: Openings in a row; 0 gives up at once.
        pause_s: Wait before the first, in seconds.
        healthy_s: Seconds of frames after which the attempts are given back.
        longest_pause_s: Longest wait, in seconds; `pause_s` if that is longer.
        jitter: Share of a pause that is left to chance, from 0 to 1.
    """

    attempts: int = 10
    pause_s: float = 2.0
    healthy_s: float = 60.0
    longest_pause_s: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a loop that would spin or wait backwards."""
        if self.attempts < 0 or not self.pause_s > 0 or not self.healthy_s > 0:
            raise ConfigError(
                f"{self.attempts} attempts with a pause of {self.pause_s} s are no budget for "
                "opening a camera again; attempts must be 0 or more, times above 0"
            )
        if not self.longest_pause_s > 0 or not 0 <= self.jitter <= 1:
            raise ConfigError(
                f"a longest pause of {self.longest_pause_s} s with a jitter of {self.jitter} is no "
                "pace for opening a camera again; above 0 s, and 0 to 1, are wanted"
            )

    def pause_before(self, attempt: int, chance: float) -> float:
        """Seconds to wait before an attempt.

        Args:
            attempt: From 1.
            chance: From 0 to 1; 1 waits the full pause.
        """
        # Beyond 2 ** 64 any cap is reached; a larger exponent would overflow.
        full = self.pause_s * 2.0 ** min(attempt - 1, 64)
        full = min(full, max(self.longest_pause_s, self.pause_s))
        return full * (1 - self.jitter * (1 - chance))


class Reopening:
    """Opens a lost source again, and remembers how much of the budget is spent.

    The loss and the return are logged once each, attempts only when what goes wrong changes.

    Args:
        budget: How often, at which pace.
        clock: Seconds on a clock that only runs forward.
        random: Where the jitter comes from.
    """

    def __init__(
        self,
        budget: ReopenBudget,
        *,
        clock: Callable[[], float] = monotonic,
        random: Random | None = None,
    ) -> None:
        self._budget = budget
        self._clock = clock
        self._random = Random() if random is None else random
        self._opened_s = clock()
        self.attempts = 0
        """Attempts since the source was last healthy."""
        self.attempts_ever = 0
        self.returns = 0
        """How often it came back."""

    def frame_came(self) -> None:
        """Tell that frames flow: after a while, the attempts are given back."""
        if self.attempts and self._clock() - self._opened_s > self._budget.healthy_s:
            self.attempts = 0

    def open_again(self, source: Source, failure: SourceError, stop: Event) -> bool:
        """Close a source and open it again, pausing before each attempt.

        Args:
            source: The one that failed.
            failure: How.
            stop: Ends the wait.

        Returns:
            False if `stop` was set meanwhile.

        Raises:
            SourceError: The budget is spent; the message has the last failure.
        """
        logger.warning("%s; trying to open it again", failure)
        source.close()
        while self.attempts < self._budget.attempts:
            self.attempts += 1
            self.attempts_ever += 1
            if stop.wait(self._budget.pause_before(self.attempts, self._random.random())):
                return False
            try:
                source.open()
            except SourceError as error:
                source.close()  # whatever half of it was opened
                if str(error) != str(failure):
                    logger.info("attempt %d: %s", self.attempts, error)
                failure = error
                continue
            self._opened_s = self._clock()
            self.returns += 1
            logger.info("%s: is back after attempt %d", source.name, self.attempts)
            return True
        raise SourceError(
            f"{failure} (given up after {self.attempts} attempts to open it again)"
        ) from failure
