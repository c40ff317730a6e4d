"""Thresholds by zone in the decision rule: they add up to no more and no less than all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.decision import (
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
)
from ssn_edge_runtime.errors import ConfigError, ScoreError
from ssn_edge_runtime.judged_zones import JudgedZone, JudgedZones
from ssn_edge_runtime.preprocess import Geometry

SIZE_HW = (8, 8)
"""Of the frames: each of their pixels covers 4 x 4 of the network's, which has no smaller input."""
GEOMETRY = Geometry((32, 32))
Array = TypeVar("Array", bound="np.ndarray[Any, Any]")
COMBINED = ScoringRule(ScoringMethod.COMBINED, 0.5, 2.0, 0.25)

# Few values, so that scores meet thresholds and pixels meet one another.
levels = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
areas = st.none() | st.sampled_from([1.0, 2.0, 3.0, 8.0, 20.0])
thresholds_of_any_kind = st.builds(Thresholds, image=levels, pixel=levels, min_area_px=areas)
maps = arrays.arrays(np.float32, SIZE_HW, elements=levels).map(lambda each: enlarged(each))
masks = arrays.arrays(np.bool_, SIZE_HW).map(lambda each: enlarged(each))
rules = st.sampled_from([ScoringRule.MAP_MAX, COMBINED])


def enlarged(grid: Array) -> Array:
    """A frame's pixels at the network's size."""
    return grid.repeat(4, axis=0).repeat(4, axis=1)


def zone(name: str | None, thresholds: Thresholds, mask: BoolMask) -> JudgedZone:
    return JudgedZone(name, thresholds.image, thresholds.pixel, thresholds.min_area_px, mask)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[JudgedZone, ...], BoolMask]:
    """Overlapping zones, perhaps a rest that overlaps them, and what they are of."""
    judged = draw(masks)
    judged[:4, :4] = True
    found: list[JudgedZone] = []
    rest = judged.copy()
    for name in ("a", "b", "c")[: draw(st.integers(0, 3))]:
        mask = draw(masks) & judged
        if mask.any():
            found.append(zone(name, draw(thresholds_of_any_kind), mask))
            rest &= ~mask
    rest |= draw(masks) & judged & draw(st.booleans())
    if rest.any():
        found.append(zone(None, draw(thresholds_of_any_kind), rest))
    return tuple(found), judged


def judgement(anomaly_map: FloatArray, pixel: float, judged: BoolMask) -> Judgement:
    """What a graph gives for a map."""
    mask = (anomaly_map >= np.float32(pixel)) & judged
    return Judgement(0.25, float(anomaly_map[judged].max()), anomaly_map, mask.astype(np.uint8))


def judged_with(
    anomaly_map: FloatArray,
    zones: tuple[JudgedZone, ...],
    judged: BoolMask,
    rule: ScoringRule = ScoringRule.MAP_MAX,
    *,
    general: Thresholds | None = None,
    review: ReviewZone | None = None,
) -> Decision:
    found = JudgedZones(zones, judged)
    return decide(
        judgement(anomaly_map, found.lowest_pixel, judged),
        thresholds=general or thresholds_of(zones[-1]),
        rule=rule,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        region_mask=judged,
        zones=found,
        review=review,
    )


def judged_without(
    anomaly_map: FloatArray,
    thresholds: Thresholds,
    judged: BoolMask,
    rule: ScoringRule = ScoringRule.MAP_MAX,
    review: ReviewZone | None = None,
) -> Decision:
    return decide(
        judgement(anomaly_map, thresholds.pixel, judged),
        thresholds=thresholds,
        rule=rule,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        region_mask=judged,
        review=review,
    )


def thresholds_of(each: JudgedZone) -> Thresholds:
    return Thresholds(each.image, each.pixel, each.min_area_px)


