"""A tiny true model, frames of a textured part, and whole packages made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.manifest import (
    ExpectedScores,
    GoldenPicture,
    InputStatistics,
    Manifest,
    PrecisionEntry,
    Risk,
)
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.preprocess import Geometry, preprocess

SIZE_HW = (48, 64)
GEOMETRY = Geometry(input_size_hw=SIZE_HW)
THRESHOLDS = Thresholds(image=2.0, pixel=2.0)
RISK = Risk(max_false_reject=0.01, normals=100, supported=True)


def _model(
    *, input_size_hw: tuple[int, int] = SIZE_HW, batch: int | str = 1, gain: float = 1 / 16
) -> onnx.ModelProto:
    """A graph that honours the contract; its map is (mean of the channels - 128) * gain."""
    height, width = input_size_hw
    uint8, float32 = TensorProto.UINT8, TensorProto.FLOAT
    constants = {
        "channel_axis": np.array([3], dtype=np.int64),
        "plane_axes": np.array([1, 2], dtype=np.int64),
        "middle": np.array(128, dtype=np.float32),
        "gain": np.array(gain, dtype=np.float32),
        "not_judged": np.array(-2e4, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=float32),
        helper.make_node("ReduceMean", ["floats", "channel_axis"], ["grey"], keepdims=0),
        helper.make_node("Sub", ["grey", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "gain"], ["anomaly_map"]),
        helper.make_node("Cast", ["region_mask"], ["judged"], to=TensorProto.BOOL),
        helper.make_node("Where", ["judged", "anomaly_map", "not_judged"], ["masked"]),
        helper.make_node("ReduceMax", ["masked", "plane_axes"], ["map_max_logit"], keepdims=0),
        helper.make_node(
            "ReduceMean", ["anomaly_map", "plane_axes"], ["classification_logit"], keepdims=0
        ),
        helper.make_node("GreaterOrEqual", ["masked", "pixel_threshold"], ["defective"]),
        helper.make_node("Cast", ["defective"], ["defect_mask"], to=uint8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("pixels", uint8, [batch, height, width, 3]),
            helper.make_tensor_value_info("pixel_threshold", float32, [1]),
            helper.make_tensor_value_info("region_mask", uint8, [height, width]),
        ],
        [
            helper.make_tensor_value_info("classification_logit", float32, [batch]),
            helper.make_tensor_value_info("map_max_logit", float32, [batch]),
            helper.make_tensor_value_info("anomaly_map", float32, [batch, height, width]),
            helper.make_tensor_value_info("defect_mask", uint8, [batch, height, width]),
        ],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _part(seed: int, *, size_hw: tuple[int, int] = (96, 128), defect: bool = False) -> ByteImage:
    """A grey, grained surface; a defect is a bright square at rows 40 to 55, columns 32 to 55."""
    rng = np.random.default_rng(seed)
    levels = cv2.GaussianBlur(rng.normal(100, 12, size=(*size_hw, 3)), (3, 3), 0.6)
    if defect:
        levels[40:56, 32:56] += 90
    frame: ByteImage = np.clip(levels, 0, 255).astype(np.uint8)
    return frame


def _statistics(geometry: Geometry) -> InputStatistics:
    return collect_statistics(
        measure_input(preprocess(_part(seed), geometry)) for seed in range(100, 108)
    )


def _manifest(geometry: Geometry = GEOMETRY, **changes: object) -> Manifest:
    manifest = Manifest(
        name="tiny",
        created_at="2026-11-22T00:00:00Z",
        geometry=geometry,
        scoring_rule=ScoringRule.MAP_MAX,
        precisions={
            "fp32": PrecisionEntry("models/fp32.onnx", "certificates/fp32.json", THRESHOLDS, RISK)
        },
        variant="jims",
        regime="unsupervised",
        backbone="none",
        training_data="0" * 64,
        input_statistics=_statistics(geometry),
        golden=(),
        tools={"ssn-edge": "0.1.0"},
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def _contents(
    manifest: Manifest, model: bytes, golden_frames: tuple[ByteImage, ...]
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest with its golden pictures, and all entries."""
    entries = {"models/fp32.onnx": model, "certificates/fp32.json": b"{}"}
    golden = []
    with OnnxRuntimeEngine(model, input_size_hw=manifest.geometry.input_size_hw) as engine:
        for index, frame in enumerate(golden_frames):
            stem = f"golden/{index:03d}"
            pixels = preprocess(frame, manifest.geometry)
            judgement = engine.infer(pixels, pixel_threshold=THRESHOLDS.pixel)
            entries[f"{stem}.png"] = encode_png(frame)
            entries[f"{stem}.mask.png"] = encode_png(judgement.defect_mask * np.uint8(255))
            scores = ExpectedScores(
                judgement.classification_logit, judgement.map_max_logit, f"{stem}.mask.png"
            )
            golden.append(GoldenPicture(f"{stem}.png", {"fp32": scores}))
    return replace(manifest, golden=tuple(golden)), entries


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., onnx.ModelProto]:
    """Make a model: `tiny_model(input_size_hw=..., batch=..., gain=...)`."""
    return _model


@pytest.fixture(scope="session")
def conv_model() -> bytes:
    """The tiny model with a convolution of random weights before its channels' mean."""
    model = _model(batch="B")
    rng = np.random.default_rng(3)
    weights = {
        "kernel": rng.normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32),
        "bias": rng.normal(0, 0.2, 3).astype(np.float32),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    nodes = [
        model.graph.node[0],
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["seen"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["seen"], ["back"], perm=[0, 2, 3, 1]),
        *model.graph.node[1:],
    ]
    nodes[4].input[0] = "back"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def part() -> Callable[..., ByteImage]:
    """Make a frame: `part(seed, size_hw=..., defect=...)`."""
    return _part


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    """What the tiny package says of itself, without golden pictures and entries."""
    return _manifest()


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    """Make a manifest: `make_manifest(geometry, name=...)`."""
    return _manifest


@pytest.fixture(scope="session")
def package_contents() -> tuple[Manifest, Mapping[str, bytes]]:
    """Manifest and entries of the tiny package, with three golden pictures."""
    frames = (_part(1), _part(2, defect=True), _part(3))
    return _contents(_manifest(), _model().SerializeToString(), frames)


@pytest.fixture(scope="session")
def package_path(
    package_contents: tuple[Manifest, Mapping[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The tiny package; do not write to it."""
    path = tmp_path_factory.mktemp("package") / "part.ssn"
    write_package(path, *package_contents)
    return path


@pytest.fixture
def make_package(tmp_path: Path) -> Callable[..., Path]:
    """Make a package: `make_package(geometry, golden_frames=(...), model=..., name=...)`."""

    def make(
        geometry: Geometry = GEOMETRY,
        *,
        golden_frames: tuple[ByteImage, ...] = (_part(1),),
        model: bytes | None = None,
        **changes: object,
    ) -> Path:
        model = model or _model(input_size_hw=geometry.input_size_hw).SerializeToString()
        path = tmp_path / "made.ssn"
        write_package(path, *_contents(_manifest(geometry, **changes), model, golden_frames))
        return path

    return make
