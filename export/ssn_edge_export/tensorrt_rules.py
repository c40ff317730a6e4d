"""What TensorRT 10.3 to 11 ask of a graph, as rules of our own: friendlier than a parser's words.

A parser names the first thing it stumbles over, in its own terms; a builder fails minutes later.
These rules name each node that will not do, what was found and what to do, without any library of
NVIDIA's. They are no proof that a graph builds: `parse_gate` asks the real parser where it can.

Source:
    onnx/onnx-tensorrt docs/operators.md (operators, constants, zero points); NVIDIA TensorRT
    documentation, Explicit Quantization (symmetric, per tensor but for weights); refusals of the
    parser and builder of TensorRT-RTX 1.7.1, each tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from ssn_edge_runtime.engines import base

OPSETS = range(9, 21)
"""Those that TensorRT 10.0 reads; later ones read more."""

_TENSOR = onnx.TensorProto
_BYTE, _INT8 = _TENSOR.UINT8, _TENSOR.INT8
_REAL = (_TENSOR.FLOAT, _TENSOR.FLOAT16)
_TYPES = {
    *(_TENSOR.FLOAT, _TENSOR.FLOAT16, _TENSOR.INT8, _TENSOR.UINT8),
    *(_TENSOR.BOOL, _TENSOR.INT32, _TENSOR.INT64),
}

_OPERATOR_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast
    Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace
    DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not Or
    PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round
    ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze
    Where Xor
"""
OPERATORS = frozenset(_OPERATOR_NAMES.split())
"""Of one picture's network: no control flow, no recurrence, no sizes that depend on values."""

_CONSTANT_INPUTS = {
    "CumSum": (1,),
    "Slice": (3,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    **{name: (1,) for name in OPERATORS if name.startswith("Reduce")},
}
"""Inputs that a parser must know the value of: axes, and how many."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that TensorRT would not take.

    Args:
        rule: Which rule, as one word.
        node: Name of the node, or of what stands in its place.
        found: What is there.
        fix: What to do.
    """

    rule: str
    node: str
    found: str
    fix: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.node}: {self.found}; {self.fix}"


def check_rules(model: bytes | onnx.ModelProto) -> tuple[Finding, ...]:
    """Hold a graph against every rule.

    Args:
        model: The file's bytes, or the loaded model.

    Returns:
        All that was found, in the order of the rules and the nodes; empty for a graph that keeps
        them.
    """
    if isinstance(model, bytes):
        try:
            loaded = onnx.load_model_from_string(model)
        except Exception as error:  # noqa: BLE001 - protobuf's errors share no other base class
            found = f"it cannot be read as ONNX ({type(error).__name__})"
            return (Finding("file", "the file", found, "export it again"),)
    else:
        loaded = model
    graph = _Graph(loaded)
    return tuple(finding for rule in _RULES for finding in rule(graph))


