"""Each rule refuses what breaks it, by the node's name, and takes what we export."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ssn_edge_export.tensorrt_rules import Finding, check_rules

FLOAT, HALF, BYTE, INT8 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.UINT8,
    TensorProto.INT8,
)


def graph_of(
    *nodes: onnx.NodeProto,
    weights: dict[str, np.ndarray] | None = None,
    output: tuple[str, int] = ("y", FLOAT),
    opset: int = 19,
    batch: int | str = "B",
) -> onnx.ModelProto:
    """pixels (B, 4, 4, 3) uint8, cast to x; then the nodes."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["pixels"], ["x"], to=FLOAT, name="first"), *nodes],
        "g",
        [helper.make_tensor_value_info("pixels", BYTE, [batch, 4, 4, 3])],
        [helper.make_tensor_value_info(*output, None)],
        initializer=[
            numpy_helper.from_array(value, name) for name, value in (weights or {}).items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def quantised(
    *,
    zero: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    without_zero: bool = False,
) -> onnx.ModelProto:
    inputs = ["x", "scale"] if without_zero else ["x", "scale", "zero"]
    return graph_of(
        helper.make_node("QuantizeLinear", inputs, ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", *inputs[1:]], ["y"], name="dequantise"),
        weights={
            "scale": np.array(0.5, dtype=np.float32) if scale is None else scale,
            "zero": np.array(0, dtype=np.int8) if zero is None else zero,
        },
    )


def found_in(model: onnx.ModelProto) -> set[tuple[str, str]]:
    return {(each.rule, each.node) for each in check_rules(model)}


def test_an_exported_graph_keeps_every_rule(model: Callable[..., bytes]) -> None:
    assert check_rules(model()) == ()


def test_a_symmetric_quantisation_keeps_every_rule() -> None:
    assert check_rules(quantised()) == ()


def test_a_finding_says_where_what_and_what_to_do() -> None:
    model = graph_of(helper.make_node("NonZero", ["x"], ["y"], name="where"), output=("y", 7))
    (finding,) = check_rules(model)
    assert isinstance(finding, Finding)
    assert str(finding) == (
        "where: operator NonZero is not on its list; replace this layer of the net by ones that "
        "TensorRT 10.3 has"
    )


def test_bytes_that_are_no_onnx_are_one_finding() -> None:
    assert [each.rule for each in check_rules(b"\x08")] == ["file"]


@pytest.mark.parametrize(
    ("nodes", "finding"),
    [
        ([helper.make_node("Transpose", ["pixels"], ["t"], name="early")], ("uint8", "early")),
        ([helper.make_node("Shape", ["pixels"], ["t"], name="size")], ("uint8", "size")),
        (
            [helper.make_node("Cast", ["pixels"], ["t"], to=TensorProto.BOOL, name="to_bool")],
            ("uint8", "to_bool"),
        ),
        (
            [
                helper.make_node("Cast", ["x"], ["b"], to=BYTE, name="inside"),
                helper.make_node("Cast", ["b"], ["t"], to=FLOAT, name="back"),
            ],
            ("uint8", "back"),
        ),
    ],
    ids=["transposed", "measured", "to bool", "within"],
)
def test_uint8_is_for_the_edges(nodes: list[onnx.NodeProto], finding: tuple[str, str]) -> None:
    model = graph_of(*nodes, helper.make_node("Identity", ["x"], ["y"]))
    assert found_in(model) == {finding}


def test_a_mask_leaves_by_a_cast_from_float() -> None:
    positive = helper.make_node("Greater", ["x", "x"], ["g"])
    as_float = helper.make_node("Cast", ["g"], ["f"], to=FLOAT)
    last = helper.make_node("Cast", ["f"], ["y"], to=BYTE, name="last")
    assert check_rules(graph_of(positive, as_float, last, output=("y", BYTE))) == ()
    last.input[0] = "g"
    assert found_in(graph_of(positive, last, output=("y", BYTE))) == {("uint8", "last")}


@pytest.mark.parametrize(
    ("changes", "nodes"),
    [
        ({"without_zero": True}, {"quantise"}),
        ({"zero": np.array(3, dtype=np.int8)}, {"quantise", "dequantise"}),
        ({"zero": np.array(0, dtype=np.uint8)}, {"quantise", "dequantise"}),
        ({"scale": np.array(0, dtype=np.float32)}, {"quantise", "dequantise"}),
        ({"scale": np.array(np.nan, dtype=np.float32)}, {"quantise", "dequantise"}),
        (
            {"scale": np.full(3, 0.5, np.float32), "zero": np.zeros(3, np.int8)},
            {"quantise", "dequantise"},
        ),
    ],
    ids=["no zero point", "zero point 3", "uint8", "scale 0", "scale NaN", "per channel"],
)
def test_quantisation_is_symmetric_int8_with_one_scale(
    changes: dict[str, np.ndarray], nodes: set[str]
) -> None:
    found = {node for rule, node in found_in(quantised(**changes)) if rule == "quantisation"}
    assert found >= nodes


def test_scales_are_constants() -> None:
    model = quantised()
    doubled = helper.make_node("Add", ["scale", "scale"], ["computed"])
    model.graph.node.insert(0, doubled)
    for node in list(model.graph.node)[2:]:
        node.input[1] = "computed"
    found = [str(each) for each in check_rules(model)]
    assert found == [
        f"{node}: its scale computed is computed in the graph; make scales constants"
        for node in ("quantise", "dequantise")
    ]


def test_biases_stay_in_float() -> None:
    model = graph_of(
        helper.make_node("DequantizeLinear", ["bias", "scale"], ["d"], name="bias_dq"),
        helper.make_node("Add", ["x", "d"], ["y"]),
        weights={"bias": np.array(3, dtype=np.int32), "scale": np.array(0.5, np.float32)},
    )
    (finding,) = check_rules(model)
    assert "takes int32 (bias), int8 is wanted; leave biases in float" in str(finding)


def test_weights_may_have_a_scale_for_each_channel() -> None:
    model = graph_of(
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["d"], name="weights", axis=0),
        helper.make_node("Conv", ["x", "d"], ["y"], name="conv"),
        weights={
            "w": np.ones((2, 4, 1, 1), np.int8),
            "scale": np.full(2, 0.1, np.float32),
            "zero": np.zeros(2, np.int8),
        },
    )
    assert check_rules(model) == ()


def test_weights_that_are_computed_are_refused() -> None:
    model = graph_of(
        helper.make_node("Mul", ["w", "w"], ["squared"]),
        helper.make_node("Conv", ["x", "squared"], ["y"], name="conv"),
        weights={"w": np.ones((2, 4, 1, 1), np.float32)},
    )
    assert found_in(model) == {("constant", "conv")}


def test_axes_that_are_computed_are_refused() -> None:
    model = graph_of(
        helper.make_node("Add", ["one", "one"], ["axes"]),
        helper.make_node("ReduceMean", ["x", "axes"], ["y"], name="mean"),
        weights={"one": np.array([1], np.int64)},
    )
    assert found_in(model) == {("constant", "mean")}


def test_float_and_half_do_not_meet_without_a_cast() -> None:
    half = helper.make_node("Cast", ["x"], ["h"], to=HALF)
    model = graph_of(half, helper.make_node("Add", ["x", "h"], ["y"], name="mixed"))
    (finding,) = check_rules(model)
    assert finding.rule == "types"
    assert "put a Cast where float and half meet" in str(finding)


def test_double_precision_is_refused() -> None:
    wide = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)
    assert found_in(graph_of(wide, output=("y", TensorProto.DOUBLE))) == {("types", "y")}


@pytest.mark.parametrize(("opset", "is_taken"), [(8, False), (18, True), (20, True), (21, False)])
def test_the_opset_is_one_that_tensorrt_10_reads(opset: int, is_taken: bool) -> None:
    model = graph_of(helper.make_node("Identity", ["x"], ["y"]), opset=opset)
    assert (("opset", "the model") in found_in(model)) is not is_taken


def test_operators_of_other_domains_are_refused() -> None:
    model = graph_of(
        helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft", name="fused")
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert {("opset", "the model"), ("operator", "fused")} <= found_in(model)


@pytest.mark.parametrize(("batch", "is_taken"), [("B", True), (1, True), ("N", False)])
def test_only_the_batch_may_be_free_and_by_its_name(batch: int | str, is_taken: bool) -> None:
    model = graph_of(helper.make_node("Identity", ["x"], ["y"]), batch=batch)
    assert (check_rules(model) == ()) is is_taken


def test_weights_in_another_file_are_refused() -> None:
    model = graph_of(
        helper.make_node("Mul", ["x", "w"], ["y"]), weights={"w": np.ones(3, np.float32)}
    )
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    assert ("external", "w") in found_in(model)
