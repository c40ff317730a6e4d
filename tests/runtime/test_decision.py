"""The decision rule: at the threshold fails, and nothing that is wrong passes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssn_edge_runtime.decision import (
    LARGEST_LOGIT,
    Decision,
    Judgement,
    Reason,
    ReviewZone,
    ScoringMethod,
    ScoringRule,
    Thresholds,
    Verdict,
    decide,
    normalised_score,
    unknown,
)
from ssn_edge_runtime.errors import ConfigError, ScoreError
from ssn_edge_runtime.preprocess import Geometry

SIZE_HW = (32, 40)
GEOMETRY = Geometry(SIZE_HW)

PLAIN = (ScoringRule.CLASSIFICATION, ScoringRule.MAP_MAX)
COMBINED = ScoringRule(ScoringMethod.COMBINED, 0.5, 2.0, 3.0)

logits = st.floats(-LARGEST_LOGIT, LARGEST_LOGIT, width=32)


def judgement(
    classification: float = 0.0, map_max: float = 0.0, *, pixel_threshold: float = 0.0
) -> Judgement:
    """One pixel has the map's maximum, all others lie far below."""
    anomaly_map = np.full(SIZE_HW, -LARGEST_LOGIT, dtype=np.float32)
    anomaly_map[3, 4] = map_max
    mask = (anomaly_map >= np.float32(pixel_threshold)).astype(np.uint8)
    return Judgement(classification, map_max, anomaly_map, mask)


def judged(
    found: Judgement,
    thresholds: Thresholds,
    rule: ScoringRule = ScoringRule.MAP_MAX,
    frame_size_hw: tuple[int, int] = SIZE_HW,
) -> Decision:
    return decide(
        found, thresholds=thresholds, rule=rule, geometry=GEOMETRY, frame_size_hw=frame_size_hw
    )


@given(score=logits, rule=st.sampled_from(PLAIN))
def test_a_score_at_the_threshold_fails(score: float, rule: ScoringRule) -> None:
    decision = judged(judgement(score, score), Thresholds(score, 0.0), rule)
    assert decision.verdict is Verdict.FAIL
    assert decision.score == 0.5
    assert decision.raw_score == decision.threshold == score


@given(score=logits)
def test_the_next_number_below_the_threshold_passes(score: float) -> None:
    threshold = math.nextafter(score, math.inf)
    if abs(threshold) <= LARGEST_LOGIT:
        decision = judged(judgement(0.0, score), Thresholds(threshold, 0.0))
        assert decision.verdict is Verdict.PASS
        assert decision.reason is Reason.NONE


@given(score=logits, thresholds=st.tuples(logits, logits))
def test_raising_the_threshold_never_turns_pass_into_fail(
    score: float, thresholds: tuple[float, float]
) -> None:
    low, high = sorted(thresholds)
    verdicts = [
        judged(judgement(0.0, score), Thresholds(each, 0.0)).verdict for each in (low, high)
    ]
    assert verdicts != [Verdict.PASS, Verdict.FAIL]


@given(classification=logits, map_max=logits)
def test_the_scoring_rule_picks_a_logit_or_adds_both(classification: float, map_max: float) -> None:
    found = judgement(classification, map_max)
    at_zero = Thresholds(0.0, 0.0)
    for rule, score in (
        (ScoringRule.CLASSIFICATION, classification),
        (ScoringRule.MAP_MAX, map_max),
        (COMBINED, 0.5 * classification + 2.0 * map_max + 3.0),
    ):
        decision = judged(found, at_zero, rule)
        assert decision.raw_score == score
        assert (decision.verdict is Verdict.FAIL) == (score >= 0)


@pytest.mark.parametrize(("min_area_px", "verdict"), [(4.0, Verdict.FAIL), (4.01, Verdict.PASS)])
def test_a_region_of_the_minimum_area_fails_whatever_its_score(
    min_area_px: float, verdict: Verdict
) -> None:
    thresholds = Thresholds(image=5.0, pixel=0.0, min_area_px=min_area_px)
    decision = judged(judgement(0.0, 1.0), thresholds, frame_size_hw=(64, 80))  # 1 pixel is 2 x 2
    assert decision.verdict is verdict
    assert decision.defects[0].area_px == 4.0


def test_a_minimum_area_takes_back_no_failure() -> None:
    thresholds = Thresholds(image=1.0, pixel=0.0, min_area_px=1e6)
    assert judged(judgement(0.0, 1.0), thresholds).verdict is Verdict.FAIL


