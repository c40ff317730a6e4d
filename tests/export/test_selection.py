import numpy as np
import pytest

from ssn_edge_export.selection import representatives


def test_half_are_nearest_the_threshold_and_half_are_spread(rng):
    scores = rng.normal(size=500)
    chosen = representatives(scores, 1.0, 64)
    assert len(set(chosen)) == len(chosen) == 64
    near = set(np.argsort(np.abs(scores - 1.0))[:32].tolist())
    assert len(near & set(chosen)) >= 31
    gaps = np.diff(np.sort(scores[chosen]))
    assert gaps.max() < np.ptp(scores) / 8


def test_lowest_and_highest_score_are_among_a_few(rng):
    scores = rng.normal(size=100)
    chosen = representatives(scores, 0.0, 6)
    assert {int(scores.argmin()), int(scores.argmax())} < set(chosen)


@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_no_more_than_asked_for_and_no_more_than_there_are(count):
    assert sorted(representatives([0.0] * 5, 0.0, count)) == list(range(min(count, 5)))


def test_no_scores_give_no_pictures():
    assert representatives([], 0.0, 8) == []
