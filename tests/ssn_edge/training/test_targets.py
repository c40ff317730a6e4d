"""Dilation, distance weights and reduction of real masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssn_edge.training.targets import (
    blank_target,
    dilate_mask,
    distance_weights,
    target_from_mask,
)
from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.preprocess import Geometry


def mask_of(size_hw: tuple[int, int], *boxes_xywh: tuple[int, int, int, int]) -> BoolMask:
    mask = np.zeros(size_hw, dtype=np.bool_)
    for x, y, width, height in boxes_xywh:
        mask[y : y + height, x : x + width] = True
    return mask


def test_a_region_of_one_pixel_weighs_3_and_the_background_1() -> None:
    weight = distance_weights(mask_of((5, 6), (2, 3, 1, 1)))
    assert weight[3, 2] == 3.0
    assert (np.delete(weight.ravel(), 3 * 6 + 2) == 1.0).all()


def test_the_rim_of_a_large_region_weighs_near_nothing_and_its_centre_3() -> None:
    weight = distance_weights(mask_of((61, 61), (10, 10, 41, 41)))
    assert weight[10, 30] == pytest.approx(3 / 21**2)
    assert weight[30, 30] == 3.0
    assert weight[9, 30] == 1.0


def test_each_region_is_measured_by_its_own_depth() -> None:
    weight = distance_weights(mask_of((40, 60), (2, 2, 21, 21), (40, 10, 5, 5)))
    assert weight[12, 12] == 3.0
    assert weight[12, 42] == 3.0
    assert weight[2, 12] == pytest.approx(3 / 11**2)
    assert weight[10, 42] == pytest.approx(3 / 3**2)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = mask_of((20, 20), (2, 2, 9, 9), (11, 11, 1, 1))
    assert distance_weights(mask)[11, 11] < 3.0


def weights_by_hand(mask: BoolMask) -> FloatArray:
    weight = np.ones(mask.shape)
    regions, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    for region in range(1, count + 1):
        inside = np.argwhere(regions == region)
        outside = np.argwhere(regions != region)
        if len(outside) == 0:  # beyond the picture
            outside = np.argwhere(np.pad(np.zeros(mask.shape), 1, constant_values=1)) - 1
        distances = [min(np.hypot(*(each - other)) for other in outside) for each in inside]
        for place, distance in zip(inside, distances, strict=True):
            weight[tuple(place)] = 3 * (distance / max(distances)) ** 2
    return weight.astype(np.float32)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))))
@settings(deadline=None, max_examples=80)
def test_weights_are_those_of_a_loop_over_regions_and_pixels(mask: BoolMask) -> None:
    np.testing.assert_allclose(distance_weights(mask), weights_by_hand(mask), rtol=1e-5)


def test_a_mask_grows_by_three_camera_pixels_each_way() -> None:
    grown = dilate_mask(mask_of((20, 30), (10, 8, 1, 1)))
    assert np.array_equal(grown, mask_of((20, 30), (7, 5, 7, 7)))
    assert np.array_equal(dilate_mask(mask_of((9, 9), (0, 0, 1, 1))), mask_of((9, 9), (0, 0, 4, 4)))


def test_the_target_is_the_mask_at_feature_resolution() -> None:
    mask = mask_of((128, 128), (32, 64, 32, 16))
    target = target_from_mask(
        mask, geometry=Geometry((64, 64)), grid_hw=(16, 16), align_corners=False, weighted=False
    )
    assert np.array_equal(target.mask, mask_of((16, 16), (4, 8, 4, 2)))
    assert (target.weight == 1).all()
    assert target.known


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("width", [6, 7, 13, 14, 18, 26])
def test_half_of_a_bilinear_reduction_counts_as_defective(width: int, align_corners: bool) -> None:
    mask = mask_of((32, 32), (0, 0, width, 32))
    target = target_from_mask(
        mask,
        geometry=Geometry((32, 32)),
        grid_hw=(8, 8),
        align_corners=align_corners,
        weighted=False,
    )
    places = (
        np.arange(8) * 31 / 7 if align_corners else (np.arange(8) + 0.5) * 4 - 0.5
    )  # in input pixels
    wanted = np.interp(places, np.arange(32), (np.arange(32) < width).astype(float)) >= 0.5
    assert np.array_equal(target.mask, np.repeat(wanted[None], 8, axis=0))


def test_weights_of_the_target_come_from_the_camera_mask() -> None:
    mask = mask_of((96, 96), (20, 20, 40, 40))
    target = target_from_mask(
        mask, geometry=Geometry((96, 96)), grid_hw=(24, 24), align_corners=True, weighted=True
    )
    full = distance_weights(mask)
    places = np.arange(24) * 95 / 23
    for row, column in [(0, 0), (9, 9), (5, 9), (12, 7)]:
        top, left = int(places[row]), int(places[column])
        patch = full[top : top + 2, left : left + 2].astype(float)
        down, right = places[row] - top, places[column] - left
        wanted = np.array([1 - down, down])[: patch.shape[0]] @ patch
        wanted = wanted @ np.array([1 - right, right])[: patch.shape[1]]
        assert target.weight[row, column] == pytest.approx(wanted, rel=1e-4)


def test_the_region_of_interest_is_cut_from_mask_and_weights() -> None:
    mask = mask_of((100, 120), (50, 40, 20, 20))
    whole = Geometry((64, 64), (40, 20, 64, 64))
    target = target_from_mask(
        mask, geometry=whole, grid_hw=(16, 16), align_corners=False, weighted=True
    )
    cut = mask[20:84, 40:104]
    same = target_from_mask(
        cut, geometry=Geometry((64, 64)), grid_hw=(16, 16), align_corners=False, weighted=True
    )
    assert np.array_equal(target.mask, same.mask)
    assert np.allclose(target.weight, same.weight)
    assert target.mask.any()


def test_a_defect_that_vanishes_at_feature_resolution_leaves_its_pixels_unknown() -> None:
    target = target_from_mask(
        mask_of((256, 256), (101, 101, 1, 1)),
        geometry=Geometry((64, 64)),
        grid_hw=(16, 16),
        align_corners=True,
        weighted=True,
    )
    assert not target.mask.any()
    assert not target.known


@pytest.mark.parametrize("known", [True, False])
def test_a_blank_target_has_no_defect_and_weight_1(known: bool) -> None:
    target = blank_target((4, 5), known=known)
    assert target.known is known
    assert target.mask.shape == (4, 5)
    assert not target.mask.any()
    assert (target.weight == 1).all()


def test_the_distance_is_exact_not_the_approximation_of_a_small_kernel() -> None:
    mask = mask_of((401, 401), (0, 0, 401, 401))
    mask[200, 200] = False
    weight = distance_weights(mask)
    deepest = float(np.hypot(200, 200))
    assert weight[200 + 120, 200 + 50] == pytest.approx(3 * (130 / deepest) ** 2, rel=1e-5)
    assert cv2.countNonZero((weight > 3).astype(np.uint8)) == 0
