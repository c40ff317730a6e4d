"""Frame to network input and mask back to the frame: the one implementation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssn_edge_runtime.antialiased_resize import _blocks
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.preprocess import (
    FrameError,
    Geometry,
    Interpolation,
    mask_to_frame,
    preprocess,
    preprocess_mask,
)

SIZE_HW = (32, 40)
WHOLE = Geometry(SIZE_HW)


def frame_of(size_hw: tuple[int, int], seed: int = 0) -> ByteImage:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def test_the_default_is_opencvs_bit_exact_bilinear_of_the_region() -> None:
    frame = frame_of((100, 120))
    geometry = Geometry(SIZE_HW, roi_xywh=(7, 9, 90, 80))
    expected = cv2.resize(
        np.ascontiguousarray(frame[9:89, 7:97]), (40, 32), interpolation=cv2.INTER_LINEAR_EXACT
    )
    np.testing.assert_array_equal(preprocess(frame, geometry), expected)


def test_plain_bilinear_differs_by_a_level_at_most() -> None:
    frame = frame_of((100, 120))
    plain = Geometry(SIZE_HW, interpolation=Interpolation.LINEAR)
    difference = preprocess(frame, plain).astype(int) - preprocess(frame, WHOLE)
    assert abs(difference).max() <= 1


ANTIALIASED = Geometry(SIZE_HW, interpolation=Interpolation.LINEAR_ANTIALIASED)


@pytest.mark.parametrize(
    ("frame_hw", "input_hw"),
    [
        ((1024, 1280), (256, 256)),
        ((100, 120), (32, 40)),
        ((33, 1000), (64, 97)),  # grows along one axis, shrinks along the other
        ((17, 5), (64, 64)),
        ((255, 257), (256, 256)),
        ((1, 1), (32, 33)),
        ((2000, 3000), (32, 33)),
    ],
)
def test_antialiasing_is_pytorchs_but_for_the_rounding(
    frame_hw: tuple[int, int], input_hw: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    frame = frame_of(frame_hw)
    geometry = Geometry(input_hw, interpolation=Interpolation.LINEAR_ANTIALIASED)
    levels = torch.from_numpy(frame).permute(2, 0, 1)[None].double()
    wanted = torch.nn.functional.interpolate(
        levels, input_hw, mode="bilinear", antialias=True, align_corners=False
    )[0].permute(1, 2, 0)
    difference = abs(preprocess(frame, geometry).astype(float) - wanted.numpy())
    assert difference.max() <= 0.51


def test_antialiasing_sees_a_line_that_the_plain_bilinear_steps_over() -> None:
    frame = np.zeros((320, 400, 3), np.uint8)
    frame[:, ::10] = 250
    np.testing.assert_array_equal(preprocess(frame, WHOLE), 0)
    inside = preprocess(frame, ANTIALIASED)[:, 1:-1]
    assert inside.min() == inside.max() == 25


def test_antialiasing_rounds_halves_up_and_keeps_even_surfaces() -> None:
    for level in (0, 1, 127, 254, 255):
        frame = np.full((77, 131, 3), level, np.uint8)
        np.testing.assert_array_equal(preprocess(frame, ANTIALIASED), level)
    # Twice as many pixels: between two of them lie a quarter and three quarters.
    ramp = np.repeat(np.arange(0, 80, 2, dtype=np.uint8)[None], 32, axis=0)
    doubled = Geometry((32, 80), interpolation=Interpolation.LINEAR_ANTIALIASED)
    np.testing.assert_array_equal(preprocess(ramp, doubled)[0, :5, 0], [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("frame_hw", "input_hw"), [((211, 305), (32, 40)), ((64, 80), (32, 40)), ((20, 31), (64, 50))]
)
def test_antialiasing_gives_what_whole_numbers_give(
    frame_hw: tuple[int, int], input_hw: tuple[int, int]
) -> None:
    """No rounding before the last: so no machine's order of adding can change a byte."""
    frame = frame_of(frame_hw)
    rows, columns = (
        integer_weights(source, target) for source, target in zip(frame_hw, input_hw, strict=True)
    )
    sums = np.einsum("ih,jw,hwc->ijc", rows, columns, frame.astype(np.int64))
    wanted = (sums + 2**43) >> 44  # halves go up
    geometry = Geometry(input_hw, interpolation=Interpolation.LINEAR_ANTIALIASED)
    np.testing.assert_array_equal(preprocess(frame, geometry), wanted)


def integer_weights(source: int, target: int) -> np.ndarray:
    """The resize's weights of one axis, (target, source), in units of 1 / 2^22."""
    whole = np.zeros((target, source))
    for block in _blocks(source, target):
        count, taps = block.weights.shape
        whole[block.start : block.start + count, block.first : block.first + taps] = block.weights
    steps = whole * 2**22
    np.testing.assert_array_equal(steps, np.rint(steps))
    np.testing.assert_array_equal(whole.sum(axis=1), 1)
    return steps.astype(np.int64)


