"""Chosen nodes in float16: nothing else is rounded, and one cast serves all readers."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_export.half_precision_emulation import half_emulation
from ssn_edge_export.half_precision_graph import TypedGraph
from ssn_edge_export.half_precision_writer import model_with_half_nodes
from ssn_edge_export.parse_gate import parse_gate
from ssn_edge_runtime.errors import ExportError

HALF, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
SHAPE = (1, 4, 3, 3)


def written(body, constants, *, shape=SHAPE, outputs="float[{0}] y", opset=18):
    sizes = ", ".join(map(str, shape))
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[{sizes}] x) => ({outputs.format(sizes)}) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    for name, values in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def nodes_of(model, operator):
    return [node for node in onnx.load_from_string(model).graph.node if node.op_type == operator]


OPERATORS = ["Add", "Conv", "MatMul", "Mul", "Relu"]


@st.composite
def graphs(draw):
    """Nodes as (operator, positions of what it reads, weight, whether it is in half precision)."""
    nodes = []
    for count in range(1, draw(st.integers(2, 7)) + 1):
        operator = draw(st.sampled_from(OPERATORS))
        reads = [draw(st.integers(max(0, count - 3), count - 1)) for _ in range(2)]
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        shape = {"Conv": (4, 4, 3, 3), "MatMul": (3, 3), "Mul": (1, 4, 1, 1)}.get(operator, SHAPE)
        # Integers: sums are exact in any order, and float16 begins to round them at 2048.
        weight = rng.integers(-3, 4, shape).astype(np.float32)
        nodes.append((operator, reads, weight, draw(st.booleans())))
    return nodes


def as_onnx(nodes):
    lines, constants = [], {}
    for index, (operator, (first, second), weight, _) in enumerate(nodes, start=1):
        other = f"t{second}"
        if operator in ("Conv", "MatMul", "Mul"):
            other, constants[f"w{index}"] = f"w{index}", weight
        reads = f"t{first}" if operator == "Relu" else f"t{first}, {other}"
        pads = "<pads=[1, 1, 1, 1]>" if operator == "Conv" else ""
        lines.append(f"t{index} = {operator} {pads} ({reads})")
    body = " ".join(lines).replace(f"t{len(nodes)} =", "y =").replace("t0", "x")
    return written(body, constants)


def by_hand(nodes, x):
    """What the nodes give, those in half precision with inputs and result rounded."""
    values = [x]
    for operator, (first, second), weight, is_half in nodes:
        other = weight if operator in ("Conv", "MatMul", "Mul") else values[second]
        first, other = (
            torch.from_numpy(each.astype(np.float16 if is_half else np.float32)).double()
            for each in (values[first], other)
        )
        with np.errstate(over="ignore"):
            result = {
                "Add": lambda a, b: a + b,
                "Conv": lambda a, b: F.conv2d(a, b, padding=1),
                "MatMul": lambda a, b: a @ b,
                "Mul": lambda a, b: a * b,
                "Relu": lambda a, _: a.relu(),
            }[operator](first, other)
            result = result.numpy().astype(np.float16 if is_half else np.float32)
        values.append(result.astype(np.float32))
    return values[-1]


def casts_by_hand(nodes):
    """Each tensor that is read in the other type costs one, and each output in half precision."""
    is_half = [False, *(half for *_, half in nodes)]
    crossing = {
        (read, half)
        for operator, (first, second), _, half in nodes
        for read in ((first, second) if operator == "Add" else (first,))
        if is_half[read] != half
    }
    return len(crossing) + is_half[-1]


@settings(deadline=None, max_examples=60)
@given(nodes=graphs(), seed=st.integers(0, 9))
def test_only_the_chosen_nodes_round(nodes, seed):
    x = np.random.default_rng(seed).integers(-20, 21, SHAPE).astype(np.float32)
    graph = TypedGraph(as_onnx(nodes))
    model = model_with_half_nodes(graph, {f"n{i}" for i, each in enumerate(nodes) if each[3]})
    found = run(half_emulation(model), x)[0]
    np.testing.assert_array_equal(found, by_hand(nodes, x))
    dead = any(
        index < len(nodes) and all(index not in reads for _, reads, *_ in nodes)
        for index in range(1, len(nodes))
    )
    if not dead:
        assert len(nodes_of(model, "Cast")) <= casts_by_hand(nodes)
    assert model_with_half_nodes(graph, {f"n{i}" for i, n in enumerate(nodes) if n[3]}) == model


def test_between_float_nodes_a_large_value_is_not_rounded():
    model = written(
        "a = Mul (x, loud)  b = Mul (a, quiet)  c = Relu (b)  y = Mul (c, quiet)",
        {"loud": np.array(1e6, np.float32), "quiet": np.array(1e-3, np.float32)},
    )
    x = np.full(SHAPE, 3.0, np.float32)
    found = run(half_emulation(model_with_half_nodes(TypedGraph(model), {"n2", "n3"})), x)[0]
    np.testing.assert_allclose(found, 3.0, rtol=2e-3)
    everything = model_with_half_nodes(TypedGraph(model), {"n0", "n1", "n2", "n3"})
    assert not np.isfinite(run(half_emulation(everything), x)[0]).all()


def test_a_weight_of_both_types_is_stored_in_both():
    model = written("a = Mul (x, w)  y = Mul (a, w)", {"w": np.array(0.1, np.float32)})
    graph = onnx.load_from_string(model_with_half_nodes(TypedGraph(model), {"n0"})).graph
    assert {each.name: each.data_type for each in graph.initializer} == {"w": FLOAT, "w.half": HALF}


def test_what_an_operator_takes_only_in_float_stays_so():
    model = written(
        'y = Resize <mode = "linear"> (x, , scales)',
        {"scales": np.array([1, 1, 2, 2], np.float32)},
        outputs="float[1, 4, 6, 6] y",
    )
    graph = onnx.load_from_string(model_with_half_nodes(TypedGraph(model), {"n0"})).graph
    assert [(each.name, each.data_type) for each in graph.initializer] == [("scales", FLOAT)]
    assert [node.op_type for node in graph.node] == ["Cast", "Resize", "Cast"]


QUANTISED = """
    small = Mul (x, tenth)
    of_w = DequantizeLinear <axis=0> (w, of_weight, no_weight)
    q = QuantizeLinear (small, of_x, nothing)
    dq = DequantizeLinear (q, of_x, nothing)
    conv = Conv <pads=[1, 1, 1, 1]> (dq, of_w, bias)
    relu = Relu (conv)
    skip = Add (relu, dq)
    y = Mul (skip, tenth)
