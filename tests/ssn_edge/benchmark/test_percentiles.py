"""What a number of times may be said to show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.benchmark.percentiles import percentiles, ratio_of


def test_percentiles_are_those_of_the_values_whatever_their_order() -> None:
    values = [float(value) for value in range(1, 201)]
    np.random.default_rng(0).shuffle(values)
    found = percentiles(values)
    assert found.count == 200
    assert found.p50 == pytest.approx(100.5)
    assert found.p95 == pytest.approx(190.05)
    assert found.p99 == pytest.approx(198.01)
    assert found.max == 200


@pytest.mark.parametrize(
    ("count", "has_p95", "has_p99"),
    [
        (1, False, False),
        (19, False, False),
        (20, True, False),
        (99, True, False),
        (100, True, True),
    ],
)
def test_a_percentile_that_no_value_can_lie_beyond_is_not_told(
    count: int, has_p95: bool, has_p99: bool
) -> None:
    found = percentiles([1.0] * count)
    assert (found.p95 is not None, found.p99 is not None) == (has_p95, has_p99)
    assert (found.p50, found.max) == (1.0, 1.0)


def test_a_ratio_is_taken_pair_by_pair_so_that_drift_does_not_count() -> None:
    drift = [1.0, 1.5, 4.0, 9.0, 2.0, 1.0, 3.0]
    found = ratio_of([(3 * each, each) for each in drift])
    assert (found.median, found.low, found.high, found.rounds) == (3.0, 3.0, 3.0, 7)


def test_the_interval_of_twelve_rounds_leaves_out_two_at_each_end() -> None:
    ratios = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]
    found = ratio_of([(ratio, 1.0) for ratio in reversed(ratios)])
    assert (found.median, found.low, found.high) == (6.5, 3.0, 10.0)


@pytest.mark.parametrize("rounds", [1, 5])
def test_fewer_than_six_rounds_have_no_interval(rounds: int) -> None:
    found = ratio_of([(2.0, 1.0)] * rounds)
    assert (found.low, found.high) == (None, None)
    assert ratio_of([(2.0, 1.0)] * 6).low == 2.0


@given(rounds=st.integers(6, 60), seed=st.integers(0, 99))
def test_the_interval_holds_the_median_and_is_of_95_percent_and_no_wider_than_needed(
    rounds: int, seed: int
) -> None:
    ratios = np.random.default_rng(seed).lognormal(size=rounds)
    found = ratio_of([(float(ratio), 1.0) for ratio in ratios])
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.median <= found.high
    below = int(np.sum(ratios < found.low))  # left out at each end
    assert below == int(np.sum(ratios > found.high))

    def miss(left_out: int) -> float:
        return 2 * sum(math.comb(rounds, k) for k in range(left_out + 1)) / 2**rounds

    assert miss(below) <= 0.05 < miss(below + 1)
