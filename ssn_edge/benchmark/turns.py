"""Blocks of all measurements in turn, so that a machine that drifts hurts all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssn_edge.benchmark.tasks import Task

ROUNDS = 12
"""Enough for a 95 % interval of a median that leaves out two rounds at each end."""
LEAST_CALLS = 3
"""However slow a call is."""
WARM_UP_SHARE = 0.1
"""Of a measurement, before its first block; it also tells how long a call takes."""
WARM_UP_CALLS = 2
"""At least: the first one may allocate and compile."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of each measurement.

    Args:
        frames: So many frames, rounded up to whole calls; None to go by `seconds`.
        seconds: About so long.
    """

    frames: int | None
    seconds: float

    def calls(self, frames_per_call: int, call_s: float) -> int:
        """How many calls that makes, where one takes so long."""
        if self.frames is not None:
            return -(-self.frames // frames_per_call)
        return max(LEAST_CALLS, round(self.seconds / max(call_s, 1e-9)))

    def is_warm(self, frames_per_call: int, times_s: Sequence[float]) -> bool:
        """Whether calls that took so long are enough of a warm-up."""
        if len(times_s) < WARM_UP_CALLS:
            return False
        if self.frames is not None:
            return len(times_s) * frames_per_call >= WARM_UP_SHARE * self.frames
        return sum(times_s) >= WARM_UP_SHARE * self.seconds


def blocks_of(calls: int, rounds: int = ROUNDS) -> list[int]:
    """Calls in each round: as even as whole calls can be, and spread over all rounds."""
    return [(number + 1) * calls // rounds - number * calls // rounds for number in range(rounds)]


def take_turns(
    tasks: Sequence[Task],
    amount: Amount,
    *,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, count: None,
    clock_s: Callable[[], float] = time.perf_counter,
) -> None:
    """Warm each measurement up, then run its blocks, round by round.

    Each round begins with another measurement: who comes first would always find the machine as
    the last one left it.

    Args:
        tasks: What is measured.
        amount: How much of each.
        on_progress: Called with stage, blocks done and blocks in all.
        clock_s: Tells how long a call takes.

    Raises:
        EngineError: An engine failed.
        ScoreError: It gave what is no judgement.
    """
    plans = []
    for number, task in enumerate(tasks):
        on_progress("warm-up", number, len(tasks))
        times_s: list[float] = []
        while not amount.is_warm(task.frames_per_call, times_s):
            start = clock_s()
            task.block(1, turn=None)
            times_s.append(clock_s() - start)
        # Without the first: it is like no other.
        call_s = statistics.median(times_s[1:])
        plans.append(blocks_of(amount.calls(task.frames_per_call, call_s)))
    done, count = 0, sum(calls > 0 for plan in plans for calls in plan)
    for number in range(ROUNDS):
        for place in range(len(tasks)):
            which = (place + number) % len(tasks)
            calls = plans[which][number]
            if calls > 0:
                on_progress("measure", done, count)
                tasks[which].block(calls, turn=number)
                done += 1
    on_progress("measure", done, count)
