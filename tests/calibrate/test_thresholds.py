from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_calibrate import Sample, Wish, fit_thresholds, point_for_risk, threshold_by_rank
from ssn_edge_calibrate.risk_bounds import error_of, share_beyond
from ssn_edge_calibrate.thresholds import carried_threshold
from ssn_edge_runtime.errors import CalibrationError, ConfigError, ScoreError
from ssn_edge_runtime.manifest import Risk

FLOAT32_MAX = float(np.finfo(np.float32).max)

shares = st.floats(0.001, 0.999)
float32_scores = st.lists(st.floats(-(2.0**126), 2.0**126, width=32), min_size=1, max_size=60)
float64_scores = st.lists(st.floats(-1e38, 1e38), min_size=1, max_size=60)
tied_scores = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=60)
crowded_scores = st.lists(  # neighbours in float32, and between them in float64
    st.floats(1.0, 1.0 + 4 * 2.0**-23), min_size=1, max_size=60
)
any_scores = st.one_of(float32_scores, float64_scores, tied_scores, crowded_scores)


@given(any_scores, shares)
@settings(deadline=None)
def test_no_more_normals_fail_than_lie_above_the_rank(scores: list[float], share: float) -> None:
    threshold = threshold_by_rank(scores, share)
    allowed = max(0, len(scores) - threshold.rank)
    assert sum(score >= threshold.value for score in scores) <= allowed
    rounded = np.array(scores, dtype=np.float32)
    assert np.sum(rounded >= np.float32(threshold.value)) <= allowed
    assert float(np.float32(threshold.value)) == threshold.value


@given(any_scores, shares)
@settings(deadline=None)
def test_a_supported_promise_is_kept_by_the_calibration_scores(
    scores: list[float], share: float
) -> None:
    threshold = threshold_by_rank(scores, share)
    failing = sum(score >= threshold.value for score in scores)
    assert Fraction(failing, len(scores) + 1) <= Fraction(repr(share))
    assert threshold.supported == (Fraction(1, len(scores) + 1) <= Fraction(repr(share)))


@given(any_scores, shares, shares)
@settings(deadline=None)
def test_who_allows_more_false_rejects_gets_no_higher_threshold(
    scores: list[float], one: float, other: float
) -> None:
    strict = threshold_by_rank(scores, min(one, other))
    loose = threshold_by_rank(scores, max(one, other))
    assert loose.value <= strict.value


@given(any_scores, shares, st.randoms())
@settings(deadline=None)
def test_the_order_of_the_scores_does_not_matter(
    scores: list[float], share: float, random: object
) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert threshold_by_rank(shuffled, share) == threshold_by_rank(scores, share)


def test_the_threshold_lies_half_way_to_the_next_score() -> None:
    threshold = threshold_by_rank([float(score) for score in range(1, 10)], 0.2)
    assert (threshold.rank, threshold.count) == (8, 9)
    assert threshold.value == 8.5
    assert threshold.supported


def test_a_tie_at_the_rank_is_passed_over_to_the_next_higher_score() -> None:
    assert threshold_by_rank([0, 1, 1, 1, 1, 1, 1, 1, 3], 0.4).value == 2.0


@pytest.mark.parametrize(("count", "supported"), [(98, False), (99, True)])
def test_one_percent_needs_ninety_nine_normals(count: int, supported: bool) -> None:
    threshold = threshold_by_rank(np.linspace(-1, 1, count), 0.01)
    assert threshold.supported is supported
    assert threshold.smallest_supported == 1 / (count + 1)
    assert threshold.value > 1


@pytest.mark.parametrize(("count", "rank"), [(298, 299), (299, 299), (473, 472), (1000, 996)])
def test_with_a_confidence_the_rank_is_that_of_the_risk_bounds(count: int, rank: int) -> None:
    scores = np.arange(count, dtype=np.float64)
    threshold = threshold_by_rank(scores, 0.01, 0.95)
    assert (threshold.rank, threshold.supported) == (rank, count >= 299)
    assert threshold.smallest_supported == share_beyond(0, count, error_of(0.95))
    carried = carried_threshold(scores, scores, -5.0, 0.01, 0.95)
    assert carried.value > scores[min(rank, count) - 1]
    thresholds, risk = fit_thresholds(scores, scores, 0.01, 0.95)
    assert thresholds.image == thresholds.pixel == threshold.value
    assert risk == Risk(0.01, count, count >= 299, 0.95)
    if threshold.supported:
        point = point_for_risk(Sample(scores), Wish(max_false_reject=0.01, confidence=0.95))
        assert point.image == threshold.value


