"""Build, run, equality with the processor, threads, several engines, leaks: on a real GPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import pytest

from ssn_edge_runtime.engines.cache import EngineCache
from ssn_edge_runtime.engines.cuda_device import CudaDevice, open_cuda_device
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.tensorrt import TensorRtEngine
from ssn_edge_runtime.engines.tensorrt_build import BuildOptions, plan_from_onnx
from ssn_edge_runtime.engines.tensorrt_library import TensorRt
from ssn_edge_runtime.errors import EngineError
from tests.runtime.gpu.conftest import SIZE_HW, TOLERANCES, surface

QUICK = BuildOptions(workspace_bytes=2**28, optimisation_level=1)
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture
def plan(library: TensorRt, models: Mapping[str, bytes], plan_cache: EngineCache) -> bytes:
    """Of fp32, built once for each library."""
    return built(library, models, "fp32", plan_cache)


def built(
    library: TensorRt,
    models: Mapping[str, bytes],
    precision: str,
    plan_cache: EngineCache,
    batch_size: int = 1,
) -> bytes:
    path = plan_cache.root / f"{library.engine}-{precision}-{batch_size}.test"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = plan_from_onnx(library, models[precision], batch_size=batch_size, options=QUICK)
        path.write_bytes(made.plan)
    return path.read_bytes()


@pytest.mark.parametrize("use_graph", [False, True], ids=["plain", "graph"])
@pytest.mark.parametrize("mapped", [False, True], ids=["copied", "mapped"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_gpu_gives_what_the_processor_gives(
    library: TensorRt,
    models: Mapping[str, bytes],
    plan_cache: EngineCache,
    precision: str,
    mapped: bool,
    use_graph: bool,
) -> None:
    device = open_cuda_device()
    if mapped and not device.properties.maps_host_memory:
        pytest.skip("this GPU does not map memory of the host")
    tolerance = TOLERANCES[precision]
    region = np.ones(SIZE_HW, dtype=np.bool_)
    region[:40] = False
    with (
        OnnxRuntimeEngine(models[precision], input_size_hw=SIZE_HW) as reference,
        TensorRtEngine(
            library,
            built(library, models, precision, plan_cache),
            input_size_hw=SIZE_HW,
            device=device,
            mapped=mapped,
            use_graph=use_graph,
        ) as engine,
    ):
        assert engine.uses_graph is use_graph
        for seed in range(6):
            pixels, mask = surface(seed, defect=seed > 2), region if seed % 2 else None
            wanted = reference.infer(pixels, pixel_threshold=0.0, region_mask=mask)
            found = engine.infer(pixels, pixel_threshold=wanted.map_max_logit, region_mask=mask)
            for got, want in (
                (found.classification_logit, wanted.classification_logit),
                (found.map_max_logit, wanted.map_max_logit),
            ):
                assert abs(got - want) <= tolerance.of_logit(want)
            # The mask is of this very map, threshold and region.
            above = found.anomaly_map >= np.float32(wanted.map_max_logit)
            judged = above if mask is None else above & mask
            assert np.array_equal(found.defect_mask.astype(np.bool_), judged)


def test_every_adapter_runs_the_engine(library: TensorRt, cuda: CudaDevice, plan: bytes) -> None:
    with TensorRtEngine(library, plan, input_size_hw=SIZE_HW, device=cuda) as engine:
        first = engine.infer(surface(1), pixel_threshold=0.0).map_max_logit
        assert engine.infer(surface(1), pixel_threshold=0.0).map_max_logit == first
        assert engine.infer(surface(2), pixel_threshold=0.0).map_max_logit != first
        assert set(engine.last_stage_ms) == {"copy_in", "infer", "copy_out"}
        assert engine.last_stage_ms["infer"] > 0


def test_a_batch_gives_what_its_frames_give_alone(
    library: TensorRt, models: Mapping[str, bytes], plan_cache: EngineCache, plan: bytes
) -> None:
    frames = np.stack([surface(seed) for seed in range(4)])
    four = built(library, models, "fp32", plan_cache, batch_size=4)
    with (
        TensorRtEngine(library, plan, input_size_hw=SIZE_HW) as alone,
        TensorRtEngine(library, four, input_size_hw=SIZE_HW, batch_size=4) as together,
    ):
        found = together.infer_batch(frames, pixel_threshold=0.0)
        scores = [each.map_max_logit for each in found]
        wanted = [alone.infer(each, pixel_threshold=0.0).map_max_logit for each in frames]
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-3)


def test_a_plan_of_another_batch_is_refused(library: TensorRt, plan: bytes) -> None:
    with pytest.raises(EngineError):
        TensorRtEngine(library, plan, input_size_hw=SIZE_HW, batch_size=2)


def test_several_engines_and_threads_do_not_disturb_each_other(
    library: TensorRt, plan: bytes
) -> None:
    frames = [surface(seed) for seed in range(4)]
    faults: list[str] = []
    with (
        TensorRtEngine(library, plan, input_size_hw=SIZE_HW) as first,
        TensorRtEngine(library, plan, input_size_hw=SIZE_HW) as second,
    ):
        wanted = [first.infer(each, pixel_threshold=0.0).map_max_logit for each in frames]

        def judge(engine: TensorRtEngine, index: int) -> None:
            for _ in range(100):
                found = engine.infer(frames[index], pixel_threshold=0.0).map_max_logit
                if found != wanted[index]:
                    faults.append(f"frame {index}: {found} instead of {wanted[index]}")

        threads = [
            threading.Thread(target=judge, args=(engine, index))
            for index in range(4)
            for engine in (first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert faults == []


def test_opening_closing_and_a_thousand_frames_leak_nothing(library: TensorRt, plan: bytes) -> None:
    device = open_cuda_device()

    def free_bytes() -> int:
        with device.current():
            return device.free_memory_bytes()

    def once(frames: int) -> None:
        with TensorRtEngine(library, plan, input_size_hw=SIZE_HW, device=device) as engine:
            for _ in range(frames):
                engine.infer(frame, pixel_threshold=0.0)

    frame = surface(0)
    once(1)  # what a library keeps for the process is taken by now
    before = free_bytes()
    once(1000)
    for _ in range(5):
        once(1)
    assert free_bytes() >= before - 8 * 2**20


def test_closing_while_a_thread_judges_ends_in_an_error_there(
    library: TensorRt, plan: bytes
) -> None:
    engine = TensorRtEngine(library, plan, input_size_hw=SIZE_HW)
    judged, errors = threading.Event(), []

    def judge() -> None:
        try:
            while True:
                engine.infer(surface(0), pixel_threshold=0.0)
                judged.set()
        except EngineError as error:
            errors.append(str(error))

    thread = threading.Thread(target=judge)
    thread.start()
    assert judged.wait(60)
    engine.close()
    thread.join(60)
    assert len(errors) == 1
    assert "is closed" in errors[0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_plan_tells_what_it_computes_in(
    library: TensorRt, models: Mapping[str, bytes], plan_cache: EngineCache, precision: str
) -> None:
    plan = built(library, models, precision, plan_cache)
    with TensorRtEngine(library, plan, input_size_hw=SIZE_HW) as engine:
        layers = engine.layers()
    assert layers.layers
    found = {kind for each in layers.layers for kind in each.inputs}
    assert {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}[precision] in found, layers.describe()


def test_torch_goes_on_working_beside_the_engine(library: TensorRt, plan: bytes) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    ones = torch.ones(1000, device="cuda")
    with TensorRtEngine(library, plan, input_size_hw=SIZE_HW) as engine:
        first = engine.infer(surface(3), pixel_threshold=0.0).map_max_logit
        assert float((ones + 1).sum()) == 2000
        assert engine.infer(surface(3), pixel_threshold=0.0).map_max_logit == first
    assert float(ones.sum()) == 1000
