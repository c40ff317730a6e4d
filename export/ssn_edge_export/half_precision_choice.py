"""Which nodes of a model may run in half precision, and why the others may not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx

from ssn_edge_export.half_precision_graph import (
    ANY_TYPE,
    DEQUANTISE,
    PRODUCTS,
    QUANTISE,
    TypedGraph,
    halves,
)
from ssn_edge_export.half_precision_numbers import (
    LARGEST_HALF,
    SMALLEST_NORMAL_HALF,
    half_weight,
)
from ssn_edge_export.half_precision_ranges import Ranges

LARGEST_WEIGHT_LOSS = 1e-3
"""Of the root mean square of a weight tensor, rounded against not; ordinary rounding takes 2e-4."""
LARGEST_INTEGER_LOSS = 5e-3
"""The same of a weight that is stored in INT8, which took some 1e-2 itself."""
MANY_VALUES = 64
"""A mean over this many and more is taken in float32."""


class KeepReason(Enum):
    """Why a node stays in float32."""

    NO_HALF_FORM = "no float16 form of this operator that engines share"
    COMPARISON = "decides on values"
    REDUCTION = "reduces many values to one"
    OUTPUT = "between the raw scores and the outputs"
    LARGE = "activation too large for float16"
    SMALL = "activation too small for float16"
    PARTIAL_SUM = "partial sums too large for float16"
    WEIGHT = "weights too large or too small for float16"
    ERROR = "changed the logits"
    NEIGHBOUR = "between float32 nodes: half precision would only add casts"


@dataclass(frozen=True, slots=True)
class WeightLoss:
    """A weight that float16 cannot hold.

    Args:
        name: Of the tensor.
        largest: Its largest magnitude.
        zeroed: Share of its numbers that would become 0.
        loss: Root mean square of the rounding over that of the weight; infinite on overflow.
    """

    name: str
    largest: float
    zeroed: float
    loss: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Nodes by name.

    Args:
        half: In float16.
        kept: In float32, though they work on floating-point numbers.
        weights: Those that float16 cannot hold.
    """

    half: frozenset[str]
    kept: Mapping[str, KeepReason]
    weights: tuple[WeightLoss, ...]


def choose(
    graph: TypedGraph, ranges: Ranges, *, margin: float, harmful: frozenset[str] = frozenset()
) -> Choice:
    """Take to half precision what can be, in regions.

    Args:
        graph: The float32 model.
        ranges: What its tensors held on pictures.
        margin: How many times larger a picture of tomorrow may make an activation.
        harmful: Nodes that are kept because of what they do to the logits.
    """
    kept: dict[str, KeepReason] = {}
    weights: dict[str, WeightLoss] = {}
    outputs = _output_side(graph, ranges)
    for node in graph.nodes:
        if not graph.float_outputs(node) and not any(map(graph.is_float, node.input)):
            continue
        if node.op_type in ANY_TYPE:
            continue
        lost = list(_lost_weights(graph, node))
        reason = (
            _reason_of_operator(graph, node)
            or _reason_of_ranges(graph, node, ranges, margin)
            or (KeepReason.WEIGHT if lost else None)
            or (KeepReason.ERROR if node.name in harmful else None)
            or (KeepReason.OUTPUT if node.name in outputs else None)
        )
        if reason is not None:
            kept[node.name] = reason
        if reason is KeepReason.WEIGHT:
            weights.update({each.name: each for each in lost})
    half = {
        node.name
        for node in graph.nodes
        if node.name not in kept and (graph.float_outputs(node) or node.op_type == QUANTISE)
    }
    _release_moves(graph, half, kept)
    _smooth(graph, half, kept)
    return Choice(frozenset(half), kept, tuple(weights.values()))


def _reason_of_operator(graph: TypedGraph, node: onnx.NodeProto) -> KeepReason | None:
    if node.op_type == QUANTISE:
        return None
    outputs = graph.float_outputs(node)
    if not outputs and node.op_type != "Cast":
        return KeepReason.COMPARISON
    if node.op_type.startswith(("Reduce", "Global")) or node.op_type in _REDUCTIONS:
        return KeepReason.REDUCTION
    if node.op_type == "AveragePool":
        kernel = next(each.ints for each in node.attribute if each.name == "kernel_shape")
        if math.prod(kernel) >= MANY_VALUES:
            return KeepReason.REDUCTION
    _, as_outputs = halves(node, graph.opset)
    can_be_half = all(i in as_outputs for i, name in enumerate(node.output) if name in outputs)
    if node.op_type in _TYPED_BY_ATTRIBUTE or not can_be_half:
        return KeepReason.NO_HALF_FORM
    return None