@pytest.mark.parametrize("count", [99, 199, 299, 699, 999, 1099])
def test_the_rank_is_that_of_the_share_as_written(count: int) -> None:
    assert threshold_by_rank(np.arange(count), 0.01).rank == (count + 1) * 99 // 100


def test_above_the_highest_score_the_margin_is_five_percent_of_its_distance_to_the_median() -> None:
    threshold = threshold_by_rank([-20.0, 0.0, 20.0], 0.01)
    assert threshold.value == 21.0
    assert threshold.rank == 4


def test_above_equal_scores_the_margin_is_a_hundredth() -> None:
    assert threshold_by_rank([2.0, 2.0], 0.01).value == pytest.approx(2.01)


def test_a_score_too_large_for_the_margin_is_still_below_the_threshold() -> None:
    score = float(np.float32(1e30))
    next_float32 = float(np.nextafter(np.float32(score), np.float32(np.inf)))
    assert threshold_by_rank([score], 0.5).value == next_float32


def test_no_normal_score_is_an_error_that_says_what_to_add() -> None:
    with pytest.raises(CalibrationError, match=r"no normal picture .* add normal pictures"):
        threshold_by_rank([])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39])
def test_a_score_that_is_no_float32_number_is_refused(bad: float) -> None:
    with pytest.raises(ScoreError, match="NaN, infinite or beyond float32"):
        threshold_by_rank([0.0, bad])


def test_a_threshold_that_nothing_could_reach_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no float32 threshold lies above"):
        threshold_by_rank([FLOAT32_MAX], 0.5)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        threshold_by_rank([0.0], share)


def test_a_threshold_becomes_a_dictionary_of_plain_numbers() -> None:
    assert threshold_by_rank([1.0, 2.0, 4.0], 0.5).to_dict() == {
        "value": 3.0,
        "rank": 2,
        "count": 3,
        "max_false_reject": 0.5,
        "supported": True,
        "confidence": None,
        "smallest_supported": 0.25,
    }


@given(float32_scores, shares, st.data())
@settings(deadline=None)
def test_a_carried_threshold_promises_what_its_own_ranks_do(
    before: list[float], share: float, data: st.DataObject
) -> None:
    noise = st.floats(-2.0, 2.0, width=32)
    scores = [score + data.draw(noise) for score in before]
    reference = threshold_by_rank(before, share).value
    carried = carried_threshold(scores, before, reference, share)
    own = threshold_by_rank(scores, share)
    assert (carried.rank, carried.count, carried.supported) == (own.rank, own.count, own.supported)
    allowed = max(0, len(scores) - own.rank)
    assert sum(score >= carried.value for score in scores) <= allowed


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60),
    shares,
    st.floats(-3, 3, width=32),
)
@settings(deadline=None)
def test_what_all_scores_moved_by_the_carried_threshold_moves_by(
    before: list[float], share: float, shift: float
) -> None:
    reference = threshold_by_rank(before, share).value
    carried = carried_threshold([each + shift for each in before], before, reference, share)
    assert carried.value == pytest.approx(reference + shift, abs=1e-4)


def test_one_picture_that_moved_does_not_move_the_carried_threshold() -> None:
    before = [float(each) for each in range(200)]
    reference = threshold_by_rank(before, 0.01).value
    moved = [*before[:-3], 190.5, 190.25, 199.0]
    assert threshold_by_rank(moved, 0.01).value < reference
    assert carried_threshold(moved, before, reference, 0.01).value == reference


def test_a_score_beyond_it_raises_the_carried_threshold() -> None:
    before = [float(each) for each in range(200)]
    reference = threshold_by_rank(before, 0.001).value
    risen = [*before[:-1], 400.0]
    assert carried_threshold(risen, before, reference, 0.001).value > 400.0


def test_scores_of_other_pictures_are_not_carried_over() -> None:
    with pytest.raises(ConfigError, match=r"2 scores are to be compared with 3; .*same pictures"):
        carried_threshold([1.0, 2.0], [1.0, 2.0, 3.0], 2.5)
