from __future__ import annotations

import logging
import threading
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.sources import Frame, ReopenBudget, Reopening, Source


class ComingAndGoing(Source):
    """Opens only at the given attempts."""

    name = "coming and going"
    is_live = True
    tells_exposure = False

    def __init__(self, opens_at: set[int], messages: tuple[str, ...] = ("is gone",)) -> None:
        self.attempts = 0
        self._opens_at = opens_at
        self._messages = messages

    def open(self) -> None:
        self.attempts += 1
        if self.attempts not in self._opens_at:
            raise SourceError(self._messages[(self.attempts - 1) % len(self._messages)])

    def read(self, timeout_s: float) -> Frame | None:
        raise AssertionError

    def close(self) -> None:
        pass


class Stop(threading.Event):
    """Notes the waits and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return False


LOST = SourceError("cable out")


def test_the_pauses_double_up_to_the_longest() -> None:
    stop = Stop()
    source = ComingAndGoing({8})
    budget = ReopenBudget(pause_s=1.0, longest_pause_s=10.0, jitter=0.0)
    assert Reopening(budget).open_again(source, LOST, stop)
    assert stop.waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]


@given(
    pause_s=st.floats(1e-3, 1e3),
    longest_s=st.floats(1e-3, 1e4),
    jitter=st.floats(0, 1),
    chance=st.floats(0, 1),
    attempt=st.integers(1, 10_000),
)
def test_a_pause_is_never_longer_than_the_longest_and_never_less_than_the_jitter_leaves(
    pause_s: float, longest_s: float, jitter: float, chance: float, attempt: int
) -> None:
    budget = ReopenBudget(pause_s=pause_s, longest_pause_s=longest_s, jitter=jitter)
    pause = budget.pause_before(attempt, chance)
    assert pause_s * (1 - jitter) * (1 - 1e-9) <= pause <= max(pause_s, longest_s)
    assert pause <= budget.pause_before(attempt + 1, chance) * (1 + 1e-9)


def test_two_stations_do_not_come_back_at_the_same_moment() -> None:
    waits = []
    for seed in (1, 2):
        stop = Stop()
        Reopening(ReopenBudget(), random=Random(seed)).open_again(ComingAndGoing({5}), LOST, stop)
        waits.append(stop.waits)
    assert all(one != other for one, other in zip(*waits, strict=True))


def test_a_spent_budget_is_an_error_with_the_last_failure() -> None:
    source = ComingAndGoing(set())
    with pytest.raises(SourceError, match=r"is gone \(given up after 3 attempts"):
        Reopening(ReopenBudget(attempts=3)).open_again(source, LOST, Stop())
    assert source.attempts == 3


def test_attempts_count_over_several_losses_until_frames_flow_for_a_while() -> None:
    now = [0.0]
    reopening = Reopening(ReopenBudget(attempts=3, healthy_s=60.0), clock=lambda: now[0])
    source = ComingAndGoing({1, 2, 3, 4})
    for _ in range(2):
        assert reopening.open_again(source, LOST, Stop())
        now[0] += 1.0
        reopening.frame_came()
    assert reopening.attempts == 2
    now[0] += 61.0
    reopening.frame_came()
    assert (reopening.attempts, reopening.attempts_ever, reopening.returns) == (0, 2, 2)


def test_a_stop_ends_the_wait() -> None:
    stop = threading.Event()
    stop.set()
    source = ComingAndGoing({1})
    assert not Reopening(ReopenBudget(pause_s=30.0)).open_again(source, LOST, stop)
    assert source.attempts == 0


def test_loss_and_return_are_logged_once_and_attempts_when_what_goes_wrong_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = ComingAndGoing({8}, ("is gone", "is gone", "is gone", "is in use", "is in use"))
    with caplog.at_level(logging.DEBUG):
        Reopening(ReopenBudget()).open_again(source, LOST, Stop())
    assert [record.getMessage() for record in caplog.records] == [
        "cable out; trying to open it again",
        "attempt 1: is gone",
        "attempt 4: is in use",
        "attempt 6: is gone",
        "coming and going: is back after attempt 8",
    ]


@pytest.mark.parametrize(
    "options",
    [{"attempts": -1}, {"pause_s": 0.0}, {"longest_pause_s": 0.0}, {"jitter": 1.5}],
)
def test_a_budget_that_would_spin_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ReopenBudget(**options)
