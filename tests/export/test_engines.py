"""Real exports in every engine of this machine: one batch size or another, floats and INT8."""

from __future__ import annotations

import numpy as np
import pytest

from ssn_edge_calibrate.int8_model import int8_from_fp32
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.openvino import FloatCompute, OpenVinoEngine, missing

SIZE_HW = (64, 64)

needs_openvino = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(11)
    frames = rng.normal((90, 120, 150), 12, size=(300, *SIZE_HW, 3))
    frames[::2, 20:34, 30:44] += (60, -50, 90)
    return np.clip(frames, 0, 255).astype(np.uint8)


def judged(engine, pictures, region=None):
    with engine:
        together = [
            judgement
            for start in range(0, len(pictures), engine.batch_size)
            for judgement in engine.infer_batch(
                pictures[start : start + engine.batch_size],
                pixel_threshold=0.05,
                region_mask=region,
            )
        ]
    logits = [(each.classification_logit, each.map_max_logit) for each in together]
    maps = np.stack([each.anomaly_map for each in together])
    return np.array(logits), maps, np.stack([each.defect_mask for each in together])


@needs_openvino
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_export_gives_the_same_in_openvino_and_onnx_runtime(model, pictures, rng, batch_size):
    region = rng.integers(0, 2, SIZE_HW).astype(np.bool_)
    wanted = judged(OnnxRuntimeEngine(model(), input_size_hw=SIZE_HW), pictures[:8], region)
    engine = OpenVinoEngine(model(), input_size_hw=SIZE_HW, batch_size=batch_size)
    found = judged(engine, pictures[:8], region)
    np.testing.assert_allclose(found[0], wanted[0], atol=2e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=2e-5)
    sure = np.abs(wanted[1] - 0.05) > 1e-4
    np.testing.assert_array_equal(found[2][sure], wanted[2][sure])
    assert not found[2][:, ~region].any()


def test_a_batch_in_onnx_runtime_is_its_frames_one_by_one(model, pictures):
    wanted = judged(OnnxRuntimeEngine(model(), input_size_hw=SIZE_HW), pictures[:8])
    engine = OnnxRuntimeEngine(model(), input_size_hw=SIZE_HW, batch_size=4)
    found = judged(engine, pictures[:8])
    for got, want in zip(found[:2], wanted[:2], strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)


@needs_openvino
def test_floats_are_fp32_unless_bf16_is_asked_for(model):
    with OpenVinoEngine(model(), input_size_hw=SIZE_HW) as engine:
        assert set(engine.executed_types()) == {"f32"}


@needs_openvino
def test_bf16_is_had_by_asking_where_the_processor_has_it(model, pictures):
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no BF16")
    with OpenVinoEngine(model(), input_size_hw=SIZE_HW, compute=FloatCompute.BF16) as engine:
        assert engine.executed_types()["bf16"] > 0
        assert engine.infer(pictures[0], pixel_threshold=0.0).anomaly_map.dtype == np.float32


@needs_openvino
def test_an_int8_export_really_runs_in_int8_and_says_the_same_in_both_engines(model, pictures):
    int8 = int8_from_fp32(model(), list(pictures[:256])).model
    engine = OpenVinoEngine(int8, input_size_hw=SIZE_HW)
    types = engine.executed_types()
    assert types["i8"] + types["u8"] > 0
    found = judged(engine, pictures[256:])
    wanted = judged(OnnxRuntimeEngine(int8, input_size_hw=SIZE_HW), pictures[256:])
    exact = judged(OnnxRuntimeEngine(model(), input_size_hw=SIZE_HW), pictures[256:])
    # Both round in INT8, each in its own places: they are no further apart than INT8 itself is.
    between = np.abs(found[0] - wanted[0]).max()
    assert between <= np.abs(wanted[0] - exact[0]).max() + 1e-3
