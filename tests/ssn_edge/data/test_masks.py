from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data import MaskRule, detect_mask_rule, read_mask
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import PictureError

Write = Callable[..., Path]


def write_mask(path: Path, levels: ByteImage) -> Path:
    assert cv2.imwrite(str(path), levels)
    return path


def squares(*values: int) -> ByteImage:
    """A black mask with an 8 x 8 square of each value."""
    mask = np.zeros((16, 12 * len(values) + 4), np.uint8)
    for number, value in enumerate(values):
        mask[4:12, 12 * number + 4 : 12 * number + 12] = value
    return mask


@pytest.mark.parametrize(
    ("values", "above"),
    [
        ([1], 0),
        ([1, 2, 3], 0),
        ([1, 255], 0),
        ([60, 120, 180], 0),
        ([253, 254, 255], 0),
        ([255], 127),
        ([0], 0),
    ],
)
def test_squares_of_one_value_are_class_ids_unless_black_and_white(
    tmp_path: Path, values: list[int], above: int
) -> None:
    assert detect_mask_rule([write_mask(tmp_path / "m.png", squares(*values))]).above == above


@pytest.mark.parametrize("sigma", [0.6, 2.0])
def test_grey_edges_are_cut_half_way(tmp_path: Path, sigma: float) -> None:
    mask = cv2.GaussianBlur(squares(255, 255), (0, 0), sigma)
    rule = detect_mask_rule([write_mask(tmp_path / "m.png", mask)])
    assert rule.above == 127
    assert "grey edges" in rule.reason


def test_edges_from_jpeg_are_cut_half_way(tmp_path: Path) -> None:
    disc = cv2.circle(np.zeros((96, 96), np.uint8), (50, 45), 21, 255, -1)
    assert detect_mask_rule([write_mask(tmp_path / "m.jpg", disc)]).above == 127


def test_all_black_masks_do_not_hide_the_few_that_are_not(tmp_path: Path) -> None:
    paths = [write_mask(tmp_path / f"{n:03d}.png", squares(0)) for n in range(150)]
    paths.append(write_mask(tmp_path / "last.png", squares(255)))
    assert detect_mask_rule(paths).above == 127


def test_no_masks_give_a_rule_all_the_same() -> None:
    assert detect_mask_rule([]).above == 0


def test_a_mask_value_must_be_above_the_rule(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "m.png", np.array([[126, 127, 128]], np.uint8))
    mask = read_mask(path, MaskRule(127, "test"), (1, 3))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, False, True]]


def test_a_colour_mask_counts_by_its_brightest_channel(tmp_path: Path) -> None:
    levels = np.zeros((2, 2, 3), np.uint8)
    levels[0, 1] = [0, 0, 128]
    mask = read_mask(write_mask(tmp_path / "m.png", levels), MaskRule(0, "test"), (2, 2))
    assert mask.tolist() == [[False, True], [False, False]]


def test_a_mask_of_another_size_is_refused_by_name(tmp_path: Path, write_picture: Write) -> None:
    path = write_picture(tmp_path / "m.png", size_hw=(16, 20), mark=255)
    with pytest.raises(PictureError, match=r"m\.png: the mask has 20 x 16 .* picture has 40 x 32"):
        read_mask(path, MaskRule(0, "test"), (32, 40))


def test_a_16_bit_mask_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    assert cv2.imwrite(str(path), np.ones((4, 4), np.uint16))
    with pytest.raises(PictureError, match=r"m\.png: has 16 bits a channel"):
        detect_mask_rule([path])
