"""Finite-sample bounds: held, exactly, and not one rank more cautious than they must be."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from ssn_edge_calibrate.risk_bounds import (
    allowed_above,
    error_of,
    share_beyond,
    share_beyond_any,
    tail,
    wanted_count,
)
from ssn_edge_runtime.errors import ConfigError

COUNTS = (1, 2, 10, 58, 59, 60, 298, 299, 300, 473, 597, 598, 1000, 5000, 100_000)
SHARES = (0.001, 0.005, 0.01, 0.05, 0.3, 0.9)
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.975, 0.99, 0.999)


@pytest.mark.parametrize(
    ("share", "confidence", "count"),
    [(0.005, 0.95, 598), (0.01, 0.95, 299), (0.05, 0.95, 59), (0.01, 0.99, 459), (0.5, 0.5, 1)],
)
def test_a_promise_needs_so_many_good_parts_none_of_them_rejected(
    share: float, confidence: float, count: int
) -> None:
    error = error_of(confidence)
    assert wanted_count(share, error) == count
    assert allowed_above(count, share, error) == 0
    assert allowed_above(count - 1, share, error) is None


@pytest.mark.parametrize("thresholds", [1, 2])
@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("share", SHARES)
def test_the_rank_covers_and_the_one_below_does_not(
    share: float, confidence: float, thresholds: int
) -> None:
    """The share beyond the rank above `beyond` of n is Beta(beyond + 1, n - beyond), exactly."""
    error = error_of(confidence)
    for count in COUNTS:
        allowed = allowed_above(count, share, error, thresholds=thresholds)
        beyond = -1 if allowed is None else allowed + thresholds - 1
        if beyond >= 0:
            broken = stats.beta.sf(share, beyond + 1, count - beyond)
            assert broken <= float(error) * (1 + 1e-9)
        if beyond + 1 < count and not (allowed is None and count < thresholds):
            tighter = max(beyond + 1, thresholds - 1)
            broken = stats.beta.sf(share, tighter + 1, count - tighter)
            assert tighter >= count or broken > float(error) * (1 - 1e-9)


@pytest.mark.parametrize("above", [0, 1, 5])
def test_the_wanted_count_is_the_smallest_that_allows_so_many_above(above: int) -> None:
    for share, confidence in itertools.product((0.01, 0.1), CONFIDENCES):
        error = error_of(confidence)
        count = wanted_count(share, error, above=above)
        allowed, fewer = (allowed_above(each, share, error) for each in (count, count - 1))
        assert allowed == above
        assert (-1 if fewer is None else fewer) < above


def test_where_rounding_could_turn_the_answer_whole_numbers_decide() -> None:
    """0.8 ** 3 * 0.2 ** 0 and the like hit the error exactly; in binary they lie beside it."""
    for count in range(1, 40):
        error = Fraction(4, 5) ** count  # the chance that none of n is among a fifth
        assert allowed_above(count, 0.2, error) == 0
        assert allowed_above(count, 0.2, error * (1 - Fraction(1, 10**12))) is None


def test_a_confidence_is_taken_as_it_is_written() -> None:
    assert error_of(0.95) == Fraction(1, 20)
    assert error_of(0.99, 2) == Fraction(1, 200)


@pytest.mark.parametrize("confidence", [0.0, 0.49, 1.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigError, match=r"at least 0\.5 and below 1"):
        error_of(confidence)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        allowed_above(100, share, error_of(0.95))


def test_a_promise_out_of_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match="ask for less"):
        wanted_count(1e-9, error_of(0.95))


@pytest.mark.parametrize("count", [1, 7, 300, 20_000])
@pytest.mark.parametrize("share", [1e-4, 0.01, 0.5, 0.99])
def test_the_tail_is_the_binomial_law_s(count: int, share: float) -> None:
    for most in sorted({0, 1, count // 3, count // 2, count - 1, count}):
        wanted = stats.binom.cdf(most, count, share)
        assert tail(most, count, share) == pytest.approx(wanted, rel=1e-8, abs=1e-290)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 5, 30, 200])
def test_the_share_beyond_a_fixed_threshold_covers_whatever_the_true_share(
    count: int, confidence: float
) -> None:
    """Coverage is worst just above a bound: there this number of rejects no longer covers."""
    error = error_of(confidence)
    bounds = np.array([share_beyond(above, count, error) for above in range(count + 1)])
    assert np.all(np.diff(bounds) > 0)
    assert bounds[-1] == 1
    for true in np.nextafter(bounds[:-1], 1):
        covered = float(np.sum(stats.binom.pmf(np.flatnonzero(bounds >= true), count, true)))
        assert covered >= confidence - 1e-9
        assert covered <= confidence + 1e-6  # and is no more cautious than it must be


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("count", [1, 2, 10, 40])
def test_the_band_holds_for_all_thresholds_at_once(count: int, confidence: float) -> None:
    error = error_of(confidence)
    bounds = [share_beyond_any(above, count, error) for above in range(count)]
    assert chance_that_all_hold(bounds) >= confidence
    fixed = [share_beyond(above, count, error) for above in range(count)]
    assert all(one >= other for one, other in zip(bounds, fixed, strict=True))
    if count > 1:  # for a threshold that was chosen, the bound of a fixed one would be too small
        assert chance_that_all_hold(fixed) < confidence


def chance_that_all_hold(bounds: list[float]) -> float:
    """P(the i-th smallest of n uniform numbers is at most the i-th bound, for all i), exactly."""
    count = len(bounds)
    states = {0: 1.0}  # numbers at or below the last bound: chance
    before = 0.0
    for needed, bound in enumerate(bounds, start=1):
        share = 1.0 if before >= 1 else (bound - before) / (1 - before)
        after: dict[int, float] = {}
        for below, chance in states.items():
            for more in range(count - below + 1):
                if below + more >= needed:
                    added = chance * float(stats.binom.pmf(more, count - below, min(1.0, share)))
                    after[below + more] = after.get(below + more, 0.0) + added
        states, before = after, bound
    return sum(states.values())
