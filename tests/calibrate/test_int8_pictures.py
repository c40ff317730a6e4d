"""INT8 takes its ranges from enough different pictures of the user's own, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_edge_calibrate.int8_pictures import MIN_INT8_PICTURES, checked_pictures
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import CalibrationError

SIZE = (6, 5)


def different(count: int) -> list[ByteImage]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def test_the_smallest_number_of_pictures_is_enough() -> None:
    found = checked_pictures(different(MIN_INT8_PICTURES), size_hw=SIZE)
    assert len(found.pixels) == MIN_INT8_PICTURES
    assert (found.copies, found.blank) == (0, 0)


@pytest.mark.parametrize("count", [0, 1, MIN_INT8_PICTURES - 1])
def test_too_few_pictures_are_refused_with_the_number_wanted(count: int) -> None:
    with pytest.raises(CalibrationError, match=f"{MIN_INT8_PICTURES} or more .* there are {count}"):
        checked_pictures(different(count), size_hw=SIZE)


def test_copies_do_not_count() -> None:
    pictures = different(MIN_INT8_PICTURES - 1)
    with pytest.raises(CalibrationError, match=r"besides 7 copies"):
        checked_pictures([*pictures, *(each.copy() for each in pictures[:7])], size_hw=SIZE)


def test_pictures_of_one_colour_do_not_count() -> None:
    blank = [np.full((*SIZE, 3), (value, 7, 9), np.uint8) for value in range(100)]
    with pytest.raises(CalibrationError, match=r"there are 0 \(besides 100 of one colour\)"):
        checked_pictures(blank, size_hw=SIZE)


def test_one_picture_again_and_again_is_refused() -> None:
    with pytest.raises(CalibrationError, match="there are 1 "):
        checked_pictures(different(1) * 100, size_hw=SIZE)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((*SIZE, 3), np.float32),
        np.zeros((5, 6, 3), np.uint8),
        np.zeros(SIZE, np.uint8),
    ],
)
def test_a_picture_of_another_form_is_refused_by_its_number(wrong: ByteImage) -> None:
    pictures = different(MIN_INT8_PICTURES)
    with pytest.raises(CalibrationError, match="picture 33 for INT8"):
        checked_pictures([*pictures, wrong], size_hw=SIZE)


def test_neither_order_nor_copies_change_what_is_taken() -> None:
    pictures = different(MIN_INT8_PICTURES + 3)
    once = checked_pictures(pictures, size_hw=SIZE)
    again = checked_pictures([*reversed(pictures), pictures[4]], size_hw=SIZE)
    assert again.sha256 == once.sha256
    assert again.copies == 1
    for one, other in zip(once.pixels, again.pixels, strict=True):
        assert np.array_equal(one, other)
