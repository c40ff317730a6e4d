"""What the tensors of a model hold on real pictures: the largest magnitudes, nothing else kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ssn_edge_calibrate.int8_run import outputs_of
from ssn_edge_export.half_precision_graph import FLOAT, PRODUCTS, TypedGraph
from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.errors import CalibrationError, ExportError

_LARGEST, _PARTIAL = "largest_magnitudes", "partial_sums"
_SHAPE_SUFFIX, _MAGNITUDE_SUFFIX = ".shape", ".magnitude"


@dataclass(frozen=True, slots=True)
class Ranges:
    """What was seen.

    Args:
        largest: For each float32 activation, the largest magnitude.
        partial: For each product, by the node's name, the largest sum of the magnitudes of its
            terms: no order of summation gives a larger partial sum.
        shapes: For each float32 activation, its sizes for one picture.
        pictures: How many were run.
    """

    largest: Mapping[str, float]
    partial: Mapping[str, float]
    shapes: Mapping[str, tuple[int, ...]]
    pictures: int


def observed_ranges(graph: TypedGraph, pixels: Sequence[ByteImage]) -> Ranges:
    """Run a model on pictures and look at every tensor of it.

    The largest values are found inside of the graph, so memory is that of one ordinary run.

    Args:
        graph: The float32 model, with the inputs of `engines/base.py`.
        pixels: Preprocessed pictures, (h, w, 3) uint8 each.

    Raises:
        CalibrationError: No picture, or ONNX Runtime cannot run the model.
        ExportError: The model's inputs are not the contract's, or it gives NaN or infinity.
    """
    if not pixels:
        raise CalibrationError(
            "no picture to look for overflow with; half precision needs some of your own pictures"
        )
    _check_pictures(graph.model, pixels)
    probe = _Probe(graph)
    largest = np.zeros(len(probe.tensors))
    partial = np.zeros(len(probe.products))
    shapes: list[FloatArray] = []
    names = [_LARGEST, _PARTIAL, *(name + _SHAPE_SUFFIX for name in probe.tensors)]
    for seen, summed, *sizes in outputs_of(probe.model(), pixels, names):
        shapes = sizes
        largest = np.maximum(largest, seen)
        partial = np.maximum(partial, summed)
    finite = np.isfinite(largest)
    if not finite.all():
        raise ExportError(
            f"{probe.tensors[int(np.argmin(finite))]!r} of the float32 model is not finite on a "
            "picture; half precision cannot mend that, look for what is wrong with the net"
        )
    return Ranges(
        dict(zip(probe.tensors, largest.tolist(), strict=True)),
        dict(zip(probe.products, partial.tolist(), strict=True)),
        {name: tuple(map(int, s)) for name, s in zip(probe.tensors, shapes, strict=True)},
        len(pixels),
    )


def multiplications(graph: TypedGraph, node: onnx.NodeProto, ranges: Ranges) -> int:
    """Multiply-accumulates of a product for one picture; 0 for any other node."""
    if node.op_type not in PRODUCTS or node.output[0] not in ranges.shapes:
        return 0
    weight = _sizes(graph, node.input[1], ranges)
    if node.op_type == "ConvTranspose":
        return math.prod(_sizes(graph, node.input[0], ranges)) * math.prod(weight[1:])
    if node.op_type == "Conv":
        return math.prod(ranges.shapes[node.output[0]]) * math.prod(weight[1:])
    first = _sizes(graph, node.input[0], ranges)
    is_transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return math.prod(ranges.shapes[node.output[0]]) * first[0 if is_transposed else -1]


def _sizes(graph: TypedGraph, name: str, ranges: Ranges) -> tuple[int, ...]:
    return ranges.shapes[name] if name in ranges.shapes else graph.values(name).shape


class _Probe:
    """The model with the largest magnitude of each tensor as a further output."""

    def __init__(self, graph: TypedGraph) -> None:
        self._graph = graph
        self.tensors = [
            name
            for node in graph.nodes
            for name in graph.float_outputs(node)
            if not graph.is_constant(name)
        ]
        self.products = [node.name for node in graph.nodes if node.op_type in PRODUCTS]

    def model(self) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(self._graph.model)
        graph = model.graph
        make = onnx.helper.make_node
        magnitudes: dict[str, str] = {}

        def magnitude(name: str) -> str:
            if name not in magnitudes:
                magnitudes[name] = name + _MAGNITUDE_SUFFIX
                graph.node.append(make("Abs", [name], [magnitudes[name]]))
            return magnitudes[name]

        def output(found: list[str], name: str) -> None:
            """One vector of the largest value of each tensor."""
            for each in found:
                graph.node.append(make("ReduceMax", [each], [f"{each}.largest"], keepdims=0))
                graph.node.append(
                    make("Reshape", [f"{each}.largest", "one_value"], [f"{each}.one"])
                )
            ones = [f"{each}.one" for each in found]
            graph.node.append(make("Concat", ["no_value", *ones], [name], axis=0))
            graph.output.append(onnx.helper.make_tensor_value_info(name, FLOAT, [len(found)]))

        for constant, values in (("one_value", np.array([1])), ("no_value", np.zeros(0, "f4"))):
            graph.initializer.append(onnx.numpy_helper.from_array(values, constant))
        output([magnitude(name) for name in self.tensors], _LARGEST)
        partial = []
        for node in self._graph.nodes:
            if node.op_type in PRODUCTS:
                terms = onnx.NodeProto()
                terms.CopyFrom(node)
                terms.name = ""
                terms.ClearField("input")
                terms.input.extend(magnitude(name) if name else "" for name in node.input)
                terms.output[0] = f"{node.output[0]}.terms"
                graph.node.append(terms)
                partial.append(terms.output[0])
        output(partial, _PARTIAL)
        for name in self.tensors:
            shape = name + _SHAPE_SUFFIX
            graph.node.append(make("Shape", [name], [shape]))
            graph.output.append(
                onnx.helper.make_tensor_value_info(shape, onnx.TensorProto.INT64, None)
            )
        return bytes(model.SerializeToString())


def _check_pictures(model: onnx.ModelProto, pixels: Sequence[ByteImage]) -> None:
    wanted = {
        each.name: [size.dim_value for size in each.type.tensor_type.shape.dim]
        for each in model.graph.input
    }
    if set(wanted) != {base.PIXELS, base.PIXEL_THRESHOLD, base.REGION_MASK}:
        raise ExportError(
            f"the model's inputs are {', '.join(sorted(wanted))}; a model that ssn-edge exported "
            "is wanted"
        )
    for each in pixels:
        if each.dtype != np.uint8 or list(each.shape) != wanted[base.PIXELS][1:]:
            raise ExportError(
                f"a picture is {each.dtype} {' x '.join(map(str, each.shape))}, the model takes "
                f"uint8 {' x '.join(map(str, wanted[base.PIXELS][1:]))}; preprocess it first"
            )
