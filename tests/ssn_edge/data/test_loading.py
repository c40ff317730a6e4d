from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data import Item, MaskRule, check_dataset, has_pixel_truth, load_item, read_dataset
from ssn_edge_runtime.errors import PictureError

Write = Callable[..., Path]
RULE = MaskRule(0, "test")


def test_an_anomalous_picture_comes_with_its_mask(parts: Path) -> None:
    loaded = load_item(Item(parts / "b.png", 1, parts / "b_mask.png"), RULE)
    assert loaded.image.shape == (32, 40)
    assert loaded.gt_mask is not None
    assert loaded.gt_mask.sum() == 16


def test_an_empty_mask_of_an_anomalous_picture_counts_as_none(parts: Path) -> None:
    item = Item(parts / "b.png", 1, parts / "a_mask.png")
    assert load_item(item, RULE).gt_mask is None
    assert not has_pixel_truth(item, RULE)


def test_a_normal_picture_needs_no_mask_for_pixel_truth(parts: Path) -> None:
    item = Item(parts / "c.png", 0)
    gt_mask = load_item(item, RULE).gt_mask
    assert has_pixel_truth(item, RULE)
    assert gt_mask is not None
    assert not gt_mask.any()


def test_a_normal_picture_whose_mask_marks_a_defect_is_refused_by_name(parts: Path) -> None:
    with pytest.raises(PictureError, match=r"a\.png: is labelled normal, but 16 pixels of its"):
        load_item(Item(parts / "a.png", 0, parts / "b_mask.png"), RULE)


def test_a_mask_of_another_size_than_its_picture_is_refused(
    parts: Path, write_picture: Write
) -> None:
    write_picture(parts / "b_mask.png", size_hw=(32, 41), mark=255)
    with pytest.raises(PictureError, match=r"b_mask\.png: the mask has 41 x 32 pixels"):
        load_item(Item(parts / "b.png", 1, parts / "b_mask.png"), RULE)


def test_colour_and_grey_pictures_are_both_taken(parts: Path) -> None:
    assert cv2.imwrite(str(parts / "c.png"), np.zeros((8, 8, 3), np.uint8))
    assert load_item(Item(parts / "c.png", 0), RULE).image.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.ones((8, 8), np.uint16), "has 16 bits a channel"),
        (np.zeros((8, 8, 4), np.uint8), "has transparent pixels"),
    ],
)
def test_checking_a_data_set_names_the_picture_that_cannot_be_used(
    mvtec: Path, picture: np.ndarray, message: str
) -> None:
    assert cv2.imwrite(str(mvtec / "test/good/001.png"), picture)
    with pytest.raises(PictureError, match=rf"test/good/001\.png: {message}"):
        check_dataset(read_dataset(mvtec))


def test_checking_a_data_set_finds_a_picture_cut_short(mvtec: Path) -> None:
    path = mvtec / "train/good/001.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PictureError, match=r"train/good/001\.png: is cut short"):
        check_dataset(read_dataset(mvtec))


def test_checking_a_data_set_counts_pixel_truth(
    mvtec: Path, write_picture: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_picture(mvtec / "ground_truth/scratch/000_mask.png", mark=0)
    with caplog.at_level(logging.INFO):
        assert check_dataset(read_dataset(mvtec)) == 1
    assert "1 anomalous pictures have an empty mask" in caplog.text


def test_a_mask_that_went_away_is_refused_by_name(mvtec: Path) -> None:
    dataset = read_dataset(mvtec)
    item = replace(dataset.anomalous[0], mask=mvtec / "gone.png")
    with pytest.raises(PictureError, match=r"gone\.png: cannot be read"):
        load_item(item, dataset.mask_rule)
