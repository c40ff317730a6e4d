"""Region by region: what the FROC curve and the share by size count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from ssn_edge_calibrate import Interval, false_regions_at, found_by_size, froc_points
from ssn_edge_calibrate.exact_interval import exact_interval
from ssn_edge_calibrate.region_metrics import MOST_FALSE_REGIONS, TrueRegion, true_regions
from ssn_edge_runtime.arrays import BoolMask, FloatArray

EIGHT = np.ones((3, 3), dtype=int)


def some_pictures(seed: int, count: int = 5) -> tuple[list[FloatArray], list[BoolMask]]:
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for index in range(count):
        blobs = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2)
        mask = np.zeros((40, 50), dtype=bool) if index == 0 else blobs > 0.2
        noise = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 1.5)
        maps.append((8 * noise + 1.5 * mask).astype(np.float32))
        masks.append(mask)
    return maps, masks


def by_definition(
    maps: list[FloatArray], masks: list[BoolMask], threshold: float
) -> tuple[float, float]:
    """False regions a picture and the share found, region by region."""
    false = found = total = 0
    for anomaly_map, mask in zip(maps, masks, strict=True):
        predicted, count = ndimage.label(anomaly_map >= threshold, EIGHT)
        false += sum(not mask[predicted == each].any() for each in range(1, count + 1))
        true, count = ndimage.label(mask, EIGHT)
        found += sum((anomaly_map[true == each] >= threshold).any() for each in range(1, count + 1))
        total += count
    return false / len(maps), found / total


@pytest.mark.parametrize("seed", range(3))
def test_each_point_of_the_froc_curve_is_what_a_threshold_gives(seed: int) -> None:
    maps, masks = some_pictures(seed)
    regions = true_regions(maps, masks)
    points = froc_points(maps, masks, regions)
    possible = {by_definition(maps, masks, each.highest) for each in regions}
    assert len(points) > 3
    assert points[0] == (0.0, 0.0)
    for point in points[1:]:
        assert any(point == pytest.approx(each) for each in possible)
    assert list(points) == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points)
    assert points[-1][0] <= MOST_FALSE_REGIONS
    assert false_regions_at(maps, masks, 0.5) == by_definition(maps, masks, 0.5)[0]


def test_without_a_drawn_defect_there_is_no_curve() -> None:
    maps, masks = some_pictures(0, count=1)
    assert true_regions(maps, masks) == ()
    assert froc_points(maps, masks, ()) == ()
    assert found_by_size((), 0.0) == ()


def test_regions_are_classed_by_the_side_of_a_square_as_large() -> None:
    areas = [1, 15, 16, 63, 64, 5000]
    regions = [TrueRegion(place, area, float(area)) for place, area in enumerate(areas)]
    classes = found_by_size(regions, 16.0)
    assert [(each.from_side, each.below_side, each.found.count) for each in classes] == [
        (0, 4, 2),
        (4, 8, 2),
        (8, 16, 1),
        (64, math.inf, 1),
    ]
    assert [each.found.hits for each in classes] == [0, 2, 1, 1]
    assert classes[-1].to_dict()["below_side"] is None


def test_regions_of_one_picture_or_one_part_are_not_independent() -> None:
    regions = [TrueRegion(place // 2, 9, float(place % 4 > 1)) for place in range(16)]
    (by_picture,) = found_by_size(regions, 1.0)
    assert by_picture.found.interval == Interval(*exact_interval(4, 8))
    (by_part,) = found_by_size(regions, 1.0, ["a", "b"] * 4)
    assert by_part.found.effective_count == pytest.approx(2)