class _Graph:
    """A model with what the rules ask of it at hand."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.inputs = {each.name: each for each in model.graph.input}
        self.outputs = {each.name for each in model.graph.output}
        self.weights = {each.name: each for each in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.type_error = ""
        self.types = self._types()

    def constant(self, name: str) -> onnx.TensorProto | None:
        """The value of a tensor that does not change: a weight, or what a Constant node gives."""
        if name in self.weights and name not in self.inputs:
            return self.weights[name]
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "Constant":
            return None
        return next((each.t for each in maker.attribute if each.name == "value"), None)

    def is_real(self, name: str) -> bool:
        """Whether a tensor is float or half; one of which nothing is known may be."""
        return self.types.get(name, _TENSOR.FLOAT) in _REAL

    def _types(self) -> dict[str, int]:
        try:
            inferred = onnx.shape_inference.infer_shapes(
                self.model, check_type=True, strict_mode=True
            )
        except onnx.shape_inference.InferenceError as error:
            self.type_error = " ".join(str(error).split())
            inferred = self.model
        graph = inferred.graph
        types = {name: int(weight.data_type) for name, weight in self.weights.items()}
        for each in (*graph.input, *graph.value_info, *graph.output):
            types[each.name] = int(each.type.tensor_type.elem_type)
        return types


_Rule: TypeAlias = Callable[[_Graph], Iterator[Finding]]


def _opset(graph: _Graph) -> Iterator[Finding]:
    for each in graph.model.opset_import:
        if each.domain not in ("", "ai.onnx"):
            found = f"it imports operators of {each.domain}"
            yield Finding("opset", "the model", found, "use ONNX's own operators alone")
        elif each.version not in OPSETS:
            found = f"it is of opset {each.version}, {OPSETS[0]} to {OPSETS[-1]} are read"
            yield Finding("opset", "the model", found, "export it with opset 18, or 19")
    if graph.model.functions:
        yield Finding("opset", "the model", "it holds functions", "inline them")


def _files(graph: _Graph) -> Iterator[Finding]:
    for name, weight in graph.weights.items():
        if weight.data_location == _TENSOR.EXTERNAL:
            found = "its values are in another file"
            yield Finding("external", name, found, "store weights in the model")


def _operators(graph: _Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            name = f"{node.domain}.{node.op_type}".lstrip(".")
            fix = "replace this layer of the net by ones that TensorRT 10.3 has"
            yield Finding("operator", _name(node), f"operator {name} is not on its list", fix)


def _shapes(graph: _Graph) -> Iterator[Finding]:
    for name, value in graph.inputs.items():
        sizes = value.type.tensor_type.shape.dim
        for axis, size in enumerate(sizes):
            if size.HasField("dim_value") and size.dim_value > 0:
                continue
            if axis == 0 and size.dim_param == base.BATCH:
                continue
            found = f"axis {axis} of this input has no fixed size"
            fix = f"fix it; only a batch, axis 0 and named {base.BATCH}, may be free"
            yield Finding("shape", name, found, fix)


def _bytes_at_edges(graph: _Graph) -> Iterator[Finding]:
    """uint8 comes in through a Cast and leaves by one, from and to float; nothing computes on it.

    The types of TensorRT 10 convert uint8 from and to float and half alone.
    """
    for node in graph.nodes:
        for fault in _byte_faults(graph, node):
            yield Finding("uint8", _name(node), *fault)


def _byte_faults(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    # A zero point is uint8 by its own fault, which another rule tells.
    is_quantiser = node.op_type in ("QuantizeLinear", "DequantizeLinear")
    for name in node.input:
        if graph.types.get(name) != _BYTE or name in graph.weights or is_quantiser:
            continue
        if name not in graph.inputs:
            yield (
                f"{node.op_type} takes uint8 ({name}) from within the graph",
                "compute in float, and cast last of all",
            )
        elif node.op_type != "Cast" or not graph.is_real(node.output[0]):
            yield (
                f"{node.op_type} takes the uint8 input {name}",
                "the first node of a uint8 input must be a Cast to float",
            )
    for name in node.output:
        if graph.types.get(name) != _BYTE or is_quantiser:
            continue
        if node.op_type != "Cast" or not graph.is_real(node.input[0]):
            yield (
                f"{node.op_type} gives uint8 ({name}), not from float",
                "give float, and cast last of all",
            )


def _element_types(graph: _Graph) -> Iterator[Finding]:
    if graph.type_error:
        found = f"its types or shapes contradict each other ({graph.type_error[:300]})"
        fix = "put a Cast where float and half meet; a network is typed by its file"
        yield Finding("types", "the graph", found, fix)
    for name, kind in graph.types.items():
        if kind not in _TYPES and kind != _TENSOR.UNDEFINED:
            found = f"it is {_TENSOR.DataType.Name(kind).lower()}"
            yield Finding("types", name, found, "use float, half, int8, int32, int64 or bool")


def _constants(graph: _Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        for index in _CONSTANT_INPUTS.get(node.op_type, ()):
            name = node.input[index] if len(node.input) > index else ""
            if name and graph.constant(name) is None:
                found = f"{name} is computed in the graph"
                yield Finding("constant", _name(node), found, "make it a constant")
        if node.op_type in ("Conv", "ConvTranspose") and not _is_weight(graph, node.input[1]):
            found = "its weights are computed in the graph"
            fix = "fold them to a constant; only a DequantizeLinear may stand before them"
            yield Finding("constant", _name(node), found, fix)
        if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            found = "its indices are used"
            yield Finding("operator", _name(node), found, "TensorRT gives the maxima alone")


def _quantisation(graph: _Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            for found, fix in _quantisation_faults(graph, node):
                yield Finding("quantisation", _name(node), found, fix)


def _quantisation_faults(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    scale = graph.constant(node.input[1])
    if scale is None:
        yield f"its scale {node.input[1]} is computed in the graph", "make scales constants"
    else:
        values = numpy_helper.to_array(scale).astype(np.float64)
        if not (np.isfinite(values).all() and (values > 0).all()):
            yield "a scale is zero, negative or not finite", "calibrate on pictures that vary"
        if values.size > 1 and not _is_weight(graph, node.input[0]):
            yield (
                f"it has {values.size} scales for activations",
                "one scale for activations; only weights may have one for each channel",
            )
    yield from _zero_point_faults(graph, node)
    taken = graph.types.get(node.input[0], _INT8)
    if node.op_type == "DequantizeLinear" and taken != _INT8:
        kind = _TENSOR.DataType.Name(taken).lower()
        fix = "leave biases in float, and quantise to int8"
        yield f"it takes {kind} ({node.input[0]}), int8 is wanted", fix


def _zero_point_faults(graph: _Graph, node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    symmetric = "quantise symmetrically, with an int8 zero point of 0"
    if len(node.input) < 3 or not node.input[2]:
        # Without one QuantizeLinear gives uint8 by definition.
        if node.op_type == "QuantizeLinear":
            yield "it has no zero point, so it gives uint8", symmetric
        return
    zero_point = graph.constant(node.input[2])
    if zero_point is None:
        yield "its zero point is computed in the graph", symmetric
    elif zero_point.data_type != _INT8:
        kind = _TENSOR.DataType.Name(zero_point.data_type).lower()
        yield f"its zero point is {kind}", symmetric
    elif np.any(numpy_helper.to_array(zero_point)):
        yield "its zero point is not 0", symmetric


def _is_weight(graph: _Graph, name: str) -> bool:
    """A constant, or one that is dequantised (and quantised before that)."""
    while graph.constant(name) is None:
        maker = graph.makers.get(name)
        if maker is None or maker.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        name = maker.input[0]
    return True


def _name(node: onnx.NodeProto) -> str:
    return node.name or f"the {node.op_type} that gives {node.output[0]}"


_RULES: tuple[_Rule, ...] = (
    *(_opset, _files, _operators, _shapes, _element_types),
    *(_bytes_at_edges, _constants, _quantisation),
)