_MOVES = frozenset(
    {
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    }
)
_REDUCTIONS = frozenset(
    {
        *("CumSum", "GroupNormalization", "InstanceNormalization", "LayerNormalization"),
        *("LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Softmax"),
    }
)
_TYPED_BY_ATTRIBUTE = frozenset(
    {
        *("Bernoulli", "Cast", "Constant", "ConstantOfShape", "EyeLike", "RandomNormal"),
        *("RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    }
)


def _reason_of_ranges(
    graph: TypedGraph, node: onnx.NodeProto, ranges: Ranges, margin: float
) -> KeepReason | None:
    """What a node reads and writes must fit, with room for pictures that are not here."""
    names = [*graph.activations(node), *node.output]
    largest = [ranges.largest[name] for name in names if name in ranges.largest]
    if any(each * margin > LARGEST_HALF for each in largest):
        return KeepReason.LARGE
    if any(0 < each < SMALLEST_NORMAL_HALF * margin for each in largest):
        return KeepReason.SMALL
    if ranges.partial.get(node.name, 0) * margin > LARGEST_HALF:
        return KeepReason.PARTIAL_SUM
    return None


def _lost_weights(graph: TypedGraph, node: onnx.NodeProto) -> Iterator[WeightLoss]:
    """The constants of a node that float16 would spoil."""
    as_inputs, _ = halves(node, graph.opset)
    for index, name in enumerate(node.input):
        if index not in as_inputs or not graph.is_float(name) or not graph.is_constant(name):
            continue
        values = graph.values(name).astype(np.float64)
        is_finite = np.isfinite(values)  # float16 has infinities, too
        rounded = half_weight(graph, name).astype(np.float64)[is_finite]
        values = values[is_finite]
        if values.size == 0:
            continue
        zeroed = float(np.mean((rounded == 0) & (values != 0)))
        scale = float(np.sqrt(np.mean(values**2)))
        loss = float(np.sqrt(np.mean((rounded - values) ** 2))) / scale if scale else 0.0
        # What is added may be small: it counts by what it is added to. A weight's scales count
        # by what they make of its integers.
        is_part = (
            node.op_type in ("Add", "Sub")
            or (node.op_type in PRODUCTS and index == 2)
            or (node.op_type == DEQUANTISE and node.input[0] in graph.constants)
        )
        most = LARGEST_WEIGHT_LOSS if name in graph.constants else LARGEST_INTEGER_LOSS
        if not math.isfinite(loss) or (loss > most and not is_part):
            yield WeightLoss(name, float(np.abs(values).max()), zeroed, loss)


def _output_side(graph: TypedGraph, ranges: Ranges) -> frozenset[str]:
    """Nodes back from the outputs as long as their tensors are no larger than the picture.

    Blur, upscaling and the last linear layer cost next to nothing in float32. It ends where
    channels are summed up to the raw map, and at the reductions.
    """
    picture = max(
        (math.prod(ranges.shapes[name]) for name in graph.outputs if name in ranges.shapes),
        default=0,
    )
    largest = 3 * picture
    found: set[str] = set()
    waiting = [graph.producers[name] for name in sorted(graph.outputs) if name in graph.producers]
    while waiting:
        node = waiting.pop()
        if node.name in found or _reason_of_operator(graph, node) is KeepReason.REDUCTION:
            continue
        read = [ranges.shapes[each] for each in graph.activations(node) if each in ranges.shapes]
        written = sum(math.prod(ranges.shapes.get(each, ())) for each in node.output)
        if any(math.prod(shape) > largest for shape in read):
            continue
        if node.op_type in PRODUCTS and any(
            len(shape) > 2 and math.prod(shape) > 2 * written for shape in read
        ):
            continue
        found.add(node.name)
        waiting += [graph.producers[name] for name in node.input if name in graph.producers]
    return frozenset(found)


def _release_moves(graph: TypedGraph, half: set[str], kept: dict[str, KeepReason]) -> None:
    """Cast after the nodes that only move values, not before: it is one where they join parts."""
    for node in graph.nodes:
        if kept.get(node.name) is KeepReason.OUTPUT and node.op_type in _MOVES:
            writers = [graph.producers.get(name) for name in graph.activations(node)]
            if all(writer is not None and writer.name in half for writer in writers):
                del kept[node.name]
                half.add(node.name)


def _smooth(graph: TypedGraph, half: set[str], kept: dict[str, KeepReason]) -> None:
    """Keep cheap nodes between float32 nodes in float32; a quantisation goes with its neighbour."""
    is_changed = True
    while is_changed:
        is_changed = False
        for node in graph.nodes:
            is_cheap = node.name in half and node.op_type not in PRODUCTS
            if is_cheap and _goes_with_float(graph, node, half):
                half.discard(node.name)
                kept[node.name] = KeepReason.NEIGHBOUR
                is_changed = True


def _goes_with_float(graph: TypedGraph, node: onnx.NodeProto, half: set[str]) -> bool:
    writers = [graph.producers.get(name) for name in graph.activations(node)]
    in_float = [writer is None or writer.name not in half for writer in writers]
    readers = [
        each
        for name in node.output
        for each in graph.consumers.get(name, [])
        if each.op_type not in (QUANTISE, *ANY_TYPE)
    ]
    is_read_in_float = bool(readers) and all(each.name not in half for each in readers)
    if node.op_type == DEQUANTISE:
        return is_read_in_float
    if node.op_type == QUANTISE:
        return all(in_float)
    if not in_float:
        return is_read_in_float
    if node.op_type in _MOVES and is_read_in_float:
        # What it moves is cast for another reader already.
        return all(
            any(reader.name not in half for reader in graph.consumers[name] if reader is not node)
            for name in graph.activations(node)
        ) or any(in_float)
    return all(in_float) or (any(in_float) and is_read_in_float)
