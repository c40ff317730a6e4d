"""Q/DQ stand where engines fuse them, and compute what rounding by formula computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from ssn_edge_calibrate.int8_graph import Int8Form, quantised_weight
from ssn_edge_calibrate.int8_layers import Wiring, int8_layers
from ssn_edge_calibrate.int8_model import ObservedModel, observe_model
from ssn_edge_calibrate.int8_ranges import RangeMethod
from ssn_edge_calibrate.int8_run import logits_of
from ssn_edge_export.onnx_model import GraphKind
from ssn_edge_export.parse_gate import parse_gate
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import CalibrationError

SIZE = (32, 32)


@pytest.fixture(scope="module")
def observed(deploy_model: bytes, pictures: list[ByteImage]) -> ObservedModel:
    return observe_model(deploy_model, pictures)


@pytest.fixture(scope="module")
def int8(observed: ObservedModel) -> onnx.ModelProto:
    return onnx.load_from_string(observed.quantised().model)


def made_by(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def of_type(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in kinds]


def test_it_is_a_valid_model_with_the_same_inputs_and_outputs(
    int8: onnx.ModelProto, deploy_model: bytes
) -> None:
    onnx.checker.check_model(int8, full_check=True)
    float_graph = onnx.load_from_string(deploy_model).graph
    assert list(int8.graph.input) == list(float_graph.input)
    assert list(int8.graph.output) == list(float_graph.output)


def test_all_zero_points_are_zero_and_all_scales_are_constants(int8: onnx.ModelProto) -> None:
    values = constants(int8)
    nodes = of_type(int8, "QuantizeLinear", "DequantizeLinear")
    assert nodes
    for node in nodes:
        scale, zero_point = (values[name] for name in node.input[1:])
        assert scale.dtype == np.float32
        assert (scale > 0).all()
        assert zero_point.dtype == np.int8
        assert zero_point.shape == scale.shape
        assert not zero_point.any()


def test_weights_are_bytes_with_a_scale_for_each_output_channel(
    int8: onnx.ModelProto, observed: ObservedModel, deploy_model: bytes
) -> None:
    before, after, maker = constants(onnx.load_from_string(observed.model)), constants(int8), {}
    maker = made_by(int8)
    layers = int8_layers(Wiring(onnx.load_from_string(deploy_model).graph))
    assert {each.kind for each in layers} == {"Conv", "MatMul"}
    users = {name: node for node in int8.graph.node for name in node.input}
    for layer in layers:
        node = users[layer.name + "_dequantised"]
        dequantise = maker[node.input[1]]
        stored, scale = (after[name] for name in dequantise.input[:2])
        axis = onnx.helper.get_node_attr_value(dequantise, "axis")
        assert axis == (0 if node.op_type == "Conv" else 1)
        assert stored.dtype == np.int8
        assert scale.shape == (before[layer.name].shape[axis],)
        shape = [-1 if each == axis else 1 for each in range(stored.ndim)]
        error = np.abs(stored * scale.reshape(shape) - before[layer.name])
        assert (error <= scale.reshape(shape) * 0.501).all()
        assert layer.name not in after


def test_nothing_stands_between_a_convolution_and_its_activation(int8: onnx.ModelProto) -> None:
    maker = made_by(int8)
    for node in of_type(int8, "Relu", "Clip"):
        assert maker[node.input[0]].op_type in {"Conv", "Add"}


def test_each_residual_addition_takes_one_quantised_skip(int8: onnx.ModelProto) -> None:
    maker = made_by(int8)
    kinds = [
        sorted(maker[name].op_type for name in node.input)
        for node in of_type(int8, "Add")
        if all(name in maker for name in node.input)
        and any(maker[name].op_type == "Conv" for name in node.input)
    ]
    # Downsampled and plain; the deeper convolution is the one that fuses.
    assert kinds == [["Conv", "DequantizeLinear"]] * 2
    downsample = next(
        node for node in of_type(int8, "Conv") if "backbone.downsample" in " ".join(node.input)
    )
    takers = [node.op_type for node in int8.graph.node if downsample.output[0] in node.input]
    assert takers == ["QuantizeLinear"]


def test_what_follows_the_raw_map_and_the_small_matrices_stay_in_float(
    int8: onnx.ModelProto, deploy_model: bytes
) -> None:
    rounded = {node.output[0] for node in of_type(int8, "DequantizeLinear")}
    in_float = [
        " ".join(node.input)
        for node in of_type(int8, "MatMul", "Conv", "Gemm")
        if rounded.isdisjoint(node.input)
    ]
    for name in ("rows", "columns", "map_weight", "segmentation.output", "classification.output"):
        assert any(name in each for each in in_float)
    in_int8 = " ".join(name for node in of_type(int8, "MatMul", "Conv") for name in node.input)
    for name in ("rows", "columns", "map_weight", "output"):
        assert f"{name}_dequantised" not in in_int8
    layers = int8_layers(Wiring(onnx.load_from_string(deploy_model).graph))
    assert sum("net.backbone" in each.name for each in layers) == 7
    assert sum("net.segmentation.weights" in each.name for each in layers) == 2
    assert sum("net.classification.weights" in each.name for each in layers) == 10
    assert len(layers) == 19


def test_a_layer_left_in_float_sees_unrounded_values(
    observed: ObservedModel, deploy_model: bytes
) -> None:
    projections = [each.name for each in observed.layers if each.kind == "MatMul"]
    left = projections[0]
    model = onnx.load_from_string(observed.quantised(float_layers=[left]).model)
    maker = made_by(model)
    node = next(node for node in model.graph.node if left in node.input)
    tensor = node.input[0]
    while maker[tensor].op_type in {"Reshape", "Transpose", "Sub", "Mul"}:
        tensor = maker[tensor].input[0]
    assert maker[tensor].op_type == "Relu"
    report = observed.quantised(float_layers=[left]).report
    assert report.float_layers == {left: "chosen"}
    assert left not in report.int8_layers
    assert set(report.int8_layers) | {left} == {each.name for each in observed.layers}


def test_the_straightforward_graph_is_quantised_up_to_its_raw_map(
    model_of: Callable[[GraphKind], bytes],
    pictures: list[ByteImage],
) -> None:
    model = model_of(GraphKind.REFERENCE)
    int8 = observe_model(model, pictures).quantised()
    assert any("adaptor" in name for name in int8.report.int8_layers)
    assert not any("classification" in name for name in int8.report.int8_layers)
    onnx.checker.check_model(onnx.load_from_string(int8.model), full_check=True)
    change = np.abs(logits_of(int8.model, pictures) - logits_of(model, pictures))
    assert 0 < change.mean() < 0.2


def test_equal_input_in_any_order_gives_equal_bytes(
    deploy_model: bytes, pictures: list[ByteImage], observed: ObservedModel
) -> None:
    again = observe_model(deploy_model, [*reversed(pictures), pictures[0]])
    assert again.quantised().model == observed.quantised().model
    assert again.quantised().report.copies == 1


@pytest.mark.parametrize("ranges", RangeMethod)
def test_each_range_method_gives_a_model_that_runs(
    observed: ObservedModel, ranges: RangeMethod, other_pictures: list[ByteImage]
) -> None:
    found = observed.quantised(ranges=ranges)
    assert found.report.to_dict()["ranges"] == ranges.value
    assert np.isfinite(logits_of(found.model, other_pictures[:2])).all()
    for chosen, largest in found.report.tensors.values():
        assert chosen > 0
        assert chosen <= largest or ranges is RangeMethod.RETURN_LEVEL


def test_a_name_that_is_no_layer_is_refused(observed: ObservedModel) -> None:
    with pytest.raises(CalibrationError, match=r"no_such_layer cannot stay in float"):
        observed.quantised(float_layers=["no_such_layer"])


def test_nothing_left_for_int8_is_refused(observed: ObservedModel) -> None:
    with pytest.raises(CalibrationError, match=r"none of .* layers is left"):
        observed.quantised(float_layers=[each.name for each in observed.layers])


def test_a_layer_whose_input_was_always_zero_stays_in_float(
    edited: Callable[..., bytes], pictures: list[ByteImage]
) -> None:
    model = edited(first_bias=lambda bias: bias - 1e4)  # nothing passes the ReLU behind it
    found = observe_model(model, pictures).quantised()
    assert found.report.float_layers == {
        "net.backbone.second.weight": "its input was zero in all pictures"
    }
    assert np.isfinite(logits_of(found.model, pictures[:2])).all()


def test_an_input_that_is_never_positive_is_no_trouble(
    edited: Callable[..., bytes], pictures: list[ByteImage]
) -> None:
    model = edited(  # behind a ReLU6: what comes out is below zero
        pointwise_weight=lambda weight: -np.abs(weight), pointwise_bias=lambda bias: 0 * bias - 0.1
    )
    found = observe_model(model, pictures).quantised()
    change = np.abs(logits_of(found.model, pictures[:4]) - logits_of(model, pictures[:4]))
    assert change.max() < 0.2


def test_a_tensor_that_is_not_finite_is_refused_by_name(
    edited: Callable[..., bytes], pictures: list[ByteImage]
) -> None:
    model = edited(stem_weight=lambda weight: 0 * weight + 3e38)
    with pytest.raises(CalibrationError, match=r"tensor \S+ of the net: a value is NaN or inf"):
        observe_model(model, pictures)


def test_a_channel_of_zeros_has_a_scale_all_the_same() -> None:
    weight = np.zeros((2, 3), np.float32)
    weight[1] = (0.5, -2, 1)
    stored, scales = quantised_weight(weight, axis=0)
    assert scales.tolist() == [1, np.float32(2 / 127)]
    assert stored.tolist() == [[0, 0, 0], [32, -127, 64]]


def test_nvidias_parser_and_compiler_take_it(observed: ObservedModel) -> None:
    result = parse_gate(observed.quantised().model)
    if result is None:
        pytest.skip("TensorRT-RTX is not installed")
    assert result.message == ""
    assert result.passed
    assert result.layers > 0


@pytest.mark.parametrize("form", [Int8Form.TENSORRT, Int8Form.OPENVINO])
def test_an_openvino_cpu_runs_convolutions_and_projections_in_int8(
    deploy_model: bytes, pictures: list[ByteImage], form: Int8Form
) -> None:
    observed = observe_model(deploy_model, pictures, form=form)
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    core = openvino.Core()
    if "INT8" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no INT8 instructions that OpenVINO uses")
    model = core.read_model(observed.quantised().model)
    model.reshape({"pixels": [1, *SIZE, 3]})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    executed: dict[tuple[str, bool], int] = {}
    for node in compiled.get_runtime_model().get_ops():
        kind = str(node.get_rt_info()["layerType"].astype(str))
        if kind in {"Convolution", "FullyConnected"}:
            weight = node.input(1).get_element_type().get_type_name()
            key = (kind, weight == "i8")
            executed[key] = executed.get(key, 0) + 1
    kinds = [each.kind for each in observed.layers]
    assert executed["Convolution", True] == kinds.count("Conv")
    assert executed["FullyConnected", True] == kinds.count("MatMul")


def test_the_form_for_onnx_runtime_runs_there_in_int8(
    deploy_model: bytes,
    pictures: list[ByteImage],
    other_pictures: list[ByteImage],
    tmp_path: Path,
) -> None:
    observed = observe_model(deploy_model, pictures, form=Int8Form.ONNXRUNTIME)
    int8 = observed.quantised().model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of what it writes
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(tmp_path / "executed.onnx")
    onnxruntime.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    executed = [node.op_type for node in onnx.load(tmp_path / "executed.onnx").graph.node]
    kinds = [each.kind for each in observed.layers]
    assert executed.count("QLinearConv") == kinds.count("Conv")
    assert executed.count("MatMulIntegerToFloat") == kinds.count("MatMul")
    change = np.abs(logits_of(int8, other_pictures) - logits_of(deploy_model, other_pictures))
    assert 0 < change.mean() < 0.05


def test_the_form_for_openvino_gives_what_is_never_below_zero_twice_as_many_steps(
    deploy_model: bytes, pictures: list[ByteImage], other_pictures: list[ByteImage]
) -> None:
    own, shared = (
        observe_model(deploy_model, pictures, form=form)
        for form in (Int8Form.OPENVINO, Int8Form.TENSORRT)
    )
    values = constants(onnx.load_from_string(own.quantised().model))
    points = {
        name.removesuffix("_quantised_zero_point"): values[name]
        for name in values
        if name.endswith("_quantised_zero_point") and values[name].ndim == 0
    }
    assert set(points) == set(own.histograms)
    unsigned = {name for name, each in points.items() if each.dtype == np.uint8}
    assert unsigned == {name for name, each in own.histograms.items() if not each.is_signed}
    assert 0 < len(unsigned) < len(points)
    assert not any(each.any() for each in points.values())
    wanted = logits_of(deploy_model, other_pictures)
    errors = [
        np.abs(logits_of(each.quantised().model, other_pictures) - wanted).mean()
        for each in (own, shared)
    ]
    assert errors[0] < errors[1]