@given(
    classification=st.floats(width=32),
    map_max=st.floats(width=32),
    value=st.floats(width=32),
    rule=st.sampled_from([*PLAIN, COMBINED]),
)
def test_a_value_that_is_no_logit_is_never_decided_on(
    classification: float, map_max: float, value: float, rule: ScoringRule
) -> None:
    found = judgement(classification, map_max)
    found.anomaly_map[5, 5] = value
    if all(abs(each) <= LARGEST_LOGIT for each in (classification, map_max, value)):
        return
    with pytest.raises(ScoreError, match="the engine gave"):
        judged(found, Thresholds(0.0, 0.0), rule)


@pytest.mark.parametrize("shape", [(32, 41), (31, 40), (1, 32, 40), (0, 0)])
def test_arrays_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    good = judgement()
    wrong_map = Judgement(0.0, 0.0, np.zeros(shape, np.float32), good.defect_mask)
    wrong_mask = Judgement(0.0, 0.0, good.anomaly_map, np.zeros(shape, np.uint8))
    for found in (wrong_map, wrong_mask):
        with pytest.raises(ScoreError, match="is the network's size"):
            judged(found, Thresholds(0.0, 0.0))


def test_a_mask_of_other_values_than_0_and_1_is_refused() -> None:
    found = judgement()
    found.defect_mask[0, 0] = 255
    with pytest.raises(ScoreError, match="other than 0 and 1"):
        judged(found, Thresholds(0.0, 0.0))


@pytest.mark.parametrize(("map_max", "mark"), [(-3.0, 1), (3.0, 0)])
def test_a_mask_that_contradicts_the_maximum_is_refused(map_max: float, mark: int) -> None:
    found = judgement(0.0, map_max)
    found.defect_mask[:] = mark
    with pytest.raises(ScoreError, match="empty with a map maximum of"):
        judged(found, Thresholds(4.0, 0.0))


@pytest.mark.parametrize("rule", [*PLAIN, COMBINED], ids=lambda rule: rule.value)
@pytest.mark.parametrize("stale", ["maximum", "mask", "maximum and mask"])
def test_the_last_frames_maximum_or_mask_beside_this_frames_map_is_refused(
    stale: str, rule: ScoringRule
) -> None:
    this, last = judgement(-3.0, 3.0), judgement(-3.0, -3.0)
    found = replace(
        this,
        map_max_logit=(last if "maximum" in stale else this).map_max_logit,
        defect_mask=(last if "mask" in stale else this).defect_mask,
    )
    with pytest.raises(ScoreError, match="the engine gave a ma"):
        judged(found, Thresholds(0.0, 0.0), rule)


def test_a_mask_of_another_place_than_the_map_shows_is_refused() -> None:
    found = judgement(-3.0, 3.0)
    found.defect_mask[:] = np.roll(found.defect_mask, 1, axis=0)
    with pytest.raises(ScoreError, match="is not its map"):
        judged(found, Thresholds(0.0, 0.0, min_area_px=5.0), ScoringRule.CLASSIFICATION)


def test_a_mask_a_rounding_away_from_the_maximum_is_no_contradiction() -> None:
    found = judgement(0.0, 2.001)
    found.defect_mask[:] = 0
    assert judged(found, Thresholds(4.0, 2.0)).verdict is Verdict.PASS


@given(logits=st.tuples(logits, logits), threshold=logits)
@example(logits=(-1e4, float(np.nextafter(np.float32(-1e4), np.float32(0)))), threshold=1e4)
@example(logits=(float(np.nextafter(np.float32(1e4), np.float32(0))), 1e4), threshold=-1e4)
@example(logits=(37.0, float(np.nextafter(np.float32(37), np.float32(38)))), threshold=0.0)
@example(logits=(7.9999995, 8.000001), threshold=0.0)
def test_the_normalised_score_rises_strictly_with_the_logits_of_an_engine(
    logits: tuple[float, float], threshold: float
) -> None:
    low, high = sorted(logits)
    assert 0 < normalised_score(low, threshold) <= normalised_score(high, threshold) < 1
    assert normalised_score(threshold, threshold) == 0.5
    distance = max(abs(low - threshold), abs(high - threshold))
    if high - low >= max(2**-24 * distance, 1e-9):
        assert normalised_score(low, threshold) < normalised_score(high, threshold)


@given(logit=st.floats(-1e4, 1e4), threshold=st.floats(-1e4, 1e4))
@example(logit=-1e-300, threshold=0.0)
@example(logit=math.nextafter(1.0, 0.0), threshold=1.0)
def test_the_normalised_score_is_half_or_more_exactly_from_the_threshold_on(
    logit: float, threshold: float
) -> None:
    assert (normalised_score(logit, threshold) >= 0.5) == (logit >= threshold)


@given(distance=st.floats(-8, 8))
def test_near_the_threshold_the_normalised_score_is_the_sigmoid(distance: float) -> None:
    assert normalised_score(distance, 0.0) == pytest.approx(1 / (1 + math.exp(-distance)))


