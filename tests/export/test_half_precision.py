"""From float32 to half precision: what is kept, what it does to the scores."""

import json
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ssn_edge.model.backbone import CPU_DEFAULT, Backbone
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge_export.half_precision import fp16_from_fp32
from ssn_edge_export.half_precision_choice import KeepReason
from ssn_edge_export.half_precision_emulation import half_emulation
from ssn_edge_export.half_precision_graph import TypedGraph
from ssn_edge_export.half_precision_writer import model_with_half_nodes
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_export.parse_gate import parse_gate
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.errors import CalibrationError, ExportError

SIZE = (32, 32)
HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def tower(*, scales=(), shift=0.0, is_quantised=False):
    """Four 1x1 convolutions, so that what one is scaled by the next can undo.

    The second may run in INT8; one of its channels then has next to no weights, but a bias, as
    happens where a batch norm was folded into a layer.
    """
    rng = np.random.default_rng(3)
    widths = (3, 8, 8, 8, 8)
    weights = [rng.normal(0, 0.4, (after, before)) for before, after in pairwise(widths)]
    biases = [rng.normal(0, 0.4, after) for after in widths[1:]]
    whole = 1.0
    for layer, factor in enumerate([*scales, 1.0, 1.0, 1.0][:3]):
        whole *= factor
        weights[layer] *= factor
        biases[layer] *= whole
    weights[3] /= whole
    # Added by the second layer and taken away by the third.
    biases[2] -= weights[2].sum(axis=1) * shift
    biases[1] += shift
    if is_quantised:
        weights[1][0] *= 1e-6
    steps = np.abs(weights[1]).max(axis=1) / 127
    constants = {
        "of_pixels": np.full((1, 3, 1, 1), 1 / 64),
        "to_map": rng.normal(0, 0.4, (1, 8, 1, 1)),
        "to_score": rng.normal(0, 0.4, (16, 1)),
        "outside": np.array(-2e4),
        "judged": np.array(0.5),
        "yes": np.array(1.0),
        "no": np.array(0.0),
        "step": np.array(0.04),
        "steps": steps,
        **{f"weight_{layer}": each[:, :, None, None] for layer, each in enumerate(weights)},
        **{f"bias_{layer}": each for layer, each in enumerate(biases)},
    }
    text = """
        bytes = Cast <to=1> (pixels)
        planes = Transpose <perm=[0, 3, 1, 2]> (bytes)
        relu_0 = Mul (planes, of_pixels)
        conv_1 = Conv (relu_0, weight_0, bias_0)
        relu_1 = Relu (conv_1)
        conv_2 = Conv (relu_1, weight_1, bias_1)
        relu_2 = Relu (conv_2)
        conv_3 = Conv (relu_2, weight_2, bias_2)
        relu_3 = Relu (conv_3)
        conv_4 = Conv (relu_3, weight_3, bias_3)
        relu_4 = Relu (conv_4)
        raw_map = Conv (relu_4, to_map)
        most = ReduceMax <keepdims=0> (relu_4, sides)
        mean = ReduceMean <keepdims=0> (relu_4, sides)
        pooled = Concat <axis=1> (most, mean)
        score = Gemm (pooled, to_score)
        classification_logit = Reshape (score, flat)
        anomaly_map = Squeeze (raw_map, channel)
        region = Cast <to=1> (region_mask)
        is_judged = Greater (region, judged)
        inside = Where (is_judged, anomaly_map, outside)
        map_max_logit = ReduceMax <keepdims=0> (inside, sides_of_map)
        is_above = GreaterOrEqual (anomaly_map, pixel_threshold)
        is_defect = And (is_above, is_judged)
        as_float = Where (is_defect, yes, no)
        defect_mask = Cast <to=2> (as_float)
    """
    if is_quantised:
        text = text.replace(
            "conv_2 = Conv (relu_1, weight_1, bias_1)",
            """
        q_1 = QuantizeLinear (relu_1, step, zero)
        d_1 = DequantizeLinear (q_1, step, zero)
        w_1 = DequantizeLinear <axis=0> (integers, steps, zeros)
        conv_2 = Conv (d_1, w_1, bias_1)""",
        ).replace(
            "conv_3 = Conv (relu_2, ",
            """
        q_2 = QuantizeLinear (relu_2, step, zero)
        d_2 = DequantizeLinear (q_2, step, zero)
        conv_3 = Conv (d_2, """,
        )
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        tower (uint8[B, {SIZE[0]}, {SIZE[1]}, 3] pixels, float[1] pixel_threshold,
               uint8[{SIZE[0]}, {SIZE[1]}] region_mask)
        => (float[B] classification_logit, float[B] map_max_logit,
            float[B, {SIZE[0]}, {SIZE[1]}] anomaly_map, uint8[B, {SIZE[0]}, {SIZE[1]}] defect_mask)
        <int64[2] sides = {{2, 3}}, int64[1] flat = {{-1}}, int64[1] channel = {{1}},
         int64[2] sides_of_map = {{1, 2}}> {{ {text} }}"""
    )
    integers = {
        "integers": np.rint(weights[1] / steps[:, None])[:, :, None, None],
        "zeros": np.zeros(8),
        "zero": np.array(0),
    }
    for kind, values in ((np.float32, constants), (np.int8, integers)):
        for name, each in values.items():
            tensor = onnx.numpy_helper.from_array(each.astype(kind), name)
            model.graph.initializer.append(tensor)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture
def pictures(surface):
    return [surface(SIZE, spots=spots) for spots in (0, 1, 0, 2)]


@pytest.fixture(scope="module")
def lite0():
    """The deploy graph of the smallest real net, its heads untrained."""
    torch.manual_seed(0)
    architecture = Architecture(CPU_DEFAULT, (64, 64), HeadWidths(32, 16))
    net = SuperSimpleNet(architecture, Backbone(CPU_DEFAULT)).eval()
    graph = inspection_graph(net, GraphKind.DEPLOY)
    return onnx_from_graph(graph, input_size_hw=(64, 64), version="test-1")


def scores(model, pixels):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    region = np.ones(pixels[0].shape[:2], np.uint8)
    feeds = {"pixel_threshold": np.zeros(1, np.float32), "region_mask": region}
    names = ["classification_logit", "map_max_logit"]
    return np.array([session.run(names, {"pixels": p[None], **feeds}) for p in pixels])[..., 0]


def kept(report, reason):
    return {each.name for each in report.kept if each.reason is reason}


def weight_types(model):
    """Types of the weights of convolutions, in the order of the graph."""
    graph = onnx.load_from_string(model).graph
    types = {each.name: each.data_type for each in graph.initializer}
    return [types[node.input[1]] for node in graph.node if node.op_type == "Conv"]


def test_a_real_net_keeps_its_scores_and_its_contract(lite0, surface):
    pixels = [surface((64, 64), spots=spots) for spots in (0, 1, 2)]
    half = fp16_from_fp32(lite0, pixels)
    before, after = (onnx.load_from_string(each).graph for each in (lite0, half.model))
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)
    apart = np.abs(scores(half_emulation(half.model), pixels) - scores(lite0, pixels))
    assert 0 < apart.max() < 5e-3
    assert half.report.errors.classification == pytest.approx(apart[:, 0].max())
    assert half.report.errors.map_max == pytest.approx(apart[:, 1].max())
    assert len(half.model) < 0.6 * len(lite0)
    assert half.report.half_share > 0.95
    assert half.report.casts <= 5
    result = parse_gate(half.model)
    if result is None:
        pytest.skip("tensorrt-rtx is not installed: not parsed")
    assert result.passed, result.message


def test_what_decides_stays_in_float(model, surface):
    half = fp16_from_fp32(model(), [surface((64, 64), spots=1)])
    assert half.report.half_operators["Conv"] > 1
    graph = onnx.load_from_string(half.model).graph
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(half.model)).graph
    types = {each.name: each.type.tensor_type.elem_type for each in inferred.value_info}
    types |= {each.name: each.data_type for each in graph.initializer}
    for node in graph.node:
        if node.op_type in ("ReduceMax", "ReduceMean", "Gemm", "GreaterOrEqual", "Where"):
            read = {types.get(name, FLOAT) for name in node.input}
            assert HALF not in read, f"{node.name} reads float16"
    assert not any(
        node.op_type == "Cast" and node.input[0] in ("pixel_threshold", "anomaly_map")
        for node in graph.node
    )
    first = next(node for node in graph.node if "pixels" in node.input and node.op_type == "Cast")
    assert first.attribute[0].i == FLOAT


def test_equal_input_gives_equal_bytes(pictures):
    model = tower()
    assert fp16_from_fp32(model, pictures).model == fp16_from_fp32(model, pictures).model


def test_layers_around_a_large_activation_stay_in_float_and_the_others_do_not(pictures):
    loud = tower(scales=(1, 1e5))
    half = fp16_from_fp32(loud, pictures)
    assert weight_types(half.model)[:4] == [HALF, FLOAT, FLOAT, FLOAT]
    large = [each for each in half.report.kept if each.reason is KeepReason.LARGE]
    assert max(each.largest for each in large) > 1e5
    wanted = scores(loud, pictures)
    np.testing.assert_allclose(scores(half_emulation(half.model), pictures), wanted, atol=5e-3)
    np.testing.assert_allclose(wanted, scores(tower(), pictures), atol=1e-4)


def test_the_naive_conversion_of_it_is_seen_to_overflow(pictures):
    graph = TypedGraph(tower(scales=(1, 1e5)))
    naive = {node.name for node in graph.nodes if node.op_type in ("Conv", "Relu")}
    found = scores(half_emulation(model_with_half_nodes(graph, naive)), pictures)
    assert not np.isfinite(found).all()


def test_the_margin_is_for_pictures_that_are_not_here(pictures):
    model = tower(scales=(1, 3e3))
    assert not kept(fp16_from_fp32(model, pictures, margin=1).report, KeepReason.LARGE)
    assert kept(fp16_from_fp32(model, pictures, margin=64).report, KeepReason.LARGE)


def test_weights_that_vanish_stay_in_float(pictures):
    faint = tower(scales=(1e3, 1e-6, 1e3))
    half = fp16_from_fp32(faint, pictures)
    assert weight_types(half.model)[:4] == [HALF, FLOAT, HALF, HALF]
    (lost,) = half.report.weights
    assert lost.largest < 1e-5
    assert lost.loss > 0.01
    wanted = scores(faint, pictures)
    np.testing.assert_allclose(scores(half_emulation(half.model), pictures), wanted, atol=5e-3)


def test_weights_beyond_the_range_stay_in_float(pictures):
    half = fp16_from_fp32(tower(scales=(1e-3, 1e6, 1e-4)), pictures)
    lost = [each for each in half.report.weights if not np.isfinite(each.loss)]
    assert [each.largest > 65504 for each in lost] == [True]
    assert half.report.to_dict()["weights_in_float"][0]["overflows"]


def test_small_differences_of_large_numbers_are_found_by_what_they_do_to_the_scores(pictures):
    model = tower(shift=2000.0)
    careless = fp16_from_fp32(model, pictures, largest_error=float("inf"))
    careful = fp16_from_fp32(model, pictures)
    assert careless.report.errors.share_of_spread > 0.5
    assert not kept(careless.report, KeepReason.ERROR)
    assert careful.report.errors.share_of_spread < 0.05
    assert kept(careful.report, KeepReason.ERROR)
    assert weight_types(careful.model)[3] == HALF
    wanted = scores(model, pictures)
    apart = np.abs(scores(half_emulation(careful.model), pictures) - wanted).max(0)
    assert (apart <= 0.05 * wanted.std(0)).all()


def test_a_quantised_net_keeps_its_scores(pictures):
    model = tower(is_quantised=True)
    half = fp16_from_fp32(model, pictures)
    assert half.report.half_operators["QuantizeLinear"] == 2
    wanted = scores(model, pictures)
    np.testing.assert_allclose(scores(half_emulation(half.model), pictures), wanted, atol=0.05)
    # An optimisation of ONNX Runtime ruins it; our engine does without.
    with OnnxRuntimeEngine(half.model, input_size_hw=SIZE) as engine:
        for pixels, (classification, map_max) in zip(pictures, wanted, strict=True):
            judgement = engine.infer(pixels, pixel_threshold=0.0)
            assert judgement.classification_logit == pytest.approx(classification, abs=0.05)
            assert judgement.map_max_logit == pytest.approx(map_max, abs=0.05)


def test_a_net_of_which_nothing_fits_is_refused_with_the_reason(pictures):
    with pytest.raises(ExportError, match="activation too large") as refused:
        fp16_from_fp32(tower(), pictures, margin=1e9)
    assert refused.value.exit_code == 4


def test_the_report_is_json_with_each_kept_node_and_its_reason(pictures):
    report = fp16_from_fp32(tower(scales=(1, 1e5)), pictures).report
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["pictures"] == 4
    reasons = {each["name"]: each["reason"] for each in found["nodes_in_float"]}
    assert set(reasons) == {each.name for each in report.kept}
    assert "activation too large for float16" in reasons.values()
    assert found["nodes_in_half"]["Conv"] == 2  # the first layer, and the one that gives the map


def test_no_pictures_are_refused():
    with pytest.raises(CalibrationError, match="no picture"):
        fp16_from_fp32(tower(), [])


def test_pictures_of_another_size_are_refused(surface):
    with pytest.raises(ExportError, match="64 x 64 x 3, the model takes uint8 32 x 32 x 3"):
        fp16_from_fp32(tower(), [surface((64, 64))])


def test_a_model_in_half_precision_is_not_converted_again(pictures):
    half = fp16_from_fp32(tower(), pictures)
    with pytest.raises(ExportError, match="float16 already"):
        fp16_from_fp32(half.model, pictures)


def test_a_net_that_gives_no_number_is_refused(pictures):
    with pytest.raises(ExportError, match="not finite"):
        fp16_from_fp32(tower(scales=(1e19, 1e19)), pictures)
