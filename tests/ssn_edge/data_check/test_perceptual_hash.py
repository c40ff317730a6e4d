from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from ssn_edge.data_check import perceptual_hash as module
from ssn_edge.data_check.copies import LOOK_ALIKE, NEAR_COPY
from ssn_edge.data_check.perceptual_hash import (
    BITS,
    close_pairs,
    perceptual_hash,
    typical_distance,
)
from ssn_edge_runtime.arrays import BoolMask, ByteImage
from tests.ssn_edge.data_check.conftest import surface

SIZE_HW = (240, 200)


def hashed(picture: ByteImage) -> BoolMask:
    found = perceptual_hash(picture)
    assert found is not None
    return found


def distance(a: ByteImage, b: ByteImage) -> float:
    return float((hashed(a) != hashed(b)).mean())


def as_jpeg(picture: ByteImage) -> ByteImage:
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 50])
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))


def noisy(picture: ByteImage) -> ByteImage:
    noise = np.random.default_rng(0).normal(0, 5, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[ByteImage], ByteImage]] = {
    "stored as JPEG": as_jpeg,
    "at half the size": lambda picture: cv2.resize(picture, (100, 120)),
    "darker": lambda picture: (picture * 0.7).astype(np.uint8),
    "of another gamma": lambda p: (255 * (p / 255.0) ** 0.7).astype(np.uint8),
    "noisy": noisy,
    "saved in colour": lambda picture: cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_stays_near_when_it_is(change: str) -> None:
    for seed in range(5):
        picture = surface(seed, SIZE_HW)
        assert distance(picture, CHANGES[change](picture)) <= NEAR_COPY


def test_other_surfaces_are_far() -> None:
    hashes = [hashed(surface(seed, SIZE_HW)) for seed in range(30)]
    pairs = [(a != b).mean() for at, a in enumerate(hashes) for b in hashes[:at]]
    assert min(pairs) > 2 * LOOK_ALIKE
    assert typical_distance(np.array(hashes)) == pytest.approx(float(np.median(pairs)), abs=1e-6)


def test_a_common_pose_and_background_do_not_make_parts_look_alike() -> None:
    """What parts in one fixture share is large and smooth; what tells them apart is not."""
    pose = np.zeros(SIZE_HW, np.float32)
    cv2.ellipse(pose, (100, 120), (60, 90), 0, 0, 360, 90, -1)
    pose = cv2.GaussianBlur(pose, (0, 0), 12)
    pictures = [
        np.clip(pose + 0.3 * surface(seed, SIZE_HW), 0, 255).astype(np.uint8) for seed in (1, 2)
    ]
    assert distance(pictures[0], pictures[1]) > LOOK_ALIKE


@pytest.mark.parametrize("level", [0, 128])
def test_a_picture_without_detail_has_no_hash(level: int) -> None:
    flat = np.full(SIZE_HW, level, np.uint8)
    flat[:, 100:] += 1  # far below what a sensor's noise gives
    assert perceptual_hash(flat) is None


def test_pairs_are_those_of_a_plain_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPARED_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    hashes = rng.random((40, BITS)) < 0.5
    for copy, original, flips in ((3, 30, 0), (12, 13, 20), (39, 0, 43), (20, 21, 80)):
        hashes[copy] = hashes[original]
        hashes[copy, :flips] ^= True
    found = close_pairs(hashes, 0.1, most=100)
    assert found.is_complete
    assert sorted(map(tuple, found.index.tolist())) == [(0, 39), (3, 30), (12, 13)]
    for (a, b), apart in zip(found.index, found.distance, strict=True):
        assert apart == pytest.approx(float((hashes[a] != hashes[b]).mean()), abs=1e-6)


def test_the_search_stops_where_everything_looks_alike() -> None:
    found = close_pairs(np.zeros((200, BITS), np.bool_), 0.1, most=50)
    assert not found.is_complete
    assert len(found.index) == len(found.distance) == 50


def test_one_picture_has_no_pair() -> None:
    assert len(close_pairs(np.zeros((1, BITS), np.bool_), 0.1, most=50).index) == 0