def test_a_frame_of_the_networks_size_comes_back_as_it_is_and_as_a_copy() -> None:
    frame = frame_of(SIZE_HW)
    for geometry in (WHOLE, ANTIALIASED, Geometry(SIZE_HW, roi_xywh=(0, 0, 40, 32))):
        pixels = preprocess(frame, geometry)
        np.testing.assert_array_equal(pixels, frame)
        assert not np.shares_memory(pixels, frame)


@pytest.mark.parametrize("interpolation", Interpolation)
def test_mono_becomes_three_equal_channels(interpolation: Interpolation) -> None:
    geometry = Geometry(SIZE_HW, interpolation=interpolation)
    frame = frame_of((50, 60))[:, :, 0]
    pixels = preprocess(frame, geometry)
    assert pixels.shape == (*SIZE_HW, 3)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[:, :, 0], pixels[:, :, 2])
    np.testing.assert_array_equal(pixels, preprocess(np.repeat(frame[:, :, None], 3, 2), geometry))


@pytest.mark.parametrize(
    "view",
    [
        np.s_[::-1],
        np.s_[:, ::-1],
        np.s_[..., ::-1],
        np.s_[::2, ::3],
        np.s_[5:60, 3:70],
    ],
)
def test_any_view_of_memory_gives_the_same_as_its_copy(view: slice) -> None:
    frame = frame_of((70, 80))[view]
    for geometry in (WHOLE, ANTIALIASED):
        pixels = preprocess(frame, geometry)
        assert pixels.flags.c_contiguous
        np.testing.assert_array_equal(pixels, preprocess(frame.copy(), geometry))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((9, 9), np.float32), "must be uint8, this one is float32"),
        (np.zeros((9, 9), np.bool_), "must be uint8, this one is bool"),
        (np.zeros((9, 9, 4), np.uint8), r"H x W x 3 or H x W, this one is \(9, 9, 4\)"),
        (np.zeros((9, 9, 1), np.uint8), "H x W x 3"),
        (np.zeros((1, 9, 9, 3), np.uint8), "H x W x 3"),
        (np.zeros(9, np.uint8), "H x W x 3"),
        (np.zeros((0, 9, 3), np.uint8), "is empty"),
    ],
)
def test_what_is_no_frame_is_refused(frame: ByteImage, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        preprocess(frame, WHOLE)


def test_a_region_beyond_the_frame_is_refused_everywhere() -> None:
    geometry = Geometry(SIZE_HW, roi_xywh=(10, 0, 31, 32))
    with pytest.raises(FrameError, match="reaches beyond a frame of 40 x 32 pixels"):
        preprocess(frame_of(SIZE_HW), geometry)
    with pytest.raises(FrameError, match="reaches beyond"):
        preprocess_mask(np.zeros(SIZE_HW, np.bool_), geometry)
    with pytest.raises(FrameError, match="reaches beyond"):
        mask_to_frame(np.zeros(SIZE_HW, np.bool_), geometry, SIZE_HW)


@pytest.mark.parametrize("size_hw", [(31, 64), (64, 8193), (0, 0)])
def test_sizes_that_no_network_takes_are_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="each side must be 32 to 8192 pixels"):
        Geometry(size_hw)


@pytest.mark.parametrize("roi", [(-1, 0, 9, 9), (0, -1, 9, 9), (0, 0, 0, 9), (0, 0, 9, -9)])
def test_an_impossible_region_is_refused(roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"is not x,y,width,height"):
        Geometry(SIZE_HW, roi_xywh=roi)


@given(
    mask=hnp.arrays(np.bool_, SIZE_HW),
    x=st.integers(0, 9),
    y=st.integers(0, 9),
    scale=st.integers(1, 5),
)
def test_a_mask_goes_to_the_frame_and_back_unchanged(
    mask: BoolMask, x: int, y: int, scale: int
) -> None:
    width, height = SIZE_HW[1] * scale, SIZE_HW[0] * scale
    geometry = Geometry(SIZE_HW, roi_xywh=(x, y, width, height))
    placed = mask_to_frame(mask, geometry, (y + height + 3, x + width + 4))
    assert placed.dtype == np.bool_
    assert placed.sum() == mask.sum() * scale**2
    np.testing.assert_array_equal(preprocess_mask(placed, geometry), mask)


@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_a_full_mask_covers_the_region_and_nothing_else(width: int, height: int) -> None:
    geometry = Geometry(SIZE_HW, roi_xywh=(2, 3, width, height))
    placed = mask_to_frame(np.ones(SIZE_HW, np.bool_), geometry, (height + 9, width + 9))
    assert placed[3 : 3 + height, 2 : 2 + width].all()
    assert placed.sum() == width * height


def test_a_mask_may_be_a_view() -> None:
    mask = np.random.default_rng(0).random((64, 80)) > 0.5
    flipped = mask[::-1, ::-1]
    np.testing.assert_array_equal(
        preprocess_mask(flipped, WHOLE), preprocess_mask(flipped.copy(), WHOLE)
    )
    small = mask[::2, ::2]
    np.testing.assert_array_equal(
        mask_to_frame(small, WHOLE, (64, 80)), mask_to_frame(small.copy(), WHOLE, (64, 80))
    )