@pytest.mark.parametrize("far", [701.0, 1e300, math.inf])
def test_the_normalised_score_overflows_nowhere(far: float) -> None:
    assert 0.99999 < normalised_score(far, 0) <= 1
    assert 0 <= normalised_score(-far, 0) < 1e-5


def test_the_stages_of_a_decision_are_told_in_their_order() -> None:
    told: list[str] = []
    found = judgement(map_max=1.0)
    decision = decide(
        found,
        thresholds=Thresholds(image=0.0, pixel=0.0),
        rule=ScoringRule.MAP_MAX,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        on_stage=told.append,
    )
    assert told == ["threshold", "defects"]
    assert decision.defects == judged(found, Thresholds(image=0.0, pixel=0.0)).defects


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1e4, -1e300])
def test_thresholds_that_no_score_can_reach_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="the image threshold is"):
        Thresholds(image=value, pixel=0.0)
    with pytest.raises(ConfigError, match="the pixel threshold is"):
        Thresholds(image=0.0, pixel=value)


@pytest.mark.parametrize("area", [0.0, -1.0, math.nan, math.inf])
def test_a_minimum_area_is_positive(area: float) -> None:
    with pytest.raises(ConfigError, match="a positive area is needed"):
        Thresholds(image=0.0, pixel=0.0, min_area_px=area)


def test_a_verdict_is_equal_to_its_text() -> None:
    assert [verdict == verdict.value for verdict in Verdict] == [True] * 3
    assert f"{Verdict.PASS}" == str(Verdict.PASS) == "pass"
    assert f"{Reason.BAD_FRAME}" == "bad_frame"
    assert unknown(Reason.DEADLINE, "late").verdict != "pass"


def test_an_unknown_has_no_score_and_no_mask() -> None:
    decision = unknown(Reason.NO_FRAME, "the cable is out", timings_ms={"total": 1.0})
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.score is None
    assert decision.raw_score is None
    assert decision.mask is None
    assert decision.camera_mask() is None
    assert decision.timings_ms == {"total": 1.0}


@pytest.mark.parametrize(
    ("method", "numbers", "message"),
    [
        (ScoringMethod.COMBINED, (0.0, 1.0, 0.0), "0.0001 to 100 is needed"),
        (ScoringMethod.COMBINED, (1.0, -1.0, 0.0), "0.0001 to 100 is needed"),
        (ScoringMethod.COMBINED, (1.0, math.nan, 0.0), "0.0001 to 100 is needed"),
        (ScoringMethod.COMBINED, (1.0, 101.0, 0.0), "0.0001 to 100 is needed"),
        (ScoringMethod.COMBINED, (1e-300, 1e-300, 0.0), "0.0001 to 100 is needed"),
        (ScoringMethod.COMBINED, (1.0, 1.0, -20_001.0), "out of its logits' reach"),
        (ScoringMethod.COMBINED, (1.0, 1.0, math.inf), "offset inf"),
        (ScoringMethod.MAP_MAX, (1.0, 1.0, 0.0), "weights of its own"),
        (ScoringMethod.CLASSIFICATION, (1.0, 0.0, 2.0), "weights of its own"),
    ],
)
def test_numbers_that_do_not_fit_the_method_are_refused(
    method: ScoringMethod, numbers: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ScoringRule(method, *numbers)


@given(score=logits, threshold=logits, zone=st.tuples(logits, logits))
def test_a_review_zone_takes_a_pass_away_and_never_gives_one(
    score: float, threshold: float, zone: tuple[float, float]
) -> None:
    low, high = sorted(zone)
    if low == high:
        return
    found, at = judgement(0.0, score), Thresholds(threshold, 0.0)
    plain = judged(found, at)
    reviewed = decide(
        found,
        thresholds=at,
        rule=ScoringRule.MAP_MAX,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        review=ReviewZone(low, high),
    )
    if low <= score < high:
        assert (reviewed.verdict, reviewed.reason) == (Verdict.UNKNOWN, Reason.REVIEW)
    else:
        assert reviewed.verdict is plain.verdict


def test_a_large_defect_in_the_review_zone_fails() -> None:
    decision = decide(
        judgement(0.0, 1.0),
        thresholds=Thresholds(image=2.0, pixel=0.0, min_area_px=1.0),
        rule=ScoringRule.MAP_MAX,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        review=ReviewZone(0.5, 3.0),
    )
    assert decision.verdict is Verdict.FAIL


@pytest.mark.parametrize("zone", [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, 2e4)])
def test_a_review_zone_that_holds_nothing_is_refused(zone: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="review zone"):
        ReviewZone(*zone)
