"""Quantisation written into an exported graph: Q/DQ pairs of our own placing, weights as bytes.

The shape that TensorRT fuses: symmetric, zero point 0; activations by one scale, at the inputs of
convolutions and projections and at the skip of a residual addition; weights by output channel,
stored in INT8 with a DequantizeLinear alone; biases in float; nothing between a convolution and
its activation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.int8_layers import (
    CONVOLUTION,
    Int8Layer,
    Wiring,
    closed_tensors,
    int8_layers,
    skips,
)
from ssn_edge_runtime.arrays import FloatArray
from ssn_edge_runtime.errors import CalibrationError

if TYPE_CHECKING:
    import onnx


class Int8Form(Enum):
    """For whom the pairs are placed."""

    TENSORRT = "tensorrt"
    """Signed, zero point 0; at inputs and skips. OpenVINO runs it in INT8, too."""
    OPENVINO = "openvino"
    """The same places; what is never below zero is unsigned and has twice as many steps."""
    ONNXRUNTIME = "onnxruntime"
    """Unsigned, zero point 0 or 128; at outputs and at both sides of an addition as well. For ONNX
    Runtime on a CPU, which runs the other form slower than float."""


LARGEST = 127
"""Of both signs: -128 exists, and takes part in no range."""
UNSIGNED_STEPS = 255
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)

QUANTISED, DEQUANTISED, SCALE, ZERO_POINT = "_quantised", "_dequantised", "_scale", "_zero_point"
"""Behind the name of a tensor or weight; the last two behind that of its bytes."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What will be quantised.

    Args:
        layers: Those that run in INT8.
        tensors: Whose ranges that takes, in the order of the graph.
        skips: Residual additions with a quantised skip: output to (skip, layer that fuses).
        form: For whom.
        closed: Tensors that everybody takes rounded, in the form of ONNX Runtime.
        unsigned: Tensors that are never below zero.
    """

    layers: tuple[Int8Layer, ...]
    tensors: tuple[str, ...]
    skips: Mapping[str, tuple[str, str]]
    form: Int8Form = Int8Form.TENSORRT
    closed: frozenset[str] = frozenset()
    unsigned: frozenset[str] = frozenset()


def placement(
    model: onnx.ModelProto,
    float_layers: Collection[str] = (),
    *,
    silent: Collection[str] = (),
    unsigned: Collection[str] = (),
    form: Int8Form = Int8Form.TENSORRT,
) -> Placement:
    """Plan where Q/DQ pairs go.

    Args:
        model: In float, as exported.
        float_layers: Names of layers that stay in float.
        silent: Tensors of unknown range: quantised for no addition, and for nobody but a layer.
        unsigned: Tensors that are never below zero.
        form: For whom.

    Raises:
        CalibrationError: A name is no layer's, or no layer is left.
    """
    wiring = Wiring(model.graph)
    possible = int8_layers(wiring)
    if unknown := sorted(set(float_layers) - {each.name for each in possible}):
        raise CalibrationError(
            f"{', '.join(unknown)} cannot stay in float: no such layer could run in INT8; "
            f"layers are {_few([each.name for each in possible])}"
        )
    chosen = tuple(each for each in possible if each.name not in set(float_layers))
    if not chosen:
        raise CalibrationError(
            f"none of {len(possible)} layers is left to run in INT8; use fp16 or fp32 instead"
        )
    names = {each.name for each in chosen}
    additions = {
        name: (skip, layer)
        for name, (skip, layer) in skips(wiring, possible).items()
        if layer in names and skip not in silent
    }
    closed = frozenset[str]()
    if form is Int8Form.ONNXRUNTIME:
        closed = frozenset(closed_tensors(wiring, chosen)) - set(silent) - wiring.outputs
    wanted = {name for layer in chosen for name in layer.inputs}
    wanted |= {skip for skip, _ in additions.values()} | closed
    order = [each.name for each in model.graph.input]
    order += [name for node in wiring.nodes for name in node.output]
    tensors = tuple(name for name in order if name in wanted)
    return Placement(chosen, tensors, additions, form, closed, frozenset(unsigned))


def quantised_graph(
    model: onnx.ModelProto,
    plan: Placement,
    ranges: Mapping[str, float],
    bias_shifts: Mapping[str, FloatArray] | None = None,
) -> onnx.ModelProto:
    """A copy of the model with the planned layers in INT8.

    Args:
        model: In float.
        plan: Made for it.
        ranges: Largest magnitude that is represented, for each tensor of the plan; above 0.
        bias_shifts: What is added to biases: a convolution's name to (channels,).

    Raises:
        CalibrationError: A range is missing, not finite or not above 0.
    """
    writer = _Writer(model, plan, ranges)
    writer.lead_layers(bias_shifts or {})
    return writer.finished()


def error_graph(
    model: onnx.ModelProto, plan: Placement, ranges: Mapping[str, float]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model in float, with each planned convolution computed once more, in INT8, beside it.

    Returns:
        The model; and for each convolution's name the output that holds its mean error, (channels,)
        over picture and pixels: in INT8 less in float, both on the input that the float net has.

    Raises:
        CalibrationError: A range is missing, not finite or not above 0.
    """
    writer = _Writer(model, plan, ranges)
    errors = writer.add_errors()
    return writer.finished(), errors


