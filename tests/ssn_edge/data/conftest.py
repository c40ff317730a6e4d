from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[3] / "../shared/data"


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    """Writes a grey picture; `mark` sets a 4 x 4 square to that value on black."""

    def write(path: Path, *, size_hw: tuple[int, int] = (32, 40), mark: int | None = None) -> Path:
        picture = np.full(size_hw, 90 if mark is None else 0, np.uint8)
        if mark is not None:
            picture[8:12, 8:12] = mark
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), picture)
        return path

    return write


@pytest.fixture
def mvtec(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """Four good pictures, two of them to train, and two scratched ones with masks."""
    root = tmp_path / "tiles"
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/good/001"):
        write_picture(root / f"{name}.png")
    for number in ("000", "001"):
        write_picture(root / f"test/scratch/{number}.png")
        write_picture(root / f"ground_truth/scratch/{number}_mask.png", mark=255)
    return root


@pytest.fixture
def kolektor(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """Two good and one defective picture, each with its mask."""
    root = tmp_path / "items"
    for name, mark in (("train/1", 0), ("train/2", 255), ("test/3", 0)):
        write_picture(root / f"{name}.jpg")
        write_picture(root / f"{name}_GT.png", mark=mark)
    return root


@pytest.fixture
def parts(tmp_path: Path, write_picture: Callable[..., Path]) -> Path:
    """A folder with pictures a, b, c and masks a_mask (empty), b_mask; the test writes the list."""
    root = tmp_path / "parts"
    for name in "abc":
        write_picture(root / f"{name}.png")
    write_picture(root / "a_mask.png", mark=0)
    write_picture(root / "b_mask.png", mark=255)
    return root


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the real pictures of shared/data are not beside this checkout")
    return SHARED_DATA
