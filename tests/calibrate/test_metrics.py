from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from ssn_edge_calibrate import (
    ImageMetrics,
    Metrics,
    PixelMetrics,
    aupro,
    auroc,
    average_precision,
    image_metrics,
    metrics,
    pixel_auroc,
    pixel_average_precision,
    pixel_metrics,
    precision_recall_points,
    roc_points,
)
from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.errors import ScoreError

Pictures = tuple[list[FloatArray], list[BoolMask]]

labelled_scores = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3).map(float)), min_size=2, max_size=40
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def brute_force_aupro(maps: list[FloatArray], masks: list[BoolMask], max_fpr: float) -> float:
    """The definition, threshold by threshold and region by region."""
    structure = np.ones((3, 3), dtype=int)
    values, truth = np.stack(maps), np.stack(masks)
    regions = []
    for index, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=structure)
        regions += [(index, labelled == number) for number in range(1, count + 1)]
    xs, ys = [0.0], [0.0]
    for threshold in np.unique(values)[::-1]:
        covered = values >= threshold
        xs.append(float(covered[~truth].mean()))
        ys.append(float(np.mean([covered[index][region].mean() for index, region in regions])))
    end = float(np.interp(max_fpr, xs, ys))
    kept = [(x, y) for x, y in zip(xs, ys, strict=True) if x <= max_fpr] + [(max_fpr, end)]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(kept))
    return area / max_fpr