@settings(deadline=None)
@given(
    layout=layouts(),
    anomaly_map=maps,
    general=thresholds_of_any_kind,
    rule=rules,
    margins=st.none() | st.tuples(st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.5, 1.0])),
)
def test_zones_with_the_general_thresholds_change_nothing(
    layout: tuple[tuple[JudgedZone, ...], BoolMask],
    anomaly_map: FloatArray,
    general: Thresholds,
    rule: ScoringRule,
    margins: tuple[float, float] | None,
) -> None:
    """Whether they cover everything, or some of it, or overlap."""
    zones, judged = layout
    same = tuple(zone(each.name, general, each.mask) for each in zones)
    review = margins and ReviewZone(general.image - margins[0], general.image + margins[1])
    found = judged_with(anomaly_map, same, judged, rule, general=general, review=review)
    plain = judged_without(anomaly_map, general, judged, rule, review)
    assert (found.verdict, found.reason, found.raw_score, found.threshold, found.score) == (
        plain.verdict,
        plain.reason,
        plain.raw_score,
        plain.threshold,
        plain.score,
    )
    assert found.mask is not None
    assert plain.mask is not None
    assert np.array_equal(found.mask, plain.mask)
    assert tuple(replace(each, min_area_px=None) for each in found.defects) == plain.defects


@settings(deadline=None)
@given(layout=layouts(), anomaly_map=maps, rule=rules, data=st.data())
def test_lowering_a_zones_thresholds_never_turns_fail_into_pass(
    layout: tuple[tuple[JudgedZone, ...], BoolMask],
    anomaly_map: FloatArray,
    rule: ScoringRule,
    data: st.DataObject,
) -> None:
    zones, judged = layout
    place = data.draw(st.integers(0, len(zones) - 1))
    old, lower = zones[place], data.draw(thresholds_of_any_kind)
    stricter = Thresholds(
        min(old.image, lower.image),
        min(old.pixel, lower.pixel),
        min((x for x in (old.min_area_px, lower.min_area_px) if x is not None), default=None),
    )
    changed = (*zones[:place], zone(old.name, stricter, old.mask), *zones[place + 1 :])
    if judged_with(anomaly_map, zones, judged, rule).verdict is Verdict.FAIL:
        assert judged_with(anomaly_map, changed, judged, rule).verdict is Verdict.FAIL


@settings(deadline=None)
@given(layout=layouts(), anomaly_map=maps, rule=rules)
def test_a_part_passes_if_all_zones_and_the_rest_do(
    layout: tuple[tuple[JudgedZone, ...], BoolMask], anomaly_map: FloatArray, rule: ScoringRule
) -> None:
    """By score exactly; by area, what fails in one of them alone fails in all of them together."""
    zones, judged = layout
    alone = {
        each.name: judged_without(anomaly_map, thresholds_of(each), each.mask, rule)
        for each in zones
    }
    by_score = tuple(
        JudgedZone(each.name, each.image, each.pixel, None, each.mask) for each in zones
    )
    decision = judged_with(anomaly_map, by_score, judged, rule)
    passes = all(
        each.raw_score is not None
        and each.threshold is not None
        and each.raw_score < each.threshold
        for each in alone.values()
    )
    assert (decision.verdict is Verdict.PASS) == passes
    found = alone[decision.zone]
    assert (decision.raw_score, decision.threshold) == (found.raw_score, found.threshold)
    if any(each.verdict is Verdict.FAIL for each in alone.values()):
        assert judged_with(anomaly_map, zones, judged, rule).verdict is Verdict.FAIL


