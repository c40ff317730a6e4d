"""An ONNX graph with the type of each tensor, as the pass to half precision reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx

from ssn_edge_runtime.errors import ExportError

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where the arithmetic is; all other operators cost memory traffic."""
QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
QUANTISED_HALF_OPSET = 19
"""The lowest in which both take float16."""
ANY_TYPE = frozenset({"Shape", "Size"})
"""Read no value, so they take a tensor in whatever type it is."""

_DOMAINS = ("", "ai.onnx")


class TypedGraph:
    """A model with what is asked of it again and again; the model is not changed after.

    Args:
        model: Standard operators only, all weights inside, no subgraphs, no float16 yet.

    Raises:
        ExportError: The model is not of that form.
    """

    def __init__(self, model: bytes) -> None:
        self.model = _plain(onnx.load_from_string(model))
        graph = self.model.graph
        self.opset = max(
            (each.version for each in self.model.opset_import if each.domain in _DOMAINS), default=0
        )
        self.nodes: tuple[onnx.NodeProto, ...] = tuple(graph.node)
        self.constants: Mapping[str, onnx.TensorProto] = {
            each.name: each for each in graph.initializer
        }
        self.outputs = frozenset(each.name for each in graph.output)
        self.types = _types(self.model)
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(filter(None, node.input)):
                self.consumers.setdefault(name, []).append(node)
        if HALF in self.types.values():
            raise ExportError(
                "the model holds float16 already; a float32 model is wanted, convert that one"
            )

    def is_float(self, name: str) -> bool:
        """Whether a tensor, constant or not, is float32."""
        return bool(self.types.get(name) == FLOAT)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a weight: stored as it is, or stored as integers with a scale."""
        node = self.producers.get(name)
        if node is None or node.op_type != DEQUANTISE:
            return name in self.constants
        return all(each in self.constants for each in node.input if each)

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """The float32 inputs of a node that are not weights, each once."""
        names = dict.fromkeys(filter(None, node.input))
        return [name for name in names if self.is_float(name) and not self.is_constant(name)]

    def float_outputs(self, node: onnx.NodeProto) -> list[str]:
        """The float32 outputs of a node."""
        return [name for name in node.output if name and self.is_float(name)]

    def values(self, name: str) -> npt.NDArray[np.generic]:
        """The numbers of a constant, a weight of integers with its scale applied."""
        if name in self.constants:
            array: npt.NDArray[np.generic] = onnx.numpy_helper.to_array(self.constants[name])
            return array
        integers, scale = stored_integers(self, self.producers[name])
        return integers * scale


def stored_integers(
    graph: TypedGraph, node: onnx.NodeProto
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The integers of a DequantizeLinear of constants, less its zero point, and their scale."""
    integers = graph.values(node.input[0]).astype(np.float32)
    if len(node.input) > 2 and node.input[2]:
        integers -= _along_axis(node, graph.values(node.input[2]), integers.ndim)
    return integers, _along_axis(node, graph.values(node.input[1]), integers.ndim)


def _along_axis(
    node: onnx.NodeProto, values: npt.NDArray[np.generic], rank: int
) -> npt.NDArray[np.float32]:
    """One number, or one for each index of the node's axis, so that they broadcast."""
    if values.size == 1:
        return values.astype(np.float32).reshape(())
    shape = [1] * rank
    shape[next((each.i for each in node.attribute if each.name == "axis"), 1)] = -1
    return values.astype(np.float32).reshape(shape)


def halves(node: onnx.NodeProto, opset: int) -> tuple[frozenset[int], frozenset[int]]:
    """Which inputs and outputs of an operator may be float16, by position, as ONNX defines it."""
    if node.op_type in (QUANTISE, DEQUANTISE):
        opset = max(opset, QUANTISED_HALF_OPSET)
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}

    def of(count: int, formal: list[onnx.defs.OpSchema.FormalParameter]) -> Iterator[int]:
        for index in range(count):
            # The last one stands for all that follow, where an operator takes any number.
            kind = formal[min(index, len(formal) - 1)].type_str
            if "tensor(float16)" in allowed.get(kind, [kind]):
                yield index

    return (
        frozenset(of(len(node.input), list(schema.inputs))),
        frozenset(of(len(node.output), list(schema.outputs))),
    )


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each node with a name of its own, each constant an initialiser."""
    graph = model.graph
    foreign = sorted(
        {node.op_type for node in graph.node if node.domain not in _DOMAINS}
        | {each.name for each in model.functions}
    )
    with_subgraph = sorted(
        {
            node.op_type
            for node in graph.node
            for each in node.attribute
            if each.HasField("g") or each.graphs
        }
    )
    if foreign or with_subgraph or graph.sparse_initializer:
        raise ExportError(
            f"the model has {', '.join(foreign + with_subgraph) or 'sparse weights'}; only "
            "standard operators without subgraphs can be taken to half precision"
        )
    nodes = []
    for node in graph.node:
        value = next((each for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.initializer.add().CopyFrom(value.t)
            graph.initializer[-1].name = node.output[0]
        else:
            nodes.append(node)
    counts = Counter(node.name for node in nodes)
    for index, node in enumerate(nodes):
        if not node.name or counts[node.name] > 1:
            node.name = f"{node.op_type}.{index}"
    if len({node.name for node in nodes}) < len(nodes):
        raise ExportError("the model's nodes have names that cannot be told apart; export it again")
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    graph.ClearField("node")
    graph.node.extend(kept)
    graph.ClearField("value_info")
    return model


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of each tensor."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(
            f"the model's types do not fit together ({str(error).splitlines()[0]}); export it again"
        ) from error
    types = {
        each.name: int(each.type.tensor_type.elem_type)
        for each in (*inferred.input, *inferred.output, *inferred.value_info)
    }
    types.update({each.name: int(each.data_type) for each in inferred.initializer})
    unknown = [name for node in model.graph.node for name in node.output if name not in types]
    if any(unknown):
        raise ExportError(f"the type of {unknown[0]!r} cannot be told; export the model again")
    return types
