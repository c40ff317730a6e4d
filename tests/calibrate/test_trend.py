"""A drift is called so where the pictures can tell it, and seldom where there is none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssn_edge_calibrate.exact_interval import CONFIDENCE
from ssn_edge_calibrate.trend import FEWEST_A_PART, MOST_PARTS, rank_correlation, rates_along

TRIALS = 400
MARGIN = 4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / TRIALS)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=6, max_size=30))
@settings(deadline=None, max_examples=40)
def test_the_rank_correlation_is_scipy_s_also_with_ties(pairs: list[tuple[int, int]]) -> None:
    x, y = zip(*pairs, strict=True)
    found = rank_correlation(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.value in found.interval


@pytest.mark.parametrize("size", [1, 4])
def test_no_drift_is_seldom_called_one(size: int) -> None:
    rng = np.random.default_rng(size)
    groups = np.repeat(np.arange(15), size)
    wrong = 0
    for _ in range(TRIALS):
        # Pictures of a part are alike in both: as independent ones they would show a drift.
        x, y = (rng.normal(size=15)[groups] + 0.1 * rng.normal(size=groups.size) for _ in "xy")
        found = rank_correlation(x, y, groups.tolist())
        assert found is not None
        wrong += found.is_drift
    assert wrong / TRIALS <= 1 - CONFIDENCE + MARGIN


def test_a_drift_is_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=60)
    found = rank_correlation(x, np.exp(5 * x) + rng.normal(size=60))
    assert found is not None
    assert found.is_drift
    assert found.to_dict()["is_drift"] is True


def test_too_few_parts_show_no_drift() -> None:
    assert rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert rank_correlation(range(8), range(8), ["a", "b"] * 4) is None
    assert rank_correlation([], []) is None


def test_parts_of_an_axis_hold_each_picture_once_and_one_place_is_in_one_part() -> None:
    rng = np.random.default_rng(0)
    places = rng.integers(0, 12, 90).astype(float)
    rates = rates_along(places, places > 8)
    assert len(rates) == MOST_PARTS
    assert sum(each.rate.count for each in rates) == 90
    assert sum(each.rate.hits for each in rates) == np.sum(places > 8)
    for before, after in itertools.pairwise(rates):
        assert before.high < after.low
    assert len(rates_along([1.0] * 40, [True] * 40)) == 1
    assert len(rates_along(range(FEWEST_A_PART), [True] * FEWEST_A_PART)) == 1
    assert rates_along([], []) == ()
