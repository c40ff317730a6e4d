"""From a mask to boxes, areas and scores in camera pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssn_edge_runtime.arrays import BoolMask
from ssn_edge_runtime.defects import find_defects
from ssn_edge_runtime.normalised import normalised_score
from ssn_edge_runtime.preprocess import Geometry, mask_to_frame

SIZE_HW = (32, 40)
masks = hnp.arrays(np.bool_, SIZE_HW, elements=st.booleans(), fill=st.just(False))
sides = st.integers(1, 300)


def test_no_mask_no_defects() -> None:
    empty = np.zeros(SIZE_HW, dtype=np.bool_)
    nothing = np.zeros(SIZE_HW, dtype=np.float32)
    assert find_defects(empty, nothing, pixel_threshold=0.0, region_xywh=(0, 0, 40, 32)) == ()


def test_a_region_has_box_area_peak_and_mean_in_camera_pixels() -> None:
    mask = np.zeros(SIZE_HW, dtype=np.bool_)
    mask[2:4, 10:13] = True
    anomaly_map = np.full(SIZE_HW, 9, dtype=np.float32)
    anomaly_map[2:4, 10:13] = [[1, 2, 3], [4, 5, 6]]
    (defect,) = find_defects(mask, anomaly_map, pixel_threshold=1.0, region_xywh=(100, 200, 80, 96))
    assert defect.box_xyxy == (120, 206, 126, 212)
    assert defect.area_px == 6 * 2 * 3
    assert defect.peak == pytest.approx(normalised_score(6, 1))
    assert defect.mean == pytest.approx(normalised_score(3.5, 1))


def test_regions_that_touch_at_a_corner_are_one_and_the_largest_comes_first() -> None:
    mask = np.zeros(SIZE_HW, dtype=np.bool_)
    mask[0, 0] = True
    mask[10, 10] = mask[11, 11] = True
    found = find_defects(
        mask, np.zeros(SIZE_HW, np.float32), pixel_threshold=0.0, region_xywh=(0, 0, 40, 32)
    )
    assert [(each.box_xyxy, each.area_px) for each in found] == [
        ((10, 10, 12, 12), 2.0),
        ((0, 0, 1, 1), 1.0),
    ]


@given(mask=masks, x=sides, y=sides, width=sides, height=sides, seed=st.integers(0, 9))
def test_the_areas_sum_to_the_masks_and_the_boxes_hold_it(
    mask: BoolMask, x: int, y: int, width: int, height: int, seed: int
) -> None:
    anomaly_map = np.random.default_rng(seed).normal(size=SIZE_HW).astype(np.float32)
    defects = find_defects(
        mask, anomaly_map, pixel_threshold=-9.0, region_xywh=(x, y, width, height)
    )
    pixel_area = width * height / (SIZE_HW[0] * SIZE_HW[1])
    assert sum(each.area_px for each in defects) == pytest.approx(mask.sum() * pixel_area)
    assert [each.area_px for each in defects] == sorted(
        (each.area_px for each in defects), reverse=True
    )
    geometry = Geometry(SIZE_HW, roi_xywh=(x, y, width, height))
    outside = mask_to_frame(mask, geometry, (y + height + 5, x + width + 5))
    for each in defects:
        left, top, right, bottom = each.box_xyxy
        assert x <= left < right <= x + width
        assert y <= top < bottom <= y + height
        assert 0 <= each.mean <= each.peak <= 1
        outside[top:bottom, left:right] = False
    assert not outside.any()


@given(mask=masks, width=sides, height=sides, seed=st.integers(0, 9))
def test_every_region_is_what_opencvs_statistics_and_a_look_at_it_alone_give(
    mask: BoolMask, width: int, height: int, seed: int
) -> None:
    anomaly_map = np.random.default_rng(seed).normal(size=SIZE_HW).astype(np.float32)
    found = find_defects(mask, anomaly_map, pixel_threshold=0.5, region_xywh=(0, 0, width, height))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    # Regions of one area stay in the order of OpenCV's labels.
    expected = [1 + int(i) for i in np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")]
    assert len(found) == len(expected) == count - 1
    for defect, label in zip(found, expected, strict=True):
        left, top, box_width, box_height, area = (int(value) for value in stats[label])
        assert defect.box_xyxy == (
            left * width // SIZE_HW[1],
            top * height // SIZE_HW[0],
            -(-(left + box_width) * width // SIZE_HW[1]),
            -(-(top + box_height) * height // SIZE_HW[0]),
        )
        assert defect.area_px == area * width * height / (SIZE_HW[0] * SIZE_HW[1])
        logits = anomaly_map[labels == label].astype(np.float64)
        assert defect.peak == normalised_score(float(logits.max()), 0.5)
        assert defect.mean == pytest.approx(normalised_score(float(logits.mean()), 0.5), rel=1e-12)


def test_mask_and_map_may_be_views() -> None:
    mask, anomaly_map = np.zeros((40, 64), np.bool_), np.zeros((40, 64), np.float32)
    mask[5:9, 8:16] = True
    anomaly_map[5:9, 8:16] = np.arange(32).reshape(4, 8)
    seen = [
        find_defects(of_mask, of_map, pixel_threshold=0.0, region_xywh=(0, 0, 40, 64))
        for of_mask, of_map in (
            (mask.T[::2], anomaly_map.T[::2]),
            (mask.T[::2].copy(), anomaly_map.T[::2].copy()),
        )
    ]
    assert seen[0] == seen[1] != ()


def test_a_defect_holds_plain_numbers() -> None:
    mask = np.ones(SIZE_HW, np.bool_)
    (defect,) = find_defects(
        mask, mask.astype(np.float32), pixel_threshold=1.0, region_xywh=(0, 0, 7, 9)
    )
    assert {type(side) for side in defect.box_xyxy} == {int}
    assert {type(value) for value in (defect.area_px, defect.peak, defect.mean)} == {float}


def test_a_box_at_the_far_edge_does_not_leave_the_frame() -> None:
    mask = np.zeros((32, 320), dtype=np.bool_)
    mask[:, 100:180] = True  # 180 * (432 / 320) is more than 243 in floating point
    (defect,) = find_defects(
        mask, np.zeros((32, 320), np.float32), pixel_threshold=0.0, region_xywh=(0, 0, 432, 32)
    )
    assert defect.box_xyxy == (135, 0, 243, 32)


def test_many_regions_are_each_listed_once() -> None:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[::2, ::2] = True
    anomaly_map = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    found = find_defects(mask, anomaly_map, pixel_threshold=0.0, region_xywh=(0, 0, 64, 64))
    assert len(found) == 32 * 32
    peaks = {each.box_xyxy[:2]: each.peak for each in found}
    for (left, top), peak in peaks.items():
        assert peak == pytest.approx(normalised_score(float(anomaly_map[top, left]), 0))


def test_an_area_that_is_a_whole_number_comes_out_as_that_number() -> None:
    mask = np.zeros((48, 64), dtype=np.bool_)
    mask[10:22, 20:29] = True  # 108 pixels, of 110 x 128 / (48 x 64) camera pixels each
    (defect,) = find_defects(
        mask, mask.astype(np.float32), pixel_threshold=1.0, region_xywh=(0, 0, 110, 128)
    )
    assert defect.area_px == 495
