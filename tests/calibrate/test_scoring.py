"""The combined score: what its numbers are, and that neither logit is lost in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_runtime.decision import LARGEST_WEIGHT, ScoringMethod, ScoringRule
from ssn_edge_runtime.errors import CalibrationError, ScoreError

logits = st.floats(-50, 50, width=32)
pairs = st.lists(st.tuples(logits, logits), min_size=2, max_size=30)


def fitted(normals: list[tuple[float, float]]) -> ScoringRule:
    return fit_scoring_rule(
        ScoringMethod.COMBINED, [each[0] for each in normals], [each[1] for each in normals]
    )


@given(pairs)
def test_normal_parts_score_zero_on_average_and_each_logit_spreads_by_one_at_most(
    normals: list[tuple[float, float]],
) -> None:
    rule = fitted(normals)
    scores = [rule.score(*each) for each in normals]
    assert float(np.mean(scores)) == pytest.approx(0.0, abs=1e-6)
    spreads = np.std(np.array(normals), axis=0, ddof=1) * [rule.classification, rule.map_max]
    assert (spreads <= 1 + 1e-9).all()


@given(pairs, logits, logits, st.floats(0.25, 100))
def test_a_part_that_either_logit_finds_worse_scores_higher(
    normals: list[tuple[float, float]], classification: float, map_max: float, more: float
) -> None:
    rule = fitted(normals)
    score = rule.score(classification, map_max)
    assert rule.score(classification + more, map_max) > score
    assert rule.score(classification, map_max + more) > score


@given(pairs, st.floats(0.5, 4), st.floats(-20, 20))
def test_another_scale_of_a_logit_changes_no_score(
    normals: list[tuple[float, float]], factor: float, shift: float
) -> None:
    first = [each[0] for each in normals]
    if np.std(first, ddof=1) * min(1.0, factor) <= 2 / LARGEST_WEIGHT:
        return
    scaled = [(factor * a + shift, b) for a, b in normals]
    rule, other = fitted(normals), fitted(scaled)
    for mine, theirs in zip(normals, scaled, strict=True):
        assert rule.score(*mine) == pytest.approx(other.score(*theirs), abs=1e-6)


def test_logits_that_do_not_spread_weigh_no_more_than_a_hundred() -> None:
    rule = fitted([(1.0, -2.0), (1.0, -2.0)])
    assert (rule.classification, rule.map_max) == (LARGEST_WEIGHT, LARGEST_WEIGHT)
    assert rule.score(1.0, -2.0) == pytest.approx(0.0)


@pytest.mark.parametrize("method", [ScoringMethod.CLASSIFICATION, ScoringMethod.MAP_MAX])
def test_a_plain_method_needs_no_pictures(method: ScoringMethod) -> None:
    assert fit_scoring_rule(method, [], []).method is method


def test_one_picture_has_no_spread_and_the_logits_are_added_as_they_are() -> None:
    rule = fitted([(2.0, -1.0)])
    assert (rule.classification, rule.map_max, rule.offset) == (1.0, 1.0, -1.0)


def test_no_picture_is_too_few() -> None:
    with pytest.raises(CalibrationError, match="there is no normal picture"):
        fitted([])


def test_a_logit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ScoreError, match="NaN or infinite"):
        fitted([(0.0, 0.0), (float("nan"), 1.0)])