def some_pictures(seed: int, *, levels: int | None = None, count: int = 4) -> Pictures:
    """Maps that are higher on blobs, of about `levels` values if given; the first is normal."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(count):
        blobs = ndimage.gaussian_filter(rng.normal(size=(17, 23)), 1.5)
        mask = np.zeros((17, 23), dtype=bool) if index == 0 else blobs > 0.25
        anomaly_map = rng.normal(size=mask.shape) + 1.2 * mask
        if levels is not None:
            anomaly_map = np.round(anomaly_map * levels / 6)
        maps.append(anomaly_map.astype(np.float32))
        masks.append(mask)
    return maps, masks


def flat(arrays: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.concatenate([array.ravel() for array in arrays])


@given(labelled_scores)
@settings(deadline=None)
def test_image_metrics_equal_those_of_scikit_learn_also_with_ties(
    pairs: list[tuple[int, float]],
) -> None:
    labels, scores = zip(*pairs, strict=True)
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_image_metrics_equal_those_of_scikit_learn_on_random_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 500)
    scores = rng.normal(size=500) + labels
    result = image_metrics(labels, scores)
    assert result.i_auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert result.ap_det == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert (result.normal, result.anomalous) == (np.sum(labels == 0), np.sum(labels == 1))


@given(labelled_scores)
@settings(deadline=None)
def test_the_curves_pass_through_the_points_of_scikit_learn(
    pairs: list[tuple[int, float]],
) -> None:
    labels, scores = zip(*pairs, strict=True)
    x, y, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc_points(labels, scores), np.column_stack([x, y]), atol=1e-12)
    precision, recall, _ = precision_recall_curve(labels, scores)
    expected = np.column_stack([recall, precision])[-2::-1]  # without its invented last point
    np.testing.assert_allclose(precision_recall_points(labels, scores), expected, atol=1e-12)


@pytest.mark.parametrize("levels", [None, 2, 8, 40])
@pytest.mark.parametrize("seed", range(3))
def test_pixel_metrics_equal_those_of_scikit_learn(seed: int, levels: int | None) -> None:
    maps, masks = some_pictures(seed, levels=levels)
    expected_ap = average_precision_score(flat(masks), flat(maps))
    assert pixel_auroc(maps, masks) == pytest.approx(
        roc_auc_score(flat(masks), flat(maps)), abs=1e-9
    )
    assert pixel_average_precision(maps, masks) == pytest.approx(expected_ap, abs=1e-9)


@pytest.mark.parametrize("levels", [None, 1, 2, 8, 40])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_aupro_equals_a_loop_over_all_thresholds_and_regions(
    seed: int, levels: int | None, max_fpr: float
) -> None:
    maps, masks = some_pictures(seed, levels=levels)
    expected = brute_force_aupro(maps, masks, max_fpr)
    assert aupro(maps, masks, max_fpr) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.integers(-2, 2), min_size=32, max_size=32),
    st.lists(st.booleans(), min_size=32, max_size=32).filter(lambda mask: 0 < sum(mask) < 32),
)
@settings(deadline=None)
def test_aupro_equals_the_loop_on_any_tied_map(values: list[int], truth: list[bool]) -> None:
    maps = list(np.array(values, dtype=np.float32).reshape(2, 4, 4))
    masks = list(np.array(truth).reshape(2, 4, 4))
    assert aupro(maps, masks) == pytest.approx(brute_force_aupro(maps, masks, 0.3), abs=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("levels", [None, 8])
def test_the_size_of_a_chunk_changes_no_metric(
    monkeypatch: pytest.MonkeyPatch, chunk: int, levels: int | None
) -> None:
    maps, masks = some_pictures(3, levels=levels)
    whole = pixel_metrics(maps, masks)
    monkeypatch.setattr(metrics, "PIXELS_A_CHUNK", chunk)
    assert pixel_metrics(maps, masks).to_dict() == pytest.approx(whole.to_dict(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_rising_transform_changes_no_metric(seed: int) -> None:
    maps, masks = some_pictures(seed, levels=40)
    transformed = [np.exp(anomaly_map / 20).astype(np.float32) for anomaly_map in maps]
    assert pixel_metrics(transformed, masks) == pixel_metrics(maps, masks)


def test_a_perfect_map_gets_the_full_marks() -> None:
    _, masks = some_pictures(1)
    maps = [mask.astype(np.float32) for mask in masks]
    result = pixel_metrics(maps, masks)
    assert (result.p_auroc, result.ap_loc) == (1.0, 1.0)
    assert result.aupro == pytest.approx(1.0, abs=1e-12)


def test_a_map_that_is_the_same_everywhere_gets_what_chance_gets() -> None:
    maps, masks = some_pictures(2)
    constant = [np.zeros_like(anomaly_map) for anomaly_map in maps]
    result = pixel_metrics(constant, masks)
    assert result.p_auroc == 0.5
    assert result.aupro == pytest.approx(0.15)


def test_minus_zero_and_zero_are_a_tie() -> None:
    mask = np.array([[True, False, False, True]])
    plus = np.zeros((1, 4), dtype=np.float32)
    minus = np.array([[-0.0, 0.0, -0.0, 0.0]], dtype=np.float32)
    assert pixel_metrics([minus], [mask]) == pixel_metrics([plus], [mask])


def test_regions_that_touch_at_a_corner_are_one() -> None:
    mask = np.eye(6, dtype=bool)
    assert pixel_metrics([mask.astype(np.float32)], [mask]).regions == 1


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    mask = np.zeros((20, 20), dtype=bool)
    mask[0, 0] = mask[10:, 10:] = True
    anomaly_map = np.zeros((20, 20), dtype=np.float32)
    anomaly_map[10:, 10:] = 1.0  # only the large region is seen
    # Overlap is 1/2 from the first threshold on, and rises to 1 with the whole picture.
    assert aupro([anomaly_map], [mask]) == pytest.approx(0.5 + 0.5 * 0.15)


def test_pictures_of_different_sizes_are_pooled() -> None:
    maps, masks = some_pictures(4)
    maps[1], masks[1] = maps[1][:9, :11], masks[1][:9, :11]
    expected = roc_auc_score(flat(masks), flat(maps))
    assert pixel_auroc(maps, masks) == pytest.approx(expected, abs=1e-9)


def test_a_stack_is_as_good_as_a_list() -> None:
    maps, masks = some_pictures(5)
    assert pixel_metrics(np.stack(maps), np.stack(masks)) == pixel_metrics(maps, masks)


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_an_image_metric_without_meaning_is_none_and_the_counts_say_why(labels: list[int]) -> None:
    result = image_metrics(labels, [0.5] * len(labels))
    assert result == ImageMetrics(None, None, labels.count(0), labels.count(1))
    assert roc_points(labels, [0.5] * len(labels)) == ()
    assert precision_recall_points(labels, [0.5] * len(labels)) == ()


def test_a_pixel_metric_without_meaning_is_none_and_the_counts_say_why() -> None:
    anomaly_map = np.zeros((4, 4), dtype=np.float32)
    nothing, everything = np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)
    assert pixel_metrics([], []) == PixelMetrics(None, None, None, 0, 0)
    assert pixel_metrics([anomaly_map], [nothing]) == PixelMetrics(None, None, None, 1, 0)
    assert pixel_metrics([anomaly_map], [everything]) == PixelMetrics(None, None, None, 1, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_its_place(bad: float) -> None:
    with pytest.raises(ScoreError, match="picture 1 "):
        auroc([0, 1], [0.0, bad])
    maps = [np.zeros((2, 2), dtype=np.float32), np.full((2, 2), bad, dtype=np.float32)]
    with pytest.raises(ScoreError, match="map of picture 1 "):
        pixel_metrics(maps, [np.eye(2, dtype=bool)] * 2)


def test_what_does_not_fit_together_is_refused() -> None:
    anomaly_map, mask = np.zeros((2, 2), dtype=np.float32), np.eye(2, dtype=bool)
    with pytest.raises(ValueError, match="one of each a picture"):
        auroc([0, 1], [0.0])
    with pytest.raises(ValueError, match="neither 0"):
        auroc([0, 2], [0.0, 1.0])
    with pytest.raises(ValueError, match="1 maps and 2 masks"):
        pixel_metrics([anomaly_map], [mask, mask])
    with pytest.raises(ValueError, match="shape"):
        pixel_metrics([anomaly_map], [mask[:1]])
    with pytest.raises(ValueError, match="the mask bool"):
        pixel_metrics([anomaly_map], [mask.astype(np.uint8)])
    with pytest.raises(ValueError, match="float64"):
        pixel_metrics([anomaly_map.astype(np.float64)], [mask])
    with pytest.raises(ValueError, match="max_fpr"):
        aupro([anomaly_map], [mask], 0.0)


def test_metrics_become_a_dictionary_of_plain_numbers() -> None:
    maps, masks = some_pictures(6)
    image = image_metrics([0, 1], [0.0, 1.0])
    numbers = Metrics(image, image, image, pixel_metrics(maps, masks)).to_dict()
    assert list(numbers) == ["classification", "map_max", "decided", "pixel"]
    assert numbers["classification"] == {"i_auroc": 1.0, "ap_det": 1.0, "normal": 1, "anomalous": 1}
    assert all(type(value) in (int, float) for value in numbers["pixel"].values())
