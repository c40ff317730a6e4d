"""Intervals of pixel-level metrics hold the truth, by group as by picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ssn_edge_calibrate.metrics import pixel_metrics
from ssn_edge_calibrate.pixel_intervals import PixelIntervals, _counted, _metrics, pixel_intervals
from ssn_edge_runtime.arrays import BoolMask, FloatArray

SIDE = 24
SAMPLES = 100
NAMES = ("p_auroc", "ap_loc", "aupro")


def draw(
    random: np.random.Generator, normal: int, defective: int, *, shots: int = 1, agreement: float
) -> tuple[list[FloatArray], list[BoolMask], list[str]]:
    """Pictures with a region or two; a part's level and its defects' are its own in all shots."""
    maps, masks, groups = [], [], []
    for part in range(normal + defective):
        level, strength = random.normal(0, agreement), random.normal(2, 3 * agreement)
        mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
        for _ in range(int(random.integers(1, 3)) if part >= normal else 0):
            row, column, side = [*random.integers(0, 16, 2).tolist(), int(random.integers(2, 8))]
            mask[row : row + side, column : column + side] = True
        for _ in range(shots):
            noise = random.normal(level, 1, (SIDE, SIDE))
            maps.append((noise + strength * mask).astype(np.float32))
            masks.append(mask)
            groups.append(f"part {part}")
    return maps, masks, groups


def test_with_each_picture_once_the_bins_give_what_was_measured() -> None:
    maps, masks, _ = draw(np.random.default_rng(1), 10, 6, agreement=0.3)
    (binned,) = _metrics(_counted(maps, masks), np.ones((1, len(maps))))
    exact = pixel_metrics(maps, masks)
    assert binned == pytest.approx([exact.p_auroc, exact.ap_loc, exact.aupro], abs=2e-3)


def test_a_picture_drawn_twice_is_two_pictures() -> None:
    maps, masks, _ = draw(np.random.default_rng(2), 5, 4, agreement=0.3)
    weights = np.array([[0, 2, 1, 0, 1, 3, 0, 1, 1]], dtype=np.float64)
    (binned,) = _metrics(_counted(maps, masks), weights)
    taken = [place for place, times in enumerate(weights[0]) for _ in range(int(times))]
    exact = pixel_metrics([maps[place] for place in taken], [masks[place] for place in taken])
    assert binned == pytest.approx([exact.p_auroc, exact.ap_loc, exact.aupro], abs=5e-3)


@pytest.mark.parametrize(("shots", "by_group"), [(1, False), (4, True)])
def test_the_truth_is_inside_as_often_as_it_is_said(shots: int, by_group: bool) -> None:
    """With a margin of four deviations; a bootstrap is not exact."""
    random = np.random.default_rng(3)
    many = draw(random, 1500, 1500, agreement=0.5)
    truth = dataclasses.asdict(pixel_metrics(*many[:2]))
    inside = dict.fromkeys(NAMES, 0)
    for _ in range(SAMPLES):
        maps, masks, groups = draw(random, 15, 15, shots=shots, agreement=0.5)
        found = pixel_intervals(
            maps, masks, pixel_metrics(maps, masks), groups if by_group else None
        )
        for name in NAMES:
            interval = getattr(found, name)
            assert interval is not None
            inside[name] += truth[name] in interval
    assert min(inside.values()) >= SAMPLES * (0.95 - 4 * (0.05 * 0.95 / SAMPLES) ** 0.5)


def test_shots_of_one_part_are_no_more_parts() -> None:
    random = np.random.default_rng(4)
    maps, masks, groups = draw(random, 10, 10, shots=6, agreement=0.5)
    measured = pixel_metrics(maps, masks)
    by_group = pixel_intervals(maps, masks, measured, groups).p_auroc
    by_picture = pixel_intervals(maps, masks, measured).p_auroc
    assert by_group is not None
    assert by_picture is not None
    assert by_group.high - by_group.low > 1.5 * (by_picture.high - by_picture.low)


def test_where_the_maps_are_perfect_it_is_not_certain() -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[3:6, 3:6] = True
    perfect = mask.astype(np.float32)
    maps, masks = [perfect] * 5, [mask] * 5
    found = pixel_intervals(maps, masks, pixel_metrics(maps, masks))
    assert found.p_auroc is not None
    assert found.p_auroc.high == 1
    assert found.p_auroc.low < 0.7


def test_of_one_defective_part_nothing_is_known() -> None:
    maps, masks, groups = draw(np.random.default_rng(5), 5, 1, shots=3, agreement=0.3)
    measured = pixel_metrics(maps, masks)
    assert pixel_intervals(maps, masks, measured, groups) == PixelIntervals()
    assert pixel_intervals(maps[:3], masks[:3], pixel_metrics(maps[:3], masks[:3])).aupro is None
