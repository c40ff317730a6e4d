"""Our side of a TensorRT engine, against the stand-in; the libraries' side is in `gpu/`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Judgement
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.tensorrt import TensorRtEngine
from ssn_edge_runtime.engines.tensorrt_library import TensorRt
from ssn_edge_runtime.errors import EngineError
from tests.runtime.stand_in_gpu import MAGIC, StandInDevice, stand_in_tensorrt

SIZE_HW = (48, 64)


@pytest.fixture
def device() -> StandInDevice:
    return StandInDevice()


@pytest.fixture
def library(device: StandInDevice) -> TensorRt:
    return stand_in_tensorrt(device)


@pytest.fixture
def onnx_bytes(tiny_model: Callable[..., onnx.ModelProto]) -> bytes:
    return tiny_model(batch="B").SerializeToString()


@pytest.fixture
def reference(onnx_bytes: bytes) -> Iterator[OnnxRuntimeEngine]:
    with OnnxRuntimeEngine(onnx_bytes, input_size_hw=SIZE_HW) as engine:
        yield engine


def frames(count: int, *, seed: int = 0) -> ByteImage:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, size=(count, *SIZE_HW, 3), dtype=np.uint8)


def same(found: Judgement, wanted: Judgement) -> bool:
    return (
        found.classification_logit == wanted.classification_logit
        and found.map_max_logit == wanted.map_max_logit
        and np.array_equal(found.anomaly_map, wanted.anomaly_map)
        and np.array_equal(found.defect_mask, wanted.defect_mask)
    )


@pytest.mark.parametrize("mapped", [False, True], ids=["copied", "mapped"])
@pytest.mark.parametrize("use_graph", [False, True], ids=["plain", "graph"])
def test_frames_threshold_and_region_reach_the_graph(
    library: TensorRt,
    device: StandInDevice,
    onnx_bytes: bytes,
    reference: OnnxRuntimeEngine,
    mapped: bool,
    use_graph: bool,
) -> None:
    region = np.zeros(SIZE_HW, dtype=np.bool_)
    region[10:30, 20:50] = True
    with TensorRtEngine(
        library,
        MAGIC + onnx_bytes,
        input_size_hw=SIZE_HW,
        device=device,
        mapped=mapped,
        use_graph=use_graph,
    ) as engine:
        assert engine.uses_graph is use_graph
        for pixels, threshold, mask in (
            (frames(1)[0], 0.5, region),
            (frames(1, seed=1)[0], -3.0, None),
            (frames(1, seed=2)[0], 1.5, ~region),
        ):
            found = engine.infer(pixels, pixel_threshold=threshold, region_mask=mask)
            wanted = reference.infer(pixels, pixel_threshold=threshold, region_mask=mask)
            assert same(found, wanted)
    assert device.alive == []


def test_a_batch_gives_what_its_frames_give_alone(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes, reference: OnnxRuntimeEngine
) -> None:
    pixels = frames(3)
    with TensorRtEngine(
        library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, batch_size=3, device=device
    ) as engine:
        found = engine.infer_batch(pixels, pixel_threshold=0.0)
        assert engine.batch_size == len(found) == 3
        for judgement, each in zip(found, pixels, strict=True):
            wanted = reference.infer(each, pixel_threshold=0.0)
            np.testing.assert_allclose(judgement.anomaly_map, wanted.anomaly_map, atol=1e-6)
        with pytest.raises(EngineError, match=r"built for \(3, 48, 64, 3\)"):
            engine.infer(pixels[0], pixel_threshold=0.0)


def test_a_gpu_that_shares_memory_with_the_host_copies_nothing(
    library: TensorRt, onnx_bytes: bytes
) -> None:
    jetson = StandInDevice(integrated=True)
    library = stand_in_tensorrt(jetson)
    with TensorRtEngine(
        library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=jetson
    ) as engine:
        assert engine.is_mapped


def test_arrays_outlive_the_engine(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes, reference: OnnxRuntimeEngine
) -> None:
    engine = TensorRtEngine(library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device)
    found = engine.infer(frames(1)[0], pixel_threshold=0.0)
    engine.close()
    engine.close()
    assert same(found, reference.infer(frames(1)[0], pixel_threshold=0.0))


def test_a_score_that_the_gpu_did_not_write_is_not_the_last_frames(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes
) -> None:
    with TensorRtEngine(
        library,
        MAGIC + onnx_bytes,
        input_size_hw=SIZE_HW,
        device=device,
        mapped=True,
        use_graph=False,
    ) as engine:
        engine.infer(frames(1)[0], pixel_threshold=0.0)
        library.module.engines[-1].contexts[-1]._run = lambda: None
        found = engine.infer(frames(1)[0], pixel_threshold=0.0)
        assert np.isnan(found.classification_logit)
        assert np.isnan(found.map_max_logit)


def test_a_run_that_is_refused_is_an_error(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes
) -> None:
    with TensorRtEngine(
        library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device, use_graph=False
    ) as engine:
        library.module.engines[-1].contexts[-1].answers = False
        with pytest.raises(EngineError, match="cannot run the plan"):
            engine.infer(frames(1)[0], pixel_threshold=0.0)


def test_without_a_cuda_graph_the_engine_runs_and_says_so(
    library: TensorRt,
    device: StandInDevice,
    onnx_bytes: bytes,
    reference: OnnxRuntimeEngine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device.can_capture = False
    with (
        caplog.at_level(logging.WARNING),
        TensorRtEngine(library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device) as engine,
    ):
        assert not engine.uses_graph
        assert same(
            engine.infer(frames(1)[0], pixel_threshold=0.0),
            reference.infer(frames(1)[0], pixel_threshold=0.0),
        )
    assert "without a CUDA graph" in caplog.text


def test_a_plan_that_the_library_does_not_take_frees_all_and_names_the_command(
    library: TensorRt, device: StandInDevice
) -> None:
    with pytest.raises(EngineError, match=r"cannot load the plan.*ssn-edge build"):
        TensorRtEngine(library, b"of another device", input_size_hw=SIZE_HW, device=device)
    assert device.alive == []


def test_a_plan_of_another_size_is_refused_and_all_is_freed(
    library: TensorRt, device: StandInDevice, tiny_model: Callable[..., onnx.ModelProto]
) -> None:
    other = tiny_model(input_size_hw=(32, 32), batch="B").SerializeToString()
    with pytest.raises(EngineError, match="takes no 1 x 48 x 64"):
        TensorRtEngine(library, MAGIC + other, input_size_hw=SIZE_HW, device=device)
    assert device.alive == []


def test_an_engine_whose_gpu_failed_can_still_be_closed(
    library: TensorRt,
    device: StandInDevice,
    onnx_bytes: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = TensorRtEngine(library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device)
    device.fails = True
    with pytest.raises(EngineError, match="told to fail"):
        engine.infer(frames(1)[0], pixel_threshold=0.0)
    engine.close()
    assert "not all could be freed" in caplog.text
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(frames(1)[0], pixel_threshold=0.0)


def test_threads_take_turns_and_closing_waits_for_them(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes, reference: OnnxRuntimeEngine
) -> None:
    engine = TensorRtEngine(library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device)
    pixels = frames(4)
    wanted = [reference.infer(each, pixel_threshold=0.0).classification_logit for each in pixels]
    found: list[tuple[int, float]] = []
    refused: list[str] = []
    started = threading.Barrier(5)

    def judge(index: int) -> None:
        started.wait()
        try:
            for _ in range(200):
                judgement = engine.infer(pixels[index], pixel_threshold=0.0)
                found.append((index, judgement.classification_logit))
        except EngineError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=judge, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    deadline = time.monotonic() + 20
    while len(found) < 40 and time.monotonic() < deadline:
        time.sleep(0.001)
    engine.close()
    for thread in threads:
        thread.join(10)
    assert all(score == wanted[index] for index, score in found)
    assert all("is closed" in each for each in refused)
    assert device.alive == []


def test_the_engine_tells_where_its_time_went(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes
) -> None:
    with TensorRtEngine(
        library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device
    ) as engine:
        assert engine.last_stage_ms == {}
        engine.infer(frames(1)[0], pixel_threshold=0.0)
        stages = engine.last_stage_ms
        assert list(stages) == ["copy_in", "infer", "copy_out"]
        assert stages["infer"] == 1.0  # one tick of the stand-in's clock
    assert engine.last_stage_ms == {}


def test_what_runs_in_int8_is_read_from_the_plan(
    library: TensorRt, device: StandInDevice, onnx_bytes: bytes
) -> None:
    with TensorRtEngine(
        library, MAGIC + onnx_bytes, input_size_hw=SIZE_HW, device=device
    ) as engine:
        assert engine.layers().multiplying == {"int8": 1}
    with pytest.raises(EngineError, match="is closed"):
        engine.layers()