class _Writer:
    """Adds nodes to a copy of a model and keeps them sorted."""

    def __init__(
        self, model: onnx.ModelProto, plan: Placement, ranges: Mapping[str, float]
    ) -> None:
        import onnx

        for name in plan.tensors:
            if not SMALLEST_SCALE * LARGEST < ranges.get(name, 0.0) < np.inf:
                raise CalibrationError(
                    f"the range of {name} is {ranges.get(name)}; a finite one above 0 is wanted: "
                    "leave its layer in float"
                )
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._wiring = Wiring(self._model.graph)
        self._plan = plan
        self._ready = set(plan.tensors)  # tensors that have a dequantised copy
        self._layer_nodes = {name for layer in plan.layers for name in layer.nodes}
        self._nodes = [self._weight(layer) for layer in plan.layers]
        pairs = {name: self._pair(name, ranges[name]) for name in plan.tensors}
        for each in self._model.graph.input:
            self._nodes += pairs.get(each.name, [])
        for node in self._wiring.nodes:
            if node.name in self._layer_nodes:
                self._nodes += self._moves(node.input[0])
            self._nodes.append(node)
            for name in node.output:
                self._nodes += pairs.get(name, [])

    def lead_layers(self, bias_shifts: Mapping[str, FloatArray]) -> None:
        """Let layers and additions take what was quantised for them."""
        for node in self._wiring.nodes:
            for place, name in enumerate(node.input):
                if name in self._plan.closed and node.name not in self._layer_nodes:
                    node.input[place] += DEQUANTISED
            if node.name in self._layer_nodes:
                self._lead(node)
                if node.name in bias_shifts:
                    self._shift(node, bias_shifts[node.name])
            elif node.op_type == "Add" and node.output[0] in self._plan.skips:
                skip, _ = self._plan.skips[node.output[0]]
                if skip in node.input:  # not rounded already
                    node.input[list(node.input).index(skip)] += DEQUANTISED

    def add_errors(self) -> dict[str, str]:
        """Compute convolutions twice; see `error_graph`."""
        import onnx
        from onnx import helper

        errors = {}
        self._constant("picture_and_pixels", np.array([0, 2, 3], np.int64))
        for node in self._wiring.nodes:
            if node.name not in self._layer_nodes or node.op_type != CONVOLUTION:
                continue
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            self._lead(twin)
            twin.output[0] = twin.name = node.output[0] + "_in_int8"
            difference, mean = node.output[0] + "_difference", node.output[0] + "_error"
            self._nodes += [
                twin,
                helper.make_node("Sub", [twin.output[0], node.output[0]], [difference]),
                helper.make_node(
                    "ReduceMean", [difference, "picture_and_pixels"], [mean], keepdims=0
                ),
            ]
            self._model.graph.output.append(
                helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, None)
            )
            errors[node.name] = mean
        return errors

    def finished(self) -> onnx.ModelProto:
        """The model, without what nothing needs any more."""
        graph = self._model.graph
        wanted = {each.name for each in graph.output}
        kept = []
        for node in reversed(self._nodes):
            if not wanted.isdisjoint(node.output):
                wanted.update(node.input)
                kept.append(node)
        constants = [each for each in graph.initializer if each.name in wanted]
        del graph.node[:]
        graph.node.extend(reversed(kept))
        del graph.initializer[:]
        graph.initializer.extend(constants)
        return self._model

    def _weight(self, layer: Int8Layer) -> onnx.NodeProto:
        """Store a weight as bytes, and dequantise it."""
        from onnx import helper, numpy_helper

        values = numpy_helper.to_array(self._wiring.constants[layer.name])
        quantised, scales = quantised_weight(values, axis=layer.axis)
        stored = layer.name + QUANTISED
        self._constant(stored, quantised)
        self._constant(stored + SCALE, scales)
        self._constant(stored + ZERO_POINT, np.zeros(len(scales), np.int8))
        made = layer.name + DEQUANTISED
        by = [stored + SCALE, stored + ZERO_POINT]
        return helper.make_node(
            "DequantizeLinear", [stored, *by], [made], name=made, axis=layer.axis
        )

    def _pair(self, tensor: str, largest: float) -> list[onnx.NodeProto]:
        """Quantise and dequantise a tensor."""
        from onnx import helper

        quantised, dequantised = tensor + QUANTISED, tensor + DEQUANTISED
        zero_point: np.int8 | np.uint8 = np.int8(0)
        steps = LARGEST
        if self._plan.form is not Int8Form.TENSORRT and tensor in self._plan.unsigned:
            zero_point, steps = np.uint8(0), UNSIGNED_STEPS
        elif self._plan.form is Int8Form.ONNXRUNTIME:
            zero_point = np.uint8(128)
        self._constant(quantised + SCALE, np.float32(largest / steps))
        self._constant(quantised + ZERO_POINT, zero_point)
        by = [quantised + SCALE, quantised + ZERO_POINT]
        return [
            helper.make_node("QuantizeLinear", [tensor, *by], [quantised], name=quantised),
            helper.make_node("DequantizeLinear", [quantised, *by], [dequantised], name=dequantised),
        ]

    def _lead(self, node: onnx.NodeProto) -> None:
        node.input[0] += DEQUANTISED
        node.input[1] += DEQUANTISED

    def _shift(self, node: onnx.NodeProto, shift: FloatArray) -> None:
        """Add to a convolution's bias, or give it one."""
        from onnx import numpy_helper

        if len(node.input) > 2 and node.input[2]:
            shift = numpy_helper.to_array(self._wiring.constants[node.input[2]]) + shift
        del node.input[2:]
        node.input.append(node.output[0] + "_bias")
        self._constant(node.input[2], shift.astype(np.float32))

    def _moves(self, tensor: str) -> list[onnx.NodeProto]:
        """Copies of what moves a tensor's values, for the dequantised ones; each copy once.

        The moves themselves stay for layers in float, which see the values as they were.
        """
        if tensor in self._ready:
            return []
        self._ready.add(tensor)
        node = self._wiring.maker[tensor]
        copies = self._moves(node.input[0])
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = copy.output[0] = tensor + DEQUANTISED
        copy.input[0] += DEQUANTISED
        return [*copies, copy]

    def _constant(self, name: str, values: npt.NDArray[np.generic] | np.generic) -> None:
        from onnx import numpy_helper

        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def quantised_weight(weight: FloatArray, *, axis: int) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Bytes and scales of a weight, a scale for each output channel.

    Args:
        weight: Float32.
        axis: Where the output channels are.

    Returns:
        The bytes, -127 to 127, in the weight's shape; and (channels,) scales. A channel of zeros
        has scale 1.
    """
    others = tuple(each for each in range(weight.ndim) if each != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True).astype(np.float64)
    scales = np.where(largest > SMALLEST_SCALE * LARGEST, largest / LARGEST, 1.0).astype(np.float32)
    steps = np.rint(weight.astype(np.float64) / scales.astype(np.float64))
    quantised = np.clip(steps, -LARGEST, LARGEST).astype(np.int8)
    return quantised, scales.reshape(-1)


def _few(names: Sequence[str], count: int = 6) -> str:
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
