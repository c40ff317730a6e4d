"""What is judged of a frame: never too little, and never nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.decision import Judgement, ScoringRule, Thresholds, decide
from ssn_edge_runtime.errors import ConfigError, ScoreError
from ssn_edge_runtime.preprocess import Geometry
from ssn_edge_runtime.region import Region

SIZE_HW = (32, 40)
GEOMETRY = Geometry(SIZE_HW)
TRIANGLE = ((0, 0), (9, 0), (9, 9))


@given(
    frame_hw=st.tuples(st.integers(16, 200), st.integers(16, 200)),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_single_judged_pixel_is_judged_by_the_network_too(
    frame_hw: tuple[int, int], where: tuple[float, float]
) -> None:
    y, x = (int(share * (side - 1)) for share, side in zip(where, frame_hw, strict=True))
    region = Region(frame_hw, include=(((x, y), (x, y), (x, y)),))
    assert region.camera_mask(None).sum() == 1
    found = region.network_mask(GEOMETRY)
    assert found.shape == SIZE_HW
    assert found[y * SIZE_HW[0] // frame_hw[0], x * SIZE_HW[1] // frame_hw[1]]


def test_a_network_pixel_is_left_out_only_if_all_that_it_covers_is() -> None:
    excluded = ((0, 0), (20, 0), (20, 63), (0, 63))  # columns 0 to 20 of 80: 10.5 network columns
    found = Region((64, 80), exclude=(excluded,)).network_mask(GEOMETRY)
    assert not found[:, :10].any()
    assert found[:, 10:].all()


def test_holes_are_cut_out_of_what_is_included() -> None:
    square = ((10, 10), (49, 10), (49, 49), (10, 49))
    hole = ((20, 20), (29, 20), (29, 29), (20, 29))
    mask = Region((60, 60), include=(square,), exclude=(hole,)).camera_mask(None)
    assert mask.sum() == 40 * 40 - 10 * 10


def test_a_region_outside_of_the_region_of_interest_is_refused() -> None:
    region = Region((100, 100), include=(TRIANGLE,))
    with pytest.raises(ConfigError, match="judges nothing"):
        region.network_mask(Geometry(SIZE_HW, (50, 50, 40, 40)))
    with pytest.raises(ConfigError, match="does not fit the package"):
        region.network_mask(Geometry(SIZE_HW, (50, 50, 90, 40)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Region((10, 10)),
        lambda: Region((0, 10), include=(TRIANGLE,)),
        lambda: Region((10, 9), include=(TRIANGLE,)),
        lambda: Region((10, 10), include=(((0, 0), (1, 1)),)),
        lambda: Region((10, 10), mask_file="a.png"),
        lambda: Region((10, 10), mask_file="../a.png", mask_sha256="0" * 64),
        lambda: Region((10, 10), include=(TRIANGLE,), mask_file="a.png", mask_sha256="0" * 64),
    ],
)
def test_a_region_that_is_none_is_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def judgement(peak_outside: float, peak_inside: float) -> tuple[Judgement, np.ndarray]:
    """A map with a peak on each side of a region that is the right half."""
    region = np.zeros(SIZE_HW, dtype=np.bool_)
    region[:, 20:] = True
    anomaly_map = np.full(SIZE_HW, -5.0, dtype=np.float32)
    anomaly_map[3, 4], anomaly_map[3, 30] = peak_outside, peak_inside
    mask = ((anomaly_map >= 0) & region).astype(np.uint8)
    return Judgement(0.0, peak_inside, anomaly_map, mask), region


def verdict(found: Judgement, region: np.ndarray) -> str:
    decision = decide(
        found,
        thresholds=Thresholds(0.0, 0.0),
        rule=ScoringRule.MAP_MAX,
        geometry=GEOMETRY,
        frame_size_hw=SIZE_HW,
        region_mask=region,
    )
    return decision.verdict.value


def test_the_map_outside_of_the_region_decides_nothing() -> None:
    assert verdict(*judgement(peak_outside=9.0, peak_inside=-1.0)) == "pass"
    assert verdict(*judgement(peak_outside=-9.0, peak_inside=1.0)) == "fail"


def test_an_engine_that_ignored_the_region_is_found_out() -> None:
    found, region = judgement(peak_outside=9.0, peak_inside=-1.0)
    everywhere = (found.anomaly_map >= 0).astype(np.uint8)
    for wrong in (
        Judgement(0.0, 9.0, found.anomaly_map, everywhere),
        Judgement(0.0, -1.0, found.anomaly_map, everywhere),
        Judgement(0.0, 9.0, found.anomaly_map, found.defect_mask),
    ):
        with pytest.raises(ScoreError):
            verdict(wrong, region)
    # With a defect inside as well, only the mask tells.
    found, region = judgement(peak_outside=9.0, peak_inside=1.0)
    marked = Judgement(0.0, 1.0, found.anomaly_map, (found.anomaly_map >= 0).astype(np.uint8))
    with pytest.raises(ScoreError, match="told not to judge"):
        verdict(marked, region)


def test_an_empty_region_is_no_pass() -> None:
    found, region = judgement(peak_outside=-9.0, peak_inside=-1.0)
    with pytest.raises(ScoreError, match="empty"):
        verdict(found, np.zeros_like(region))


@pytest.mark.parametrize("corner", [(9.5, 0), (9.0, 0), (True, 0)])
def test_a_corner_between_two_pixels_is_refused_before_it_is_saved(
    corner: tuple[float, float],
) -> None:
    with pytest.raises(ConfigError, match="whole numbers of camera pixels"):
        Region((64, 80), include=((corner, (20, 0), (20, 20)),))  # type: ignore[arg-type]
