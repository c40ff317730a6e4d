"""Models in ONNX Runtime, and the engine that plays a script."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.engines.onnxruntime import CUDA_PROVIDER, OnnxRuntimeEngine
from ssn_edge_runtime.errors import EngineError

SIZE_HW = (48, 64)

Build = Callable[..., onnx.ModelProto]


def opened(model: onnx.ModelProto, size_hw: tuple[int, int] = SIZE_HW) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(model.SerializeToString(), input_size_hw=size_hw)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_it_gives_what_the_graph_computes(batch: int | str, tiny_model: Build) -> None:
    pixels = np.full((*SIZE_HW, 3), 128, dtype=np.uint8)
    pixels[5:7, 9:12] = 176
    with opened(tiny_model(batch=batch)) as engine:
        judgement = engine.infer(pixels, pixel_threshold=3.0)
        assert engine.name == "onnxruntime-cpu"
    assert judgement.map_max_logit == 3.0
    assert judgement.classification_logit == pytest.approx(3 * 6 / (48 * 64))
    assert judgement.anomaly_map.dtype == np.float32
    assert judgement.defect_mask.dtype == np.uint8
    expected = np.zeros(SIZE_HW, dtype=np.uint8)
    expected[5:7, 9:12] = 1
    np.testing.assert_array_equal(judgement.defect_mask, expected)
    np.testing.assert_array_equal(judgement.anomaly_map, expected * np.float32(3))


def test_nothing_outside_the_region_is_judged(tiny_model: Build) -> None:
    pixels = np.full((*SIZE_HW, 3), 128, dtype=np.uint8)
    pixels[:10] = 255
    region = np.ones(SIZE_HW, dtype=np.bool_)
    region[:10] = False
    with opened(tiny_model()) as engine:
        judgement = engine.infer(pixels, pixel_threshold=1.0, region_mask=region)
    assert judgement.map_max_logit == 0
    assert not judgement.defect_mask.any()


def test_the_arrays_of_one_call_outlive_the_next(tiny_model: Build) -> None:
    with opened(tiny_model()) as engine:
        first = engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)
        engine.infer(np.full((*SIZE_HW, 3), 255, np.uint8), pixel_threshold=0.0)
    assert (first.anomaly_map == -8).all()
    assert not first.defect_mask.any()


def rename(name: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            if value.name == name:
                value.name = new
        for node in model.graph.node:
            for names in (node.input, node.output):
                for index, each in enumerate(names):
                    if each == name:
                        names[index] = new

    return change


def half_map(model: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("Cast", ["full"], ["anomaly_map"], to=onnx.TensorProto.FLOAT16)
    rename("anomaly_map", "full")(model)
    model.graph.node.append(node)
    model.graph.output[2].name = "anomaly_map"
    model.graph.output[2].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def float_region(model: onnx.ModelProto) -> None:
    model.graph.input[2].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("pixels", "image"), "inputs are image, pixel_threshold, region_mask; pixel_thresh"),
        (rename("defect_mask", "mask"), "outputs are anomaly_map, classification_logit"),
        (half_map, r"output anomaly_map is float16 \(1, 48, 64\); float \(B, 48, 64\) is needed"),
        (float_region, r"input region_mask is float \(48, 64\); uint8 \(48, 64\) is needed"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(
    change: Callable[[onnx.ModelProto], None], message: str, tiny_model: Build
) -> None:
    model = tiny_model()
    change(model)
    with pytest.raises(EngineError, match=message):
        opened(model)


@pytest.mark.parametrize(("batch", "size_hw"), [(2, SIZE_HW), (1, (64, 48)), (1, (32, 64))])
def test_another_batch_or_size_than_the_manifest_states_is_refused(
    batch: int, size_hw: tuple[int, int], tiny_model: Build
) -> None:
    with pytest.raises(EngineError, match="the model's input pixels is uint8"):
        opened(tiny_model(batch=batch), size_hw)


@pytest.mark.parametrize(
    "data", [b"", b"no model", b"\x08\x07", b"\x12\x0f\x00\x00ORTM" + bytes(9)]
)
def test_what_is_no_model_is_an_engine_error_of_one_line(data: bytes) -> None:
    with pytest.raises(EngineError, match="cannot load the model") as caught:
        OnnxRuntimeEngine(data, input_size_hw=SIZE_HW)
    assert "\n" not in str(caught.value)


def test_a_failure_inside_is_an_engine_error(tiny_model: Build) -> None:
    wrong = np.zeros((3, 3, 3), dtype=np.uint8)
    with opened(tiny_model()) as engine:
        with pytest.raises(EngineError, match="onnxruntime failed"):
            engine.infer(wrong, pixel_threshold=0.0)
        engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)


def test_it_says_nothing_on_standard_output_or_error(
    tiny_model: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened(tiny_model(batch="batch")) as engine:
        engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)
    assert capfd.readouterr() == ("", "")


def test_a_closed_engine_does_not_run(tiny_model: Build) -> None:
    engine = opened(tiny_model())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)


def test_a_provider_that_is_not_there_is_not_replaced_in_silence(tiny_model: Build) -> None:
    with pytest.raises(EngineError, match="has no NoSuchProvider, it has"):
        OnnxRuntimeEngine(
            tiny_model().SerializeToString(), input_size_hw=SIZE_HW, provider="NoSuchProvider"
        )


def test_onnxruntime_not_installed_says_how_to_install_it(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError) as caught:
        opened(tiny_model())
    assert str(caught.value) == "onnxruntime is not installed; pip install 'ssn-edge[cpu]'"


def test_two_distributions_of_onnxruntime_are_refused(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: name)
    with pytest.raises(EngineError, match="onnxruntime and onnxruntime-gpu are both installed"):
        opened(tiny_model())


def test_one_frame_of_a_free_batch_is_what_a_fixed_one_is(tiny_model: Build) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    with opened(tiny_model(batch=1)) as fixed, opened(tiny_model(batch="B")) as free:
        assert fixed.batch_size == free.batch_size == 1
        wanted = fixed.infer(pixels, pixel_threshold=1.0)
        found = free.infer(pixels, pixel_threshold=1.0)
    np.testing.assert_array_equal(found.anomaly_map, wanted.anomaly_map)
    assert found.classification_logit == wanted.classification_logit


def test_a_graph_may_be_run_as_it_stands(conv_model: bytes) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    with (
        OnnxRuntimeEngine(conv_model, input_size_hw=SIZE_HW, optimise=False) as plain,
        OnnxRuntimeEngine(conv_model, input_size_hw=SIZE_HW) as optimised,
    ):
        wanted = optimised.infer(pixels, pixel_threshold=1.0)
        found = plain.infer(pixels, pixel_threshold=1.0)
    np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map, atol=1e-5)


def test_the_identity_is_the_hash_of_the_file(conv_model: bytes) -> None:
    with OnnxRuntimeEngine(conv_model, input_size_hw=SIZE_HW) as engine:
        assert engine.identity == hashlib.sha256(conv_model).hexdigest()


def test_cuda_without_its_distribution_says_which_to_install(conv_model: bytes) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(EngineError, match=r"pip uninstall onnxruntime.*ssn-edge\[gpu\]"):
        OnnxRuntimeEngine(conv_model, input_size_hw=SIZE_HW, provider=CUDA_PROVIDER)


def test_a_provider_that_leaves_the_work_to_the_processor_is_refused(conv_model: bytes) -> None:
    helper = "AzureExecutionProvider"  # takes no node of this graph: ONNX Runtime would use the CPU
    if helper not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider that can stand for one")
    with pytest.raises(EngineError, match=f"cannot load the model with {helper}"):
        OnnxRuntimeEngine(conv_model, input_size_hw=SIZE_HW, provider=helper)


@pytest.mark.gpu
def test_cuda_gives_what_the_processor_gives(conv_model: bytes) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    pixels = np.random.default_rng(5).integers(0, 256, (3, *SIZE_HW, 3), dtype=np.uint8)
    with (
        OnnxRuntimeEngine(conv_model, input_size_hw=SIZE_HW, batch_size=3) as processor,
        OnnxRuntimeEngine(
            conv_model, input_size_hw=SIZE_HW, batch_size=3, provider=CUDA_PROVIDER
        ) as cuda,
    ):
        for found, wanted in zip(
            cuda.infer_batch(pixels, pixel_threshold=1.0),
            processor.infer_batch(pixels, pixel_threshold=1.0),
            strict=True,
        ):
            np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map, atol=1e-4)


def test_the_fake_engine_plays_its_script_again_and_again() -> None:
    script = (1.0, EngineError("gone"), -1.0)
    pixels = np.zeros((*SIZE_HW, 3), dtype=np.uint8)
    with FakeEngine(script, input_size_hw=SIZE_HW) as engine:
        typed: Engine = engine
        for _ in range(2):
            first = typed.infer(pixels, pixel_threshold=0.0)
            assert (first.classification_logit, first.map_max_logit) == (1.0, 1.0)
            assert first.defect_mask.sum() == 12 * 16
            with pytest.raises(EngineError, match="gone"):
                typed.infer(pixels, pixel_threshold=0.0)
            assert not typed.infer(pixels, pixel_threshold=0.0).defect_mask.any()
        assert engine.calls == 6
    with pytest.raises(EngineError, match="closed"):
        engine.infer(pixels, pixel_threshold=0.0)
    several = FakeEngine(script, input_size_hw=SIZE_HW, batch_size=3)
    with pytest.raises(EngineError, match="takes 3 frames at once"):
        several.infer(pixels, pixel_threshold=0.0)
    with pytest.raises(ValueError, match="at least one step"):
        FakeEngine((), input_size_hw=SIZE_HW)