"""


def quantised_model(scale=(0.01, 0.02, 0.03, 0.04), of_x=0.02):
    rng = np.random.default_rng(5)
    constants = {
        "tenth": np.array(0.1, np.float32),
        "w": rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
        "of_weight": np.array(scale, np.float32),
        "no_weight": np.zeros(4, np.int8),
        "of_x": np.array(of_x, np.float32),
        "nothing": np.array(0, np.int8),
        "bias": rng.normal(0, 1, 4).astype(np.float32),
    }
    return written(QUANTISED, constants)


EVERYTHING = {f"n{index}" for index in range(8)}


def test_a_quantised_model_is_taken_to_half_precision_in_opset_19(rng):
    model = quantised_model()
    half = model_with_half_nodes(TypedGraph(model), EVERYTHING)
    proto = onnx.load_from_string(half)
    assert proto.opset_import[0].version == 19
    assert len(nodes_of(half, "Cast")) == 2
    x = rng.normal(0, 5, SHAPE).astype(np.float32)
    wanted = run(model, x)[0]
    found = run(half_emulation(half), x)[0]
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())


def test_without_half_quantisation_the_opset_stays():
    half = model_with_half_nodes(TypedGraph(quantised_model()), {"n0", "n7"})
    assert onnx.load_from_string(half).opset_import[0].version == 18


def test_a_dequantisation_for_both_types_has_a_twin_and_no_cast_before_the_product():
    half = model_with_half_nodes(TypedGraph(quantised_model()), EVERYTHING - {"n6", "n7"})
    writers = {
        name: node for node in onnx.load_from_string(half).graph.node for name in node.output
    }
    (conv,) = nodes_of(half, "Conv")
    assert {writers[name].op_type for name in conv.input[:2]} == {"DequantizeLinear"}
    (add,) = nodes_of(half, "Add")
    assert [writers[name].op_type for name in add.input] == ["Cast", "DequantizeLinear"]
    scales = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load_from_string(half).graph.initializer
        if each.name.startswith("of_x")
    }
    assert scales["of_x"] == scales["of_x.half"].astype(np.float32)


def test_scales_that_float16_cannot_hold_are_raised_and_the_weights_with_them(rng):
    """TensorRT refuses a scale of 0; the channel's weights become what they are worth."""
    model = quantised_model(scale=(0.01, 1e-9, 3e-7, 0.04))
    half = model_with_half_nodes(TypedGraph(model), EVERYTHING)
    stored = {each.name: each for each in onnx.load_from_string(half).graph.initializer}
    scale = onnx.numpy_helper.to_array(stored["of_weight.half"]).astype(np.float64)
    integers = onnx.numpy_helper.to_array(stored["w.half"]).astype(np.float64)
    before = onnx.numpy_helper.to_array(onnx.load_from_string(model).graph.initializer[1])
    assert (scale > 0).all()
    assert "w" not in stored
    np.testing.assert_array_equal(integers[[0, 3]], before[[0, 3]])
    worth = before * np.array([0.01, 1e-9, 3e-7, 0.04]).reshape(4, 1, 1, 1)
    apart = np.abs(integers * scale.reshape(4, 1, 1, 1) - worth)
    assert (apart[1:3].reshape(2, -1).max(1) <= scale[1:3] / 2 * 1.01).all()
    assert np.isfinite(
        run(half_emulation(half), rng.normal(0, 5, SHAPE).astype(np.float32))[0]
    ).all()


def test_tensorrt_parses_and_compiles_a_quantised_model_in_half_precision():
    model = quantised_model(scale=(0.01, 1e-9, 3e-7, 0.04))
    result = parse_gate(model_with_half_nodes(TypedGraph(model), EVERYTHING))
    if result is None:
        pytest.skip("tensorrt-rtx is not installed")
    assert result.passed, result.message


def test_weights_that_are_not_symmetric_are_refused():
    proto = onnx.load_from_string(quantised_model())
    for each in proto.graph.initializer:
        if each.name == "no_weight":
            each.CopyFrom(onnx.numpy_helper.from_array(np.ones(4, np.int8), "no_weight"))
    with pytest.raises(ExportError, match="weight 'w' is int8 or has a zero point"):
        model_with_half_nodes(TypedGraph(proto.SerializeToString()), EVERYTHING)


def test_operators_of_others_are_refused():
    proto = onnx.load_from_string(written("y = Relu (x)", {}))
    proto.graph.node[0].domain = "com.microsoft"
    with pytest.raises(ExportError, match="the model has Relu; only standard operators"):
        TypedGraph(proto.SerializeToString())
