from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.supervision import RestartBudget

steps = st.lists(st.floats(0, 40), max_size=60)


@given(steps=steps, restarts=st.integers(0, 5), window_s=st.floats(1, 50))
def test_no_window_ever_holds_more_restarts_than_the_budget(
    steps: list[float], restarts: int, window_s: float
) -> None:
    budget, now_s, granted = RestartBudget(restarts, window_s), 0.0, []
    for step in steps:
        now_s += step
        left = budget.left(now_s)
        wait_s = budget.next_free_s(now_s)
        assert wait_s == 0 if left > 0 else wait_s >= 0
        is_granted = budget.spend(now_s)
        assert is_granted == (left > 0)
        if is_granted:
            granted.append(now_s)
        assert budget.left(now_s) == left - is_granted
    for at in granted:
        assert sum(at <= other and other - at < window_s for other in granted) <= restarts


@given(steps=steps, restarts=st.integers(1, 5), window_s=st.floats(1, 50))
def test_a_restart_is_allowed_again_when_it_says_so(
    steps: list[float], restarts: int, window_s: float
) -> None:
    budget, now_s = RestartBudget(restarts, window_s), 0.0
    for step in steps:
        now_s += step
        if not budget.spend(now_s):
            now_s += math.nextafter(budget.next_free_s(now_s), math.inf) + 1e-6
            assert budget.spend(now_s)


def test_no_restarts_is_a_budget_that_gives_up_at_once() -> None:
    budget = RestartBudget(0, 10)
    assert not budget.spend(0)
    assert budget.next_free_s(0) == math.inf


def test_a_clock_that_steps_back_frees_nothing() -> None:
    budget = RestartBudget(1, 10)
    assert budget.spend(100)
    assert not budget.spend(-1000)
    assert not budget.spend(109)
    assert budget.spend(110)


@pytest.mark.parametrize("arguments", [(-1, 10), (1, 0), (1, math.inf), (1, math.nan)])
def test_a_budget_that_is_none_is_refused(arguments: tuple[int, float]) -> None:
    with pytest.raises(ConfigError):
        RestartBudget(*arguments)
