"""Thresholds for a stated risk: what is promised holds, whatever the law of the scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_calibrate.operating_point import (
    Kind,
    OperatingPoint,
    Sample,
    Wish,
    fit_region,
    point_for_risk,
    wrong_at,
)
from ssn_edge_calibrate.risk_bounds import error_of, wanted_count
from ssn_edge_runtime.errors import CalibrationError, ConfigError, ScoreError

Array = npt.NDArray[np.float64]


def array(*scores: float) -> Array:
    return np.array(scores, dtype=np.float64)


def ramp(count: int, start: float = 0.0) -> Array:
    return start + np.arange(count, dtype=np.float64)


def samples(count: int, chances: Sequence[Fraction]) -> Iterator[tuple[tuple[int, ...], Fraction]]:
    """How often each value comes among `count` draws, with the chance of it."""
    for cut in itertools.combinations(range(count + len(chances) - 1), len(chances) - 1):
        edges = (-1, *cut, count + len(chances) - 1)
        times = tuple(b - a - 1 for a, b in itertools.pairwise(edges))
        chance = Fraction(math.factorial(count))
        for time, each in zip(times, chances, strict=True):
            chance *= each**time / math.factorial(time)
        yield times, chance


@pytest.mark.parametrize("worst", [3.0, math.inf], ids=["finite", "always rejected"])
@pytest.mark.parametrize(
    "chances",
    [
        (Fraction(7, 10), Fraction(2, 10), Fraction(1, 10)),
        (Fraction(1, 2), Fraction(2, 5), Fraction(1, 10)),
    ],
)
def test_with_ties_the_promise_is_kept_as_often_as_said(
    chances: tuple[Fraction, ...], worst: float
) -> None:
    """All samples of a law on three values, each with its chance: no simulation."""
    values = (1.0, 2.0, worst)
    for count, share, confidence in itertools.product((4, 9, 14), (0.15, 0.3, 0.6), (0.5, 0.8)):
        wish = Wish(max_false_reject=share, confidence=confidence)
        broken = Fraction(0)
        for times, chance in samples(count, chances):
            good = np.repeat(values, times)
            try:
                point = point_for_risk(Sample(good), wish)
            except CalibrationError:
                continue  # nothing is promised
            beyond = sum(c for c, v in zip(chances, values, strict=True) if v >= point.image)
            broken += chance * (beyond > Fraction(repr(share)))
        assert broken <= 1 - Fraction(repr(confidence))


def test_of_two_joint_promises_both_hold_as_often_as_said() -> None:
    chances, values = (Fraction(6, 10), Fraction(3, 10), Fraction(1, 10)), (1.0, 2.0, 3.0)
    wish = Wish(max_false_reject=0.35, min_caught=0.6, confidence=0.6)
    broken = total = Fraction(0)
    for times, chance in samples(7, chances):
        for others, other_chance in samples(6, chances):
            # Defects have the same law, turned round and 1 higher.
            good, defects = np.repeat(values, times), 5 - np.repeat(values, others)
            try:
                point = point_for_risk(Sample(good, defects), wish)
            except CalibrationError:
                continue
            total += chance * other_chance
            beyond = sum(c for c, v in zip(chances, values, strict=True) if v >= point.image)
            missed = sum(c for c, v in zip(chances, values, strict=True) if 5 - v < point.image)
            if beyond > Fraction(35, 100) or missed > Fraction(4, 10):
                broken += chance * other_chance
    assert 0 < broken <= Fraction(4, 10)
    assert total > Fraction(1, 10)


def test_a_score_and_a_region_fitted_together_break_the_promise_no_more_often() -> None:
    """A law on pairs: score and area go together only at times."""
    values = ((1.0, 0.0), (3.0, 0.0), (1.0, 9.0), (3.0, 9.0))
    chances = (Fraction(6, 10), Fraction(2, 10), Fraction(15, 100), Fraction(5, 100))
    share, confidence, count = 0.35, 0.7, 10
    error = 1 - Fraction(repr(confidence))
    broken = carried = Fraction(0)
    for times, chance in samples(count, chances):
        pairs = np.repeat(values, times, axis=0)
        score, area = fit_region(Sample(pairs[:, 0]), pairs[:, 1], share, error)
        carried += chance
        beyond = sum(c for c, v in zip(chances, values, strict=True) if v[0] > score or v[1] > area)
        broken += chance * (beyond > Fraction(repr(share)))
    assert 0 < broken <= error
    assert carried == 1


def test_in_simulation_two_thresholds_for_one_promise_keep_it_as_often_as_said() -> None:
    """Score and area uniform and independent, so the true share is known; one promise for both."""
    share, error, rounds = 0.1, error_of(0.9), 4000
    count = wanted_count(share, error, thresholds=2)
    rng = np.random.default_rng(11)
    kept = 0
    for _ in range(rounds):
        scores, areas = rng.random((2, count))
        score, area = fit_region(Sample(scores), areas, share, error)
        kept += bool(1 - score * area <= share)
    margin = 3.1 * math.sqrt(0.9 * 0.1 / rounds)
    assert 0.9 - margin <= kept / rounds <= 0.9 + 0.02 + margin  # 38 parts: 0.9 to the next rank


LAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy": lambda rng, n: rng.standard_t(1, size=n),
    "coarse": lambda rng, n: np.round(rng.normal(size=n), 1),
    "some always rejected": lambda rng, n: np.where(
        rng.random(n) < 0.01, np.inf, rng.exponential(size=n)
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_in_simulation_the_promise_is_kept_as_often_as_said(law: str) -> None:
    """The true share is counted on a million parts; 99.9 % margin of the simulation itself."""
    rng = np.random.default_rng(7)
    truth = np.sort(LAWS[law](rng, 1_000_000))
    wish = Wish(max_false_reject=0.03, confidence=0.9)
    rounds, kept = 1500, 0
    for _ in range(rounds):
        try:
            point = point_for_risk(Sample(LAWS[law](rng, 200)), wish)
        except CalibrationError:
            kept += 1  # nothing was promised
            continue
        beyond = truth.size - np.searchsorted(truth, point.image, side="left")
        kept += bool(beyond / truth.size <= 0.03)
    assert kept / rounds >= 0.9 - 3.1 * math.sqrt(0.9 * 0.1 / rounds)


def test_598_good_parts_carry_half_a_percent_and_597_do_not() -> None:
    wish = Wish(max_false_reject=0.005)
    point = point_for_risk(Sample(ramp(598)), wish)
    assert point.image > 597
    assert [(b.share, b.count, b.wrong) for b in point.bounds] == [(0.005, 598, 0)]
    with pytest.raises(CalibrationError, match=r"597 pictures .* 0.5 % .* 95 %.*: 598 are wanted"):
        point_for_risk(Sample(ramp(597)), wish)


def test_the_threshold_lies_half_way_above_the_rank() -> None:
    point = point_for_risk(Sample(ramp(473)), Wish(max_false_reject=0.01))
    assert point.image == 471.5  # one of 473 may lie above
    assert point.bounds[0].wrong == 1


def test_with_no_good_part_the_number_that_is_wanted_is_said() -> None:
    with pytest.raises(CalibrationError, match=r"^0 pictures of good parts .* 299 are wanted"):
        point_for_risk(Sample(array()), Wish(max_false_reject=0.01))


def test_good_parts_that_no_threshold_passes_count_as_false_rejects() -> None:
    good = np.concatenate([ramp(470), array(math.inf, math.inf, math.inf)])
    sample = Sample(good, causes="bad_exposure 3")
    with pytest.raises(CalibrationError, match=r"3 of 473 .*bad_exposure 3.* room for 1: .* 773 "):
        point_for_risk(sample, Wish(max_false_reject=0.01))
    assert point_for_risk(Sample(good[:-2]), Wish(max_false_reject=0.02)).bounds[0].wrong >= 1


@pytest.mark.parametrize(("count", "share"), [(58, None), (59, 0.05), (93, 0.05)])
def test_a_caught_share_is_promised_by_the_ranks_of_defects(
    count: int, share: float | None
) -> None:
    sample = Sample(array(), ramp(count, 10))
    wish = Wish(min_caught=0.95)
    if share is None:
        with pytest.raises(CalibrationError, match=r"58 pictures of defects .* 59 are wanted"):
            point_for_risk(sample, wish)
        return
    point = point_for_risk(sample, wish)
    missed = int(np.sum(sample.defects < point.image))
    assert missed == {59: 0, 93: 1}[count]
    assert point.bounds[0].kind is Kind.MISSES
    assert point.bounds[0].share == pytest.approx(share)


def test_two_promises_share_the_error_between_them() -> None:
    wish = Wish(max_false_reject=0.01, min_caught=0.95)
    assert wish.error == Fraction(1, 40)
    sample = Sample(ramp(368), ramp(72, 400))
    point = point_for_risk(sample, wish)
    assert 367 < point.image <= 400
    assert point.image == pytest.approx((367 + 400) / 2)
    assert [bound.error for bound in point.bounds] == [Fraction(1, 40)] * 2
    with pytest.raises(CalibrationError, match=r"97\.5 % confidence: 368 are wanted"):
        point_for_risk(Sample(ramp(367), sample.defects), wish)


def test_promises_that_no_threshold_keeps_are_refused_with_what_one_would_leave() -> None:
    sample = Sample(ramp(100), ramp(100, 50))
    with pytest.raises(
        CalibrationError, match=r"no threshold keeps both.*of 100 defects are caught"
    ):
        point_for_risk(sample, Wish(max_false_reject=0.05, min_caught=0.95))


def test_defects_that_are_rejected_anyway_leave_the_threshold_to_the_good_parts() -> None:
    sample = Sample(ramp(200), np.full(100, math.inf))
    point = point_for_risk(sample, Wish(max_false_reject=0.05, min_caught=0.9))
    assert point.image < 200
    assert point.bounds[1].wrong == 0
    only = point_for_risk(sample, Wish(min_caught=0.9))
    assert only.image > 199


def test_a_review_zone_reaches_from_the_good_parts_side_to_the_caught_side() -> None:
    sample = Sample(ramp(400), ramp(100, 500))
    wish = Wish(max_false_reject=0.02, min_caught=0.9, review_caught=True)
    point = point_for_risk(sample, wish)
    assert point.review is not None
    low, high = point.review
    assert point.image == low
    assert {bound.kind for bound in point.bounds} == {Kind.FALSE_REJECTS, Kind.UNSURE}
    assert int(np.sum(sample.good >= low)) == point.bounds[0].wrong <= 3
    assert int(np.sum(sample.defects < high)) == point.bounds[1].wrong <= 4
    with pytest.raises(CalibrationError, match="no threshold keeps both"):
        point_for_risk(Sample(ramp(400), ramp(100, 50)), wish)


def test_a_stated_share_goes_to_review_and_counts_as_false_rejects() -> None:
    sample = Sample(ramp(1000))
    point = point_for_risk(sample, Wish(max_false_reject=0.05, review_share=0.04))
    assert point.review is not None
    whole, outright = point.bounds
    assert (whole.kind, whole.share) == (Kind.FALSE_REJECTS, 0.05)
    assert (outright.kind, outright.share) == (Kind.FALSE_FAILS, pytest.approx(0.01))
    assert whole.wrong > outright.wrong == int(np.sum(sample.good >= point.review[1]))
    few = Sample(ramp(200))
    with pytest.raises(CalibrationError, match=r"do not tell 5.*% false rejects from"):
        point_for_risk(few, Wish(max_false_reject=0.05, review_share=0.0001))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"max_false_reject": 0.0},
        {"min_caught": 1.0},
        {"max_false_reject": 0.01, "review_caught": True},
        {"max_false_reject": 0.01, "review_share": 0.01},
        {"min_caught": 0.9, "review_share": 0.01},
        {"max_false_reject": 0.01, "confidence": 1.0},
    ],
)
def test_wishes_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Wish(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [math.nan, -math.inf, 1e39])
def test_scores_that_no_threshold_can_meet_are_refused(bad: float) -> None:
    with pytest.raises(ScoreError, match="NaN, -infinity or beyond float32"):
        Sample(array(0, bad))


def test_a_threshold_that_no_engine_could_reach_is_refused() -> None:
    with pytest.raises(CalibrationError, match="beyond what an engine may give"):
        point_for_risk(Sample(np.full(300, 2e4)), Wish(max_false_reject=0.01))


any_scores = st.lists(
    st.one_of(st.floats(-9e3, 9e3), st.integers(-2, 2).map(float), st.just(math.inf)),
    min_size=0,
    max_size=60,
)


@given(any_scores, any_scores, st.sampled_from([0.1, 0.3, None]), st.sampled_from([0.6, 0.8, None]))
@settings(deadline=None, max_examples=300)
def test_whatever_the_scores_a_point_is_what_its_ranks_allow_or_a_refusal(
    good: list[float], defects: list[float], share: float | None, caught: float | None
) -> None:
    if share is None and caught is None:
        return
    sample = Sample(array(*good), array(*defects))
    try:
        point: OperatingPoint = point_for_risk(sample, Wish(share, caught, confidence=0.8))
    except CalibrationError:
        return
    assert point.image == float(np.float32(point.image))
    for bound in point.bounds:
        assert wrong_at(sample, bound.kind, point.image) == (bound.count, bound.wrong)
        assert bound.wrong <= bound.share * bound.count
