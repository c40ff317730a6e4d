"""A threshold by cost or F1 is best on its parts, and its bound does not come from luck."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_calibrate.best_threshold import (
    BoundFrom,
    Costs,
    best_threshold,
    f1_gain,
    point_at,
)
from ssn_edge_calibrate.groups import first_half, highest_of_groups, lowest_of_groups
from ssn_edge_calibrate.operating_point import Kind, Sample
from ssn_edge_runtime.errors import CalibrationError, ConfigError

scores = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-5, 5, width=32), st.just(math.inf)),
    min_size=1,
    max_size=25,
)


def f1_at(sample: Sample, threshold: float) -> float:
    found = int(np.sum(sample.defects >= threshold))
    wrong = int(np.sum(sample.good >= threshold)) + int(np.sum(sample.defects < threshold))
    return 2 * found / (2 * found + wrong)


def cost_at(sample: Sample, threshold: float, costs: Costs) -> float:
    rejects, missed = np.mean(sample.good >= threshold), np.mean(sample.defects < threshold)
    return float(costs.expected(rejects, missed))


@given(scores, scores)
@settings(deadline=None)
def test_no_threshold_has_a_better_f1(good: list[float], defects: list[float]) -> None:
    sample = Sample(np.array(good), np.array(defects))
    try:
        best = f1_at(sample, best_threshold(sample, f1_gain))
    except CalibrationError:
        return
    tried = [*sample.finite, *np.nextafter(sample.finite, np.inf)]
    assert best == pytest.approx(max(f1_at(sample, each) for each in tried))


@given(scores, scores, st.floats(0.1, 50), st.floats(0.01, 0.9))
@settings(deadline=None)
def test_no_threshold_costs_less(
    good: list[float], defects: list[float], miss: float, rate: float
) -> None:
    sample, costs = Sample(np.array(good), np.array(defects)), Costs(miss, 1.0, rate)
    tried = [*sample.finite, *np.nextafter(sample.finite, np.inf)]
    try:
        best = cost_at(sample, best_threshold(sample, costs.gain), costs)
    except CalibrationError:
        return
    assert best <= min(cost_at(sample, each, costs) for each in tried) + 1e-12


def test_of_several_best_thresholds_the_lowest_is_taken() -> None:
    sample = Sample(np.array([0.0, 4.0]), np.array([2.0, 6.0]))
    # Above 0 and above 4 cost the same: one false reject, or one miss.
    assert best_threshold(sample, Costs(1.0, 1.0, 0.5).gain) == 1.0


def test_passing_every_part_is_never_best() -> None:
    sample = Sample(np.array([0.0, 4.0]), np.array([2.0, 3.0]))
    with pytest.raises(CalibrationError, match="pass every part; look at the costs"):
        best_threshold(sample, Costs(1.0, 1.0, 1e-6).gain)


def test_the_best_of_one_kind_of_parts_is_refused() -> None:
    with pytest.raises(CalibrationError, match="2 good parts and 0 defects"):
        best_threshold(Sample(np.array([0.0, 4.0])), f1_gain)


@pytest.mark.parametrize(
    "wrong", [(0.0, 1.0, 0.5), (1.0, -1.0, 0.5), (1.0, 1.0, 0.0), (1.0, math.nan, 0.5)]
)
def test_costs_that_make_one_verdict_free_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError):
        Costs(*wrong)


def test_the_band_s_bound_is_wider_than_a_fixed_threshold_s_and_none_gives_none() -> None:
    sample = Sample(np.arange(300.0), np.arange(200.0, 400.0))
    fixed = point_at(290.0, sample, 0.95, BoundFrom.FIXED).bounds
    band = point_at(290.0, sample, 0.95, BoundFrom.BAND).bounds
    assert [bound.kind for bound in fixed] == [Kind.FALSE_REJECTS, Kind.MISSES]
    for one, other in zip(fixed, band, strict=True):
        assert one.wrong / one.count < one.share < other.share
        assert not one.is_promised
    assert point_at(290.0, sample, 0.95, BoundFrom.NONE).bounds == ()


def test_where_luck_chose_the_threshold_its_band_still_covers() -> None:
    """Defects and good parts of one law: any threshold that looks good is luck."""
    rng = np.random.default_rng(3)
    rounds, kept = 400, 0
    for _ in range(rounds):
        sample = Sample(rng.random(40), rng.random(40))
        try:
            threshold = best_threshold(sample, Costs(1.0, 1.0, 0.5).gain)
        except CalibrationError:
            kept += 1
            continue
        rejects, misses = point_at(threshold, sample, 0.8, BoundFrom.BAND).bounds
        kept += bool(1 - threshold <= rejects.share and threshold <= misses.share)
    assert kept / rounds >= 0.8 - 3.1 * math.sqrt(0.8 * 0.2 / rounds)


def test_a_group_counts_by_its_worst_picture() -> None:
    values = np.array([1.0, 5.0, math.inf, 2.0])
    groups = ["a", "a", "b", "c"]
    assert highest_of_groups(values, groups) == {"a": 5.0, "b": math.inf, "c": 2.0}
    assert lowest_of_groups(values, groups) == {"a": 1.0, "b": math.inf, "c": 2.0}


def test_the_halves_are_of_groups_and_do_not_depend_on_their_order() -> None:
    names = [f"part {number // 3}" for number in range(30)]
    half = first_half(names)
    assert len(half) == 5
    assert first_half(reversed(names)) == half
    assert len(first_half(names[:-3])) == 5
