"""Write which nodes run in half precision into an ONNX model: strongly typed, with its casts.

`onnxruntime.transformers.float16` does not do it: it rounds what passes between two nodes that are
kept in float32, and what enters and leaves the model, so that overflow and threshold are lost all
the same; it clips weights in silence, and knows nothing of Q/DQ nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx

from ssn_edge_export.half_precision_graph import (
    ANY_TYPE,
    DEQUANTISE,
    FLOAT,
    HALF,
    QUANTISE,
    QUANTISED_HALF_OPSET,
    TypedGraph,
    halves,
)
from ssn_edge_export.half_precision_numbers import half_integers, half_of, half_scale
from ssn_edge_runtime.errors import ExportError

_SUFFIXES = {FLOAT: ".float", HALF: ".half"}


def model_with_half_nodes(graph: TypedGraph, half: Collection[str]) -> bytes:
    """The model with some of its nodes in float16, all else as it is.

    A tensor has the type of the node that writes it; where readers want the other, one Cast serves
    them all. Inputs and outputs of the model stay float32. A dequantisation gets a twin of the
    other type instead of a Cast: engines look for it right before a product.

    Args:
        graph: The float32 model.
        half: Names of nodes that have a float16 form in ONNX.

    Returns:
        A serialised ONNX model, checked. Equal arguments give equal bytes.

    Raises:
        ExportError: What came of it is not valid.
    """
    writer = _Writer(graph, frozenset(half))
    nodes = writer.nodes()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for field, content in (("node", nodes), ("initializer", list(writer.initialisers()))):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(content)
    quantised = any(
        node.op_type in (QUANTISE, DEQUANTISE) and node.name in half for node in graph.nodes
    )
    if quantised and graph.opset < QUANTISED_HALF_OPSET:
        # Nothing that such a graph uses means another thing in 19 than in 18.
        model.opset_import[0].version = QUANTISED_HALF_OPSET
        model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"half precision gave an invalid model ({str(error).strip().splitlines()[0]}); export "
            "without --fp16, and report this message"
        ) from error
    return bytes(model.SerializeToString(deterministic=True))


def casts_of(model: bytes) -> int:
    """Number of casts in a model."""
    return sum(node.op_type == "Cast" for node in onnx.load_from_string(model).graph.node)


class _Writer:
    """One pass over the nodes, with what each tensor is called in each type."""

    def __init__(self, graph: TypedGraph, half: frozenset[str]) -> None:
        self._graph = graph
        self._half = half
        self._written: list[onnx.NodeProto] = []
        self._names: dict[tuple[str, int], str] = {
            (each.name, FLOAT): each.name
            for each in graph.model.graph.input
            if graph.is_float(each.name)
        }
        self._in_half: dict[str, onnx.TensorProto] = {}

    def nodes(self) -> list[onnx.NodeProto]:
        """All nodes in order, each cast right before its first reader."""
        nothing: frozenset[int] = frozenset()
        for node in self._graph.nodes:
            is_half = node.name in self._half
            inputs, outputs = halves(node, self._graph.opset) if is_half else (nothing, nothing)
            written = self._copy(node, inputs)
            back_to_float = []
            for index, name in enumerate(node.output):
                if index in outputs and self._graph.is_float(name):
                    self._names[name, HALF] = name
                    if name in self._graph.outputs:
                        inside = written.output[index] = name + _SUFFIXES[HALF]
                        self._names[name, HALF] = inside
                        self._names[name, FLOAT] = name
                        back_to_float.append(_cast(inside, name, FLOAT))
                elif self._graph.is_float(name):
                    self._names[name, FLOAT] = name
            self._written += [written, *back_to_float]
        return self._written

    def initialisers(self) -> Iterator[onnx.TensorProto]:
        """Each constant in each type that a node reads it in, in the order of the graph."""
        used = {name for node in self._written for name in node.input}
        shared_scales = {
            node.input[1]
            for node in self._graph.nodes
            if node.op_type == QUANTISE and node.input[1] in self._in_half
        }
        for tensor in self._graph.model.graph.initializer:
            if tensor.name in used and tensor.name in shared_scales:
                # Both ends of a quantised tensor must mean the same numbers.
                values = onnx.numpy_helper.to_array(self._in_half[tensor.name])
                yield onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name)
            elif tensor.name in used:
                yield tensor
            if tensor.name in self._in_half:
                yield self._in_half[tensor.name]

    def _copy(self, node: onnx.NodeProto, as_half: Collection[int]) -> onnx.NodeProto:
        """A node that reads some of its inputs in half precision and the others in float32."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            if not self._graph.is_float(name):
                continue
            wanted = HALF if index in as_half else FLOAT
            if node.op_type in ANY_TYPE and (name, HALF) in self._names:
                wanted = HALF
            if name not in self._graph.constants:
                copy.input[index] = self._tensor(name, wanted)
            elif wanted == HALF:
                is_scale = node.op_type in (QUANTISE, DEQUANTISE)
                values = self._graph.values(name)
                copy.input[index] = self._constant(
                    name, half_scale(values) if is_scale else half_of(values)
                )
        if node.op_type == DEQUANTISE and as_half and node.input[0] in self._graph.constants:
            integers = half_integers(self._graph, node)
            if not np.array_equal(integers, self._graph.values(node.input[0])):
                copy.input[0] = self._constant(node.input[0], integers)
        return copy

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        named = name + _SUFFIXES[HALF]
        if name not in self._in_half:
            self._in_half[name] = onnx.numpy_helper.from_array(values, named)
        return named

    def _tensor(self, name: str, wanted: int) -> str:
        """The name of a tensor in a type; what it takes to have it is written first."""
        if (name, wanted) in self._names:
            return self._names[name, wanted]
        source = self._names[name, FLOAT if wanted == HALF else HALF]
        named = self._names[name, wanted] = name + _SUFFIXES[wanted]
        producer = self._graph.producers.get(name)
        if producer is not None and producer.op_type == DEQUANTISE:
            twin = self._copy(producer, {1} if wanted == HALF else ())
            twin.name = producer.name + _SUFFIXES[wanted]
            twin.output[0] = named
            self._written.append(twin)
        else:
            self._written.append(_cast(source, named, wanted))
        return named


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast.{target}", to=to)
