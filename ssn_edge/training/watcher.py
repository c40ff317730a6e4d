"""Who looks on while a run trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ssn_edge.training.trainer import Progress


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who looks on: called with progress, asked whether to stop.

    Args:
        on_message: A line for people.
        on_cache: Pictures cached and in all.
        on_step: After each step.
        should_stop: Asked between two steps.
        save_every_s: Seconds between two saves of the unfinished state.
        tensorboard: Write events for TensorBoard into the run's folder.
    """

    on_message: Callable[[str], None] = lambda message: None
    on_cache: Callable[[int, int], None] = lambda done, count: None
    on_step: Callable[[Progress], None] = lambda progress: None
    should_stop: Callable[[], bool] = lambda: False
    save_every_s: float = 120.0
    tensorboard: bool = False


class Alarm:
    """Tells when a time has passed since it last did."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the time has passed; if so it starts again."""
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True
