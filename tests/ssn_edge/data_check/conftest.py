"""A small data set without a fault, for each test to put one in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data_check import DataReport, Finding, Kind, check_data_at
from ssn_edge_runtime.arrays import ByteImage

SIZE_HW = (64, 72)


def surface(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> ByteImage:
    """A grey texture of its own: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    coarse = rng.normal(0, 28, (height // 3 + 1, width // 3 + 1)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    # Light, contrast and noise vary a little, as on a line.
    field = rng.normal(128, 6) + rng.uniform(0.8, 1.2) * field
    field += rng.normal(0, 2, size_hw)
    return np.clip(field, 20, 235).astype(np.uint8)


def mask(size_hw: tuple[int, int] = SIZE_HW, *, at: int = 10, value: int = 255) -> ByteImage:
    """A mask of one square."""
    drawn = np.zeros(size_hw, np.uint8)
    drawn[at : at + 12, at : at + 12] = value
    return drawn


def write(path: Path, picture: ByteImage) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
    return path


def read(path: Path) -> ByteImage:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return np.asarray(picture)


@dataclass(frozen=True)
class Parts:
    """The data set, in the MVTec layout: 12 good pictures to train, 4 to test, and 3 scratched."""

    root: Path

    def train(self, number: int) -> Path:
        return self.root / f"train/good/{number:03d}.png"

    def good(self, number: int) -> Path:
        return self.root / f"test/good/{number:03d}.png"

    def scratch(self, number: int) -> Path:
        return self.root / f"test/scratch/{number:03d}.png"

    def mask(self, number: int) -> Path:
        return self.root / f"ground_truth/scratch/{number:03d}_mask.png"

    def check(self) -> DataReport:
        return check_data_at(self.root, max_false_reject=0.5)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    made = Parts(tmp_path / "parts")
    for number in range(12):
        write(made.train(number), surface(number))
    for number in range(4):
        write(made.good(number), surface(100 + number))
    for number in range(3):
        write(made.scratch(number), surface(200 + number))
        write(made.mask(number), mask(at=10 + number))
    return made


def brief(report: DataReport) -> list[tuple[str, str, list[str]]]:
    """Kind, severity and pictures of each finding."""
    return [
        (each.kind.value, each.severity.value, [report.name_of(file) for file in each.files])
        for each in report.findings
    ]


def only(report: DataReport, kind: Kind) -> Finding:
    """The one finding there is, which is of this kind."""
    assert [each.kind for each in report.findings] == [kind], brief(report)
    return report.findings[0]
