"""The stand-in for a GPU shows what float16 does, whatever ONNX Runtime optimises."""

import numpy as np
import onnx
import onnxruntime
import pytest

from ssn_edge_export.half_precision_emulation import half_emulation
from ssn_edge_runtime.errors import ExportError

Level = onnxruntime.GraphOptimizationLevel
LEVELS = [Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_EXTENDED]
LEVELS += [Level.ORT_ENABLE_ALL]


def written(body, constants=(), *, signature="(float[N] x) => (float[N] y)", opset=18):
    text = f'<ir_version: 9, opset_import: ["" : {opset}]> g {signature} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, values in dict(constants).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def run(model, x, level=Level.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.asarray(x, np.float32)})[0]


OVERFLOWING = written(
    "a = Cast <to=10> (x)  b = Mul (a, a)  c = Mul (b, small)  y = Cast <to=1> (c)",
    {"small": np.array([1e-3], np.float16)},
)


@pytest.mark.parametrize("level", LEVELS)
def test_an_overflow_inside_is_seen_at_every_level_of_optimisation(level):
    found = run(half_emulation(OVERFLOWING), [300.0, 200.0], level)
    assert np.isinf(found[0])
    assert found[1] == pytest.approx(40.0, rel=2e-3)


def test_onnx_runtime_alone_does_not_see_it():
    """If it does one day, the emulation may go."""
    assert np.isfinite(run(OVERFLOWING, [300.0])).all()


@pytest.mark.parametrize("level", LEVELS)
def test_each_step_is_rounded_at_every_level_of_optimisation(level, rng):
    x = rng.normal(0, 3, 64).astype(np.float32)
    weight = rng.normal(0, 1, 64).astype(np.float16)
    model = written(
        "a = Cast <to=10> (x)  b = Mul (a, w)  c = Add (b, w)  d = Relu (c)  y = Cast <to=1> (d)",
        {"w": weight},
    )
    wanted = np.maximum(x.astype(np.float16) * weight + weight, 0)
    found = run(half_emulation(model), x, level)
    np.testing.assert_array_equal(found, wanted.astype(np.float32))
    assert (found != np.maximum(x * weight.astype(np.float32) + weight, 0)).any()


@pytest.mark.parametrize("level", LEVELS)
def test_products_are_rounded_once_and_after_the_sum(level, rng):
    weight = rng.normal(0, 1, (8, 16)).astype(np.float16)
    model = written(
        "a = Cast <to=10> (x)  b = MatMul (a, w)  y = Cast <to=1> (b)",
        {"w": weight},
        signature="(float[N, 8] x) => (float[N, 16] y)",
    )
    x = rng.normal(0, 1, (4, 8)).astype(np.float32)
    exact = x.astype(np.float16).astype(np.float64) @ weight.astype(np.float64)
    found = run(half_emulation(model), x, level)
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found, exact, rtol=2**-11 * 1.01, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_numbers_below_the_range_vanish(level):
    model = written("a = Cast <to=10> (x)  y = Cast <to=1> (a)")
    found = run(half_emulation(model), [1e-9, 2.0**-24, 3e-5], level)
    np.testing.assert_array_equal(found, np.float32([0, 2.0**-24, np.float16(3e-5)]))


def test_scales_in_half_precision_are_emulated():
    scale = np.array(0.1, np.float16)
    model = written(
        "a = Cast <to=10> (x)  q = QuantizeLinear (a, s, z)  d = DequantizeLinear (q, s, z)"
        "  y = Cast <to=1> (d)",
        {"s": scale, "z": np.array(0, np.int8)},
        opset=19,
    )
    found = run(half_emulation(model), [1.234, -55.0])
    wanted = np.float16(np.float32([12, -127 - 1]) * np.float32(scale)).astype(np.float32)
    np.testing.assert_array_equal(found, wanted)


def test_a_model_without_float16_is_left_alone():
    model = written("y = Relu (x)")
    assert half_emulation(model) is model


def test_names_and_types_at_the_edge_stay_and_bytes_are_equal():
    emulated = half_emulation(OVERFLOWING)
    before, after = (onnx.load_from_string(each).graph for each in (OVERFLOWING, emulated))
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    assert half_emulation(OVERFLOWING) == emulated


def test_float16_at_the_edge_is_refused():
    model = written("y = Cast <to=10> (x)", signature="(float[N] x) => (float16[N] y)")
    with pytest.raises(ExportError, match="y is float16 at the model's edge"):
        half_emulation(model)
