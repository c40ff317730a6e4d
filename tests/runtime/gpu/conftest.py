"""A real GPU: which libraries reach it here, and a net that is worth building.

``pytest -m gpu`` proves all that no machine without one can. Every test is skipped
with its reason where what it needs is not there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines.cache import EngineCache
from ssn_edge_runtime.engines.cuda_device import CudaDevice, open_cuda_device
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.tensorrt_library import MODULES, TensorRt, import_tensorrt
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.manifest import ExpectedScores, GoldenPicture, Manifest, Tolerance
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.preprocess import Geometry, preprocess

SIZE_HW = (128, 128)
TOLERANCES = {"fp32": Tolerance(1e-3, 2e-3), "fp16": Tolerance(0.05, 0.02), "int8": Tolerance(0.2)}
"""Of this net of random weights against ONNX Runtime on the processor."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = None if describe_device().gpu else "no NVIDIA GPU here"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=["pycuda", "cuda-python"])
def cuda(request: pytest.FixtureRequest) -> CudaDevice:
    """The device by each of the adapters."""
    try:
        return open_cuda_device(request.param)
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(params=list(MODULES))
def library(request: pytest.FixtureRequest) -> TensorRt:
    """TensorRT, and TensorRT-RTX."""
    if importlib.util.find_spec(MODULES[request.param]) is None:
        pytest.skip(f"{request.param} is not installed")
    return import_tensorrt(request.param)


def surface(seed: int, *, defect: bool = False) -> ByteImage:
    rng = np.random.default_rng(seed)
    levels = cv2.GaussianBlur(rng.normal(110, 30, size=(*SIZE_HW, 3)), (5, 5), 1.2)
    if defect:
        levels[40:70, 50:90] += 80
    frame: ByteImage = np.clip(levels, 0, 255).astype(np.uint8)
    return frame


@pytest.fixture(scope="session")
def models() -> dict[str, bytes]:
    """The deploy graph of a small net with random weights, in all precisions."""
    pytest.importorskip("torch", reason="torch is not installed; the nets are exported with it")
    from ssn_edge_calibrate.int8_model import int8_from_fp32
    from ssn_edge_export.half_precision import fp16_from_fp32
    from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
    from tests.runtime.gpu.small_net import small_net

    kind = GraphKind.DEPLOY
    graph = inspection_graph(small_net(SIZE_HW), kind)
    fp32 = onnx_from_graph(graph, input_size_hw=SIZE_HW, version=kind.version)
    pixels = [surface(seed) for seed in range(64)]
    int8 = int8_from_fp32(fp32, pixels).model
    return {
        "fp32": fp32,
        "fp16": fp16_from_fp32(fp32, pixels[:8]).model,
        "int8": fp16_from_fp32(int8, pixels[:8]).model,
    }


@pytest.fixture(scope="session")
def gpu_package(
    models: Mapping[str, bytes],
    make_manifest: Callable[..., Manifest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A package of all precisions, with golden pictures by ONNX Runtime on the processor."""
    geometry = Geometry(input_size_hw=SIZE_HW)
    frames = [surface(seed, defect=seed % 2 == 1) for seed in range(100, 106)]
    manifest = make_manifest(
        geometry,
        input_statistics=collect_statistics(
            measure_input(preprocess(surface(seed), geometry)) for seed in range(200, 220)
        ),
    )
    entries: dict[str, bytes] = {}
    precisions = {}
    expected: list[dict[str, ExpectedScores]] = [{} for _ in frames]
    for name, model in models.items():
        entries[f"models/{name}.onnx"] = model
        entries[f"certificates/{name}.json"] = b"{}"
        with OnnxRuntimeEngine(model, input_size_hw=SIZE_HW) as engine:
            pixels = [preprocess(frame, geometry) for frame in frames]
            scores = [engine.infer(each, pixel_threshold=1e4).map_max_logit for each in pixels]
            threshold = float(np.median(scores))
            thresholds = replace(
                manifest.precisions["fp32"].thresholds, image=threshold, pixel=threshold
            )
            for index, each in enumerate(pixels):
                found = engine.infer(each, pixel_threshold=threshold)
                mask = f"golden/{index:03d}.{name}.png"
                entries[mask] = encode_png(found.defect_mask * np.uint8(255))
                expected[index][name] = ExpectedScores(
                    found.classification_logit, found.map_max_logit, mask
                )
        precisions[name] = replace(
            manifest.precisions["fp32"],
            model=f"models/{name}.onnx",
            certificate=f"certificates/{name}.json",
            thresholds=thresholds,
            tolerance=TOLERANCES[name],
        )
    golden = []
    for index, frame in enumerate(frames):
        entries[f"golden/{index:03d}.png"] = encode_png(frame)
        golden.append(GoldenPicture(f"golden/{index:03d}.png", expected[index]))
    path = tmp_path_factory.mktemp("gpu") / "part.ssn"
    write_package(path, replace(manifest, precisions=precisions, golden=tuple(golden)), entries)
    return path


@pytest.fixture
def package(gpu_package: Path) -> Iterator[Package]:
    with Package.open(gpu_package) as opened:
        yield opened


@pytest.fixture(scope="session")
def plan_cache(tmp_path_factory: pytest.TempPathFactory) -> EngineCache:
    """One for all tests: what one builds the next one loads."""
    return EngineCache(tmp_path_factory.mktemp("plans") / "cache")
