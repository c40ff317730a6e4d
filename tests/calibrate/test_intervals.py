"""Intervals are exact where they say so, and hold the truth as often as they say, simulated."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from ssn_edge_calibrate import Interval, bootstrap, image_intervals, image_metrics, rate_of
from ssn_edge_calibrate.exact_interval import CONFIDENCE, exact_interval
from ssn_edge_calibrate.intervals import effective_count, score_interval

# A simulated coverage is off by chance: four deviations of a share of 0.95 in so many trials.
RATE_TRIALS, CURVE_TRIALS = 1000, 250


def exact(hits: int, count: int) -> Interval:
    return Interval(*exact_interval(hits, count))


def margin(trials: int) -> float:
    return 4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials)


def test_a_rate_of_nothing_has_no_interval() -> None:
    found = rate_of([])
    assert (found.share, found.interval, found.count) == (None, None, 0)


@pytest.mark.parametrize("true", [0.01, 0.1, 0.5, 0.97])
def test_the_exact_interval_covers_the_true_rate_no_less_than_it_says(true: float) -> None:
    """Summed over all outcomes, so without a margin."""
    count = 60
    hits = np.arange(count + 1)
    covered = [true in exact(int(each), count) for each in hits]
    assert stats.binom.pmf(hits, count, true)[covered].sum() >= CONFIDENCE


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("true", [0.03, 0.3, 0.9])
def test_the_interval_of_grouped_pictures_covers_whether_or_not_groups_agree(
    size: int, true: float
) -> None:
    rng = np.random.default_rng(size)
    parts = 40
    groups = np.repeat(np.arange(parts), size).tolist()
    seen: dict[tuple[int, ...], bool] = {}
    for agreement in (0.05, 0.95):
        # Beta-binomial: each part has a rate of its own.
        scale = (1 - agreement) / agreement
        rates = rng.beta(true * scale, (1 - true) * scale, (RATE_TRIALS, parts))
        covered = 0
        for of_trial in rng.binomial(size, rates):
            key = tuple(sorted(of_trial.tolist()))
            if key not in seen:
                hits = np.arange(size) < np.array(key)[:, None]
                interval = rate_of(hits.ravel(), groups).interval
                assert interval is not None
                seen[key] = true in interval
            covered += seen[key]
        assert covered / (RATE_TRIALS) >= CONFIDENCE - margin(RATE_TRIALS)


def test_pictures_as_if_independent_would_cover_far_too_little() -> None:
    """So the test above can fail, and groups must be named."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        hits = np.repeat(rng.random(40) < 0.3, 6)
        interval = rate_of(hits).interval
        assert interval is not None
        covered += 0.3 in interval
    assert covered / 400 < 0.7


def test_six_pictures_that_always_agree_count_as_one() -> None:
    values = np.repeat([1.0, 0.0, 1.0, 1.0], 6)
    groups = np.repeat(list("abcd"), 6).tolist()
    assert effective_count(values, groups) == pytest.approx(4)
    assert effective_count(np.ones(24), groups) == pytest.approx(4)
    assert effective_count(values) == 24
    single = [None] * 24
    assert effective_count(values, single) == pytest.approx(24)
    assert rate_of(values > 0, groups).interval == exact(3, 4)


def test_one_group_a_picture_is_wanted() -> None:
    with pytest.raises(ValueError, match="3 groups and 2 pictures"):
        rate_of([True, False], ["a", "b", "c"])


Trial = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], list[int]]


def some_scores(
    rng: np.random.Generator, normal: int, anomalous: int, shift: float, size: int, agreement: float
) -> Trial:
    """Normal laws; pictures of a part, `size` each, share a part of their deviation."""
    labels = np.repeat([0, 1], [normal, anomalous])
    groups = np.arange(labels.size) // size
    common = rng.normal(size=groups[-1] + 1)[groups]
    own = rng.normal(size=labels.size)
    scores = math.sqrt(agreement) * common + math.sqrt(1 - agreement) * own + shift * labels
    return labels, scores, groups.tolist()