@settings(deadline=None)
@given(layout=layouts(), anomaly_map=maps)
def test_each_pixel_meets_the_lowest_threshold_of_its_zones(
    layout: tuple[tuple[JudgedZone, ...], BoolMask], anomaly_map: FloatArray
) -> None:
    zones, judged = layout
    decision = judged_with(anomaly_map, zones, judged)
    assert decision.mask is not None
    for row, column in np.ndindex(SIZE_HW):
        own = [each.pixel for each in zones if each.mask[row * 4, column * 4]]
        marked = decision.mask[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        assert (
            marked.all()
            == marked.any()
            == (bool(own) and anomaly_map[row * 4, column * 4] >= min(own))
        )
    # What the defects' scores say: at 0.5 and above where the pixel's own threshold is reached.
    assert all(0.5 <= each.mean <= each.peak + 1e-9 for each in decision.defects)


COLUMNS = np.indices((32, 32))[1]
LEFT, RIGHT = COLUMNS < 16, COLUMNS >= 16
ALL = LEFT | RIGHT


def spots(*levels: tuple[int, int, float]) -> FloatArray:
    anomaly_map = np.full(SIZE_HW, -5, np.float32)
    for row, column, level in levels:
        anomaly_map[row, column] = level
    return enlarged(anomaly_map)


@pytest.mark.parametrize(
    ("areas", "verdict"),
    [((3.0, 9.0), Verdict.FAIL), ((9.0, 3.0), Verdict.FAIL), ((None, 4.0), Verdict.PASS)],
)
def test_a_defect_across_a_border_meets_the_smaller_area(
    areas: tuple[float | None, float | None], verdict: Verdict
) -> None:
    zones = (
        zone("left", Thresholds(5, 0, areas[0]), LEFT),
        zone(None, Thresholds(5, 0, areas[1]), RIGHT),
    )
    decision = judged_with(spots((2, 2, 1), (2, 3, 1), (2, 4, 1)), zones, ALL)
    assert decision.verdict is verdict
    assert [each.area_px for each in decision.defects] == [3.0]


def test_a_defect_within_a_zone_meets_that_zones_area_alone() -> None:
    zones = (
        zone("left", Thresholds(5, 0, 9.0), LEFT),
        zone(None, Thresholds(5, 0, 2.0), RIGHT),
    )
    for column, verdict in ((1, Verdict.PASS), (5, Verdict.FAIL)):
        decision = judged_with(spots((2, column, 1), (2, column + 1, 1)), zones, ALL)
        assert decision.verdict is verdict


def test_the_decision_names_the_zone_that_lies_highest_above_its_threshold() -> None:
    zones = (
        zone("left", Thresholds(0.5, 9), LEFT),
        zone(None, Thresholds(3.0, 9), RIGHT),
    )
    decision = judged_with(spots((1, 1, 1.0), (1, 6, 2.0)), zones, ALL)
    assert (decision.verdict, decision.zone) == (Verdict.FAIL, "left")
    assert (decision.raw_score, decision.threshold) == (1.0, 0.5)
    decision = judged_with(spots((1, 1, 1.0), (1, 6, 4.0)), zones, ALL)
    assert (decision.zone, decision.raw_score, decision.threshold) == (None, 4.0, 3.0)
    assert decision.map_max_logit == 4.0


def test_the_review_zone_goes_with_the_threshold_that_decides() -> None:
    zones = (zone("left", Thresholds(0.5, 9), LEFT), zone(None, Thresholds(3.0, 9), RIGHT))
    review = ReviewZone(2.0, 3.5)
    found = {
        level: judged_with(
            spots((1, 1, level)), zones, ALL, general=Thresholds(3.0, 9), review=review
        )
        for level in (-0.75, -0.5, 0.5, 0.75, 1.0)
    }
    assert [each.verdict.value for each in found.values()] == [
        "pass",
        "unknown",
        "unknown",
        "unknown",
        "fail",
    ]
    assert found[0.5].reason is Reason.REVIEW


def test_a_map_maximum_a_rounding_away_is_the_score_of_the_zone_that_has_it() -> None:
    """As without zones, the graph's own number decides."""
    zones = (zone("left", Thresholds(1.0, 9), LEFT), zone(None, Thresholds(1.0, 9), RIGHT))
    found = judgement(spots((1, 1, 0.999), (1, 6, 0.5)), 9, ALL)
    decision = decide(
        replace(found, map_max_logit=1.0),
        thresholds=Thresholds(1.0, 9),
        rule=ScoringRule.MAP_MAX,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        zones=JudgedZones(zones),
    )
    assert (decision.verdict, decision.zone, decision.raw_score) == (Verdict.FAIL, "left", 1.0)


def test_a_map_that_reaches_beyond_the_graphs_maximum_scores_no_higher_anywhere() -> None:
    """A rounding: without zones it passes, and so it does with the same thresholds in zones."""
    zones = (zone("left", Thresholds(1.0, 9), LEFT), zone(None, Thresholds(1.0, 9), RIGHT))
    found = replace(judgement(spots((1, 1, 1.002), (1, 6, 1.001)), 9, ALL), map_max_logit=0.999)
    for each in (None, JudgedZones(zones)):
        decision = decide(
            found,
            thresholds=Thresholds(1.0, 9),
            rule=ScoringRule.MAP_MAX,
            geometry=GEOMETRY,
            frame_size_hw=SIZE_HW,
            zones=each,
        )
        assert (decision.verdict, decision.raw_score) == (Verdict.PASS, 0.999)


@pytest.mark.parametrize("order", [(2.0, 9.0), (9.0, 2.0)])
def test_where_zones_overlap_the_smaller_area_counts(order: tuple[float, float]) -> None:
    zones = [
        zone(name, Thresholds(5, 0, area), ALL) for name, area in zip("ab", order, strict=True)
    ]
    decision = judged_with(spots((2, 2, 1), (2, 3, 1)), tuple(zones), ALL)
    assert decision.verdict is Verdict.FAIL
    assert decision.defects[0].min_area_px == 2.0


def test_a_defects_score_is_measured_from_its_own_pixel_threshold() -> None:
    zones = (zone("left", Thresholds(9, 0), LEFT), zone(None, Thresholds(9, 3), RIGHT))
    decision = judged_with(spots((1, 1, 1.0), (1, 6, 4.0)), zones, ALL)
    assert [each.peak for each in decision.defects] == [normalised_score(1.0, 0.0)] * 2


def test_the_classification_score_is_of_the_whole_picture() -> None:
    zones = (zone("left", Thresholds(1.0, 0, 1.0), LEFT), zone(None, Thresholds(1.0, 9), RIGHT))
    rule = ScoringRule.CLASSIFICATION
    decision = judged_with(spots((1, 6, 2.0)), zones, ALL, rule)
    assert (decision.verdict, decision.zone, decision.raw_score) == (Verdict.PASS, None, 0.25)
    assert judged_with(spots((1, 1, 0.5)), zones, ALL, rule).verdict is Verdict.FAIL


def test_zones_of_something_else_than_what_is_judged_decide_nothing() -> None:
    some = Thresholds(1.0, 0)
    with pytest.raises(ConfigError, match="pass unseen"):
        JudgedZones([zone("left", some, LEFT)])
    with pytest.raises(ConfigError, match="pass unseen"):
        JudgedZones([zone("left", some, LEFT), zone(None, some, RIGHT)], LEFT)
    with pytest.raises(ConfigError, match="nothing would be judged"):
        JudgedZones([])
    for region_mask in (None, RIGHT):
        with pytest.raises(ScoreError, match="not of what the engine was told to judge"):
            decide(
                judgement(spots((1, 1, -1.0), (1, 6, -1.0)), 0, ALL),
                thresholds=some,
                rule=ScoringRule.MAP_MAX,
                geometry=GEOMETRY,
                frame_size_hw=SIZE_HW,
                region_mask=region_mask,
                zones=JudgedZones([zone("left", some, LEFT)], LEFT),
            )


def test_an_engines_mask_is_held_against_the_map_at_the_lowest_threshold() -> None:
    zones = JudgedZones((zone("left", Thresholds(5, 0), LEFT), zone(None, Thresholds(5, 3), RIGHT)))
    assert zones.lowest_pixel == 0
    wrong = judgement(spots((1, 1, 2.0), (1, 6, 4.0)), 3, ALL)  # of another threshold
    with pytest.raises(ScoreError, match="not its map"):
        decide(
            wrong,
            thresholds=Thresholds(5, 3),
            rule=ScoringRule.MAP_MAX,
            geometry=GEOMETRY,
            frame_size_hw=SIZE_HW,
            zones=zones,
        )
