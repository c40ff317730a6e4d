"""What other thresholds would make of a judged picture is what the decision rule then does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_calibrate.composite import (
    area_above,
    at_pixel_threshold,
    causes,
    highest_pixel_threshold,
    part_score,
    pixels_of_area,
    reject_scores,
)
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    Reason,
    ScoringRule,
    Thresholds,
    Verdict,
    decide,
    unknown,
)
from ssn_edge_runtime.preprocess import Geometry

SIZE_HW = (32, 40)
GEOMETRY = Geometry(SIZE_HW)
FRAME_HW = (72, 100)


def decision_of(seed: int, thresholds: Thresholds, region: np.ndarray | None = None) -> Decision:
    rng = np.random.default_rng(seed)
    levels = np.round(rng.normal(size=SIZE_HW) * 2, 0).astype(np.float32)  # with many ties
    judged = np.ones(SIZE_HW, dtype=np.bool_) if region is None else region
    mask = ((levels >= np.float32(thresholds.pixel)) & judged).astype(np.uint8)
    found = Judgement(float(rng.normal()), float(levels[judged].max()), levels, mask)
    return decide(
        found,
        thresholds=thresholds,
        rule=ScoringRule.CLASSIFICATION,
        geometry=GEOMETRY,
        frame_size_hw=FRAME_HW,
        region_mask=region,
    )


@given(
    seed=st.integers(0, 10**6),
    image=st.floats(-2, 2, width=32),
    pixel=st.sampled_from([-1.0, 0.5, 1.0, 2.0, 3.0]),
    area=st.sampled_from([None, 1.0, 7.5, 15.0, 40.0, 100.0]),
)
@settings(deadline=None)
def test_a_part_does_not_pass_exactly_where_its_score_reaches_the_threshold(
    seed: int, image: float, pixel: float, area: float | None
) -> None:
    wanted = decision_of(seed, Thresholds(image, pixel, area)).verdict
    part = part_score(decision_of(seed, Thresholds(99.0, pixel)), min_area_px=area)
    (score,) = reject_scores([part], min_area_px=area)
    assert (score >= image) == (wanted is not Verdict.PASS)
    if area is None:
        return
    other = part_score(decision_of(seed, Thresholds(99.0, 0.0)), min_area_px=area)
    (score,) = reject_scores(at_pixel_threshold([other], pixel, area), min_area_px=area)
    assert (score >= image) == (wanted is not Verdict.PASS)


@given(seed=st.integers(0, 10**6), area=st.sampled_from([7.5, 30.0, 60.0]))
@settings(deadline=None)
def test_a_pixel_threshold_is_tried_within_the_judged_region_only(seed: int, area: float) -> None:
    region = np.zeros(SIZE_HW, dtype=np.bool_)
    region[12:18, 13:21] = True
    part = part_score(
        decision_of(seed, Thresholds(99.0, 0.0), region), min_area_px=area, region_mask=region
    )
    assert math.isfinite(part.pixel)
    at = decision_of(seed, Thresholds(99.0, part.pixel, area), region)
    above = float(np.nextafter(np.float32(part.pixel), np.float32(99)))
    assert at.verdict is Verdict.FAIL
    assert decision_of(seed, Thresholds(99.0, above, area), region).verdict is Verdict.PASS


def test_what_is_unknown_never_passes_and_says_why() -> None:
    frozen = part_score(unknown(Reason.BAD_EXPOSURE, "black"))
    large = part_score(decision_of(1, Thresholds(99.0, -9.0)))
    assert reject_scores([frozen, large], min_area_px=10.0).tolist() == [math.inf, math.inf]
    assert reject_scores([frozen, large]).tolist() == [math.inf, large.image]
    assert causes([frozen, frozen, large], min_area_px=10.0) == "bad_exposure 2, minimum area 1"
    assert at_pixel_threshold([frozen], 1e4, 5.0) == [frozen]


def test_a_map_with_too_few_pixels_has_no_pixel_threshold() -> None:
    levels = np.full((3, 3), -np.inf, dtype=np.float32)
    assert highest_pixel_threshold(levels, 1) == -math.inf
    levels[0, :2] = 1.0
    assert highest_pixel_threshold(levels, 2) == 1.0
    assert highest_pixel_threshold(levels, 3) == -math.inf


@given(area=st.floats(0.01, 5000))
@settings(deadline=None)
def test_the_pixels_of_an_area_are_the_fewest_that_reach_it(area: float) -> None:
    pixels = pixels_of_area(area, GEOMETRY, FRAME_HW)
    each = (72 * 100) / (32 * 40)
    assert pixels * (72 * 100) / (32 * 40) >= area
    assert pixels == 1 or (pixels - 1) * each < area


@pytest.mark.parametrize(
    ("highest", "areas", "wanted"),
    [(10.0, [4, 10, 20, math.inf], 15.0), (10.0, [10, math.inf], 11.0), (100.0, [100], 105.0)],
)
def test_a_minimum_area_lies_above_what_passes(
    highest: float, areas: list[float], wanted: float
) -> None:
    assert area_above(highest, np.array(areas, dtype=np.float64)) == wanted