@pytest.mark.parametrize(
    ("normal", "anomalous", "shift", "size", "agreement"),
    [(40, 20, 1.5, 1, 0.0), (40, 20, 3.0, 1, 0.0), (60, 30, 2.0, 3, 0.7)],
    ids=["as it is usual", "near perfect", "grouped"],
)
def test_auroc_and_ap_are_covered_no_less_often_than_stated(
    normal: int, anomalous: int, shift: float, size: int, agreement: float
) -> None:
    rng = np.random.default_rng(1)
    labels, scores, _ = some_scores(rng, 10_000 * normal, 10_000 * anomalous, shift, 1, 0.0)
    true = image_metrics(labels, scores)
    assert true.i_auroc is not None
    assert true.ap_det is not None
    covered = np.zeros(4)
    for _ in range(CURVE_TRIALS):
        labels, scores, groups = some_scores(rng, normal, anomalous, shift, size, agreement)
        found = image_intervals(labels, scores, groups)
        resampled = bootstrap.resampled_metrics(labels, [scores], groups)[0]
        low, high = bootstrap.percentiles(resampled)
        assert found.i_auroc is not None
        assert found.ap_det is not None
        covered += [
            true.i_auroc in found.i_auroc,
            true.ap_det in found.ap_det,
            low[0] <= true.i_auroc <= high[0],
            low[1] <= true.ap_det <= high[1],
        ]
    covered /= CURVE_TRIALS
    assert covered[0] >= CONFIDENCE - margin(CURVE_TRIALS)
    assert covered[1] >= CONFIDENCE - margin(CURVE_TRIALS)
    # The bootstrap alone does not: this is why it is not alone.
    assert covered[2:].min() < CONFIDENCE - margin(CURVE_TRIALS) / 2


def test_a_perfect_separation_is_not_a_certain_one() -> None:
    found = image_intervals([0] * 20 + [1] * 10, [*range(20), *range(100, 110)])
    assert found.i_auroc is not None
    assert found.ap_det is not None
    assert 0.7 < found.i_auroc.low < 0.9
    assert 0.6 < found.ap_det.low < 0.9
    assert found.i_auroc.high == found.ap_det.high == 1


def test_metrics_that_are_not_defined_have_no_interval() -> None:
    found = image_intervals([0, 0], [1.0, 2.0])
    assert found.to_dict() == {"i_auroc": None, "ap_det": None}


def test_the_same_pictures_give_the_same_interval_in_any_scale() -> None:
    rng = np.random.default_rng(3)
    labels, scores, groups = some_scores(rng, 20, 10, 1.0, 2, 0.5)
    once = image_intervals(labels, scores, groups)
    assert once == image_intervals(labels, 3 * scores - 7, groups)
    assert once != image_intervals(labels, scores)


labelled = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3).map(float)), min_size=2, max_size=30
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


@given(labelled, st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_a_resample_is_measured_as_if_its_pictures_were_there_so_often(
    pairs: list[tuple[int, float]], row: int
) -> None:
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs])
    weights = next(iter(bootstrap.drawn_weights(labels)))[row].astype(int)
    drawn = np.repeat(np.arange(labels.size), weights)
    found = bootstrap.resampled_metrics(labels, [scores])[0, row]
    assert found[0] == pytest.approx(roc_auc_score(labels[drawn], scores[drawn]), abs=1e-12)
    expected = average_precision_score(labels[drawn], scores[drawn])
    assert found[1] == pytest.approx(expected, abs=1e-12)


@given(labelled)
@settings(deadline=None, max_examples=40)
def test_the_average_precision_is_the_mean_of_the_precisions_at_the_defects(
    pairs: list[tuple[int, float]],
) -> None:
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs])
    mean = bootstrap.precisions(labels, scores).mean()
    assert mean == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_groups_are_drawn_whole_and_both_labels_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0])
    groups = ["a", "a", None, "b", "b", "c", "c", None]
    monkeypatch.setattr(bootstrap, "_CELLS_A_CHUNK", 100 * labels.size)
    chunks = list(bootstrap.drawn_weights(labels, groups))
    assert [each.shape for each in chunks] == [(100, labels.size)] * 10
    weights = np.concatenate(chunks)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, 5] == weights[:, 6]).all()
    assert (weights[:, labels == 0].sum(axis=1) > 0).all()
    assert (weights[:, labels == 1].sum(axis=1) > 0).all()
    assert (weights[:, [2, 7]] != weights[:, [0, 0]]).any()  # a None is a group of its own


def test_wilson_s_interval_is_scipy_s() -> None:
    expected = stats.binomtest(7, 30).proportion_ci(CONFIDENCE, method="wilson")
    found = score_interval(7 / 30, 30)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
