"""A small true net, as the real one in kind: two taps, upscaled, pooled, two heads, blurred."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_edge_export import ExportRequest, ExportResult, LabelledPicture, export_package
from ssn_edge_export.export_request import GateListener
from ssn_edge_export.onnx_model import GraphKind, onnx_from_graph
from ssn_edge_export.reference_graph import ReferenceGraph
from ssn_edge_export.scoring import Progress
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.preprocess import Geometry


class SmallNet(nn.Module):
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, input_size_hw: tuple[int, int], seed: int) -> None:
        super().__init__()
        self.input_size_hw = input_size_hw
        self.grid_hw = (input_size_hw[0] // 4, input_size_hw[1] // 4)
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.map_head = nn.Conv2d(16, 1, 1)
        self.score_head = nn.Linear(18, 1)
        distance = torch.arange(-4, 5, dtype=torch.float32)
        bell = torch.exp(-0.5 * (distance / 2) ** 2)
        self.register_buffer("kernel", torch.outer(bell, bell)[None, None] / bell.sum() ** 2)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4, generator=generator)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(image)
        taps = [
            F.interpolate(tap, size=self.grid_hw, mode="bilinear", align_corners=True)
            for tap in (fine, self.coarse(fine))
        ]
        features = F.avg_pool2d(torch.cat(taps, dim=1), 3, 1, 1)
        raw = self.map_head(features)
        pooled = torch.cat([features.amax((2, 3)), raw.amax((2, 3)), raw.mean((2, 3))], dim=1)
        upscaled = F.interpolate(raw, size=self.input_size_hw, mode="bilinear")
        blurred = F.conv2d(F.pad(upscaled, (4, 4, 4, 4), mode="reflect"), self.kernel)
        return blurred[:, 0], self.score_head(pooled).flatten()


def _surface(rng: np.random.Generator, size_hw: tuple[int, int], *, spots: int) -> ByteImage:
    frame = rng.normal((90, 120, 150), 12, size=(*size_hw, 3))
    for _ in range(spots):
        y, x = (int(rng.integers(4, side - 20)) for side in size_hw)
        frame[y : y + 14, x : x + 14] += (60, -50, 90)
    return np.clip(frame, 0, 255).astype(np.uint8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def small_net() -> Callable[..., SmallNet]:
    """Make a net: `small_net()`, `small_net((96, 64), seed=1)`."""

    def make(input_size_hw: tuple[int, int] = (64, 64), seed: int = 0) -> SmallNet:
        return SmallNet(input_size_hw, seed).eval()

    return make


@pytest.fixture
def surface(rng: np.random.Generator) -> Callable[..., ByteImage]:
    """Make a tinted, noisy surface: `surface((64, 64), spots=1)`, BGR."""

    def make(size_hw: tuple[int, int] = (64, 64), spots: int = 0) -> ByteImage:
        return _surface(rng, size_hw, spots=spots)

    return make


@pytest.fixture(scope="session")
def model() -> Callable[..., bytes]:
    """The exported `SmallNet` of a size and seed, made once."""

    @functools.cache
    def export(input_size_hw: tuple[int, int] = (64, 64), seed: int = 0) -> bytes:
        graph = ReferenceGraph(SmallNet(input_size_hw, seed)).eval()
        return onnx_from_graph(
            graph, input_size_hw=input_size_hw, version=GraphKind.REFERENCE.version
        )

    return export


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[LabelledPicture]]:
    """Pictures of a camera with 80 x 100 pixels: training normals and a calibration part."""
    folder = tmp_path_factory.mktemp("line") / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    calibration = []
    for index in range(20):
        spots = max(0, index - 13)
        path = folder / f"{index}.png"
        path.write_bytes(encode_png(_surface(rng, (80, 100), spots=spots)))
        calibration.append(LabelledPicture(path, int(spots > 0)))
    normals = [folder / f"train{index}.png" for index in range(34)]
    for path in normals:
        path.write_bytes(encode_png(_surface(rng, (80, 100), spots=0)))
    return normals, calibration


@pytest.fixture
def export(
    line: tuple[list[Path], list[LabelledPicture]], tmp_path: Path
) -> Callable[..., ExportResult]:
    """Export a `SmallNet` with all that a package needs: `export(net, precisions=("fp16",))`."""

    def call(
        net: SmallNet,
        on_progress: Progress | None = None,
        on_gate: GateListener | None = None,
        **changes: object,
    ) -> ExportResult:
        normals, calibration = line
        arguments = {
            "output": tmp_path / "out" / "part.ssn",
            "name": "part",
            "geometry": Geometry(net.input_size_hw),
            "scoring": ScoringMethod.CLASSIFICATION,
            "variant": "journal",
            "regime": "full",
            "backbone": "two convolutions",
            "training_data": "0" * 64,
            "training_normals": normals,
            "calibration": calibration,
            "max_false_reject": 0.1,
            "tools": {"timm": "1.0"},
            "graph": GraphKind.REFERENCE,
        }
        request = ExportRequest(**{**arguments, **changes})
        return export_package(net, request, on_progress=on_progress, on_gate=on_gate)

    return call
