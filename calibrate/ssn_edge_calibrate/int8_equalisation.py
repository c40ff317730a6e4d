"""Channels brought to one size before they are quantised, without changing what the net computes.

One range serves all channels of a tensor, so a channel that is small beside the largest one gets
few of the 127 steps. Convolutions, ReLU, pooling and additions let a positive factor through, so a
channel may be made larger where it is made and smaller again where it is taken. What the channel
gains, the weights that take it lose; half of the way (the square root of its size) serves both.

Source:
    Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019,
    section 4.1; the exponent of one half and factors from activations as in Xiao et al.,
    SmoothQuant, ICML 2023, equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.int8_layers import CONVOLUTION, MOVES, PRODUCT, Int8Layer, Wiring
from ssn_edge_calibrate.int8_run import outputs_of
from ssn_edge_runtime.arrays import ByteImage, FloatArray

if TYPE_CHECKING:
    import onnx

EXPONENT = 0.5
SMALLEST_SHARE = 0.0625
"""Channels smaller than this share of the largest are taken for so large, and become four times as
large at the most: a defect may wake a channel that normal parts hardly use."""
_LETS_THROUGH = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool"}) | MOVES
_Factors = npt.NDArray[np.float64]


def channel_sizes(
    model: onnx.ModelProto, layers: Sequence[Int8Layer], pixels: Sequence[ByteImage]
) -> dict[str, FloatArray]:
    """Largest magnitude of each channel that layers take.

    Args:
        model: In float.
        layers: Of the model.
        pixels: (h, w, 3) uint8 each.

    Returns:
        For each tensor that such a layer reads, (channels,). Of what is made of pixels alone, it is
        the largest that pixels can make.
    """
    import onnx

    wiring = Wiring(model.graph)
    axes = {}
    for node in _nodes_of(wiring, layers):
        axes[node.input[0]] = 1 if node.op_type == CONVOLUTION else -1
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in axes:
        watched.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    sizes: dict[str, FloatArray] = {}
    extremes = extreme_pictures(pixels[0])
    given = outputs_of(bytes(watched.SerializeToString()), [*extremes, *pixels], list(axes))
    for place, values in enumerate(given):
        for (name, axis), each in zip(axes.items(), values, strict=True):
            if (place < len(extremes)) != (not wiring.weight_depth[name]):
                continue
            others = tuple(i for i in range(each.ndim) if i != axis % each.ndim)
            largest = np.abs(each).max(axis=others)
            sizes[name] = np.maximum(sizes[name], largest) if name in sizes else largest
    return sizes


def extreme_pictures(like: ByteImage) -> tuple[ByteImage, ByteImage]:
    """The darkest and the brightest picture that there can be: what a first layer may have to take.

    Every defect lies between them, so nothing of a picture is ever clipped.
    """
    return np.zeros_like(like), np.full_like(like, 255)


def equalised(
    model: onnx.ModelProto, layers: Sequence[Int8Layer], sizes: Mapping[str, FloatArray]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A model that computes the same, with channels nearer to one size where layers take them.

    Args:
        model: In float.
        layers: Of the model; their names stay.
        sizes: See `channel_sizes`.

    Returns:
        The model, and the tensors whose channels were scaled. Tensors that something reaches which
        does not let factors through (such as a clip at 6) stay as they are.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scaler = _Scaler(copy, {name for layer in layers for name in layer.nodes}, sizes)
    scaler.scale()
    return copy, tuple(name for name in sizes if scaler.factors(name) is not None)


def _nodes_of(wiring: Wiring, layers: Sequence[Int8Layer]) -> list[onnx.NodeProto]:
    names = {name for layer in layers for name in layer.nodes}
    return [node for node in wiring.nodes if node.name in names]


class _Scaler:
    """Groups of tensors that must share their factors, and the constants that take them up."""

    def __init__(
        self, model: onnx.ModelProto, layer_nodes: set[str], sizes: Mapping[str, FloatArray]
    ) -> None:
        from onnx import numpy_helper

        self._graph = model.graph
        self._wiring = Wiring(model.graph)
        self._layer_nodes = layer_nodes
        self._values = {
            name: numpy_helper.to_array(each) for name, each in self._wiring.constants.items()
        }
        self._parent: dict[str, str] = {}
        self._changed: dict[str, FloatArray] = {}
        fixed = {each.name for each in (*self._graph.input, *self._graph.output)}
        for node in self._wiring.nodes:
            fixed |= self._join(node)
        self._fixed = {self._group(name) for name in fixed}
        self._factors = self._chosen(sizes)

    def factors(self, tensor: str) -> _Factors | None:
        """Of its channels; None if they stay as they are."""
        return self._factors.get(self._group(tensor))

    def scale(self) -> None:
        """Put the factors into the constants around each group."""
        from onnx import numpy_helper

        for node in self._wiring.nodes:
            if node.name in self._layer_nodes:
                self._scale_layer(node)
            elif (constant := self._constant_of(node)) is not None:
                self._scale_constant(node, constant)
        kept = {name for node in self._graph.node for name in node.input}
        others = [
            each
            for each in self._graph.initializer
            if each.name in kept and each.name not in self._changed
        ]
        del self._graph.initializer[:]
        self._graph.initializer.extend(others)
        self._graph.initializer.extend(
            numpy_helper.from_array(values, name) for name, values in self._changed.items()
        )

    def _group(self, name: str) -> str:
        while (above := self._parent.setdefault(name, name)) != name:
            self._parent[name] = name = self._parent[above]
        return name

    def _join(self, node: onnx.NodeProto) -> set[str]:
        """Tie tensors that this node lets share their factors; those it does not are returned."""
        tensors = [name for name in node.input if name and name not in self._values]
        if node.name in self._layer_nodes and len(self._wiring.takers[node.input[1]]) == 1:
            return set() if node.op_type == CONVOLUTION else set(node.output)
        is_sum = node.op_type == "Add" and len(tensors) == 2
        if is_sum or (node.op_type in _LETS_THROUGH and len(tensors) == 1):
            for name in tensors:
                self._parent[self._group(name)] = self._group(node.output[0])
            return set()
        if self._constant_of(node) is not None:
            if node.op_type != "Mul":  # a product takes factors up; a sum's constant grows along
                self._parent[self._group(tensors[0])] = self._group(node.output[0])
            return set()
        return {*tensors, *node.output}

    def _constant_of(self, node: onnx.NodeProto) -> str | None:
        """The constant by channel of a node that adds, subtracts or multiplies one."""
        if node.op_type not in ("Add", "Sub", "Mul") or node.input[0] in self._values:
            return None
        name = str(node.input[1])
        values = self._values.get(name)
        if values is None or sum(side > 1 for side in values.shape) != 1:
            return None
        return name

    def _chosen(self, sizes: Mapping[str, FloatArray]) -> dict[str, _Factors]:
        shares: dict[str, _Factors] = {}
        for name, size in sizes.items():
            group = self._group(name)
            largest = float(size.max(initial=0.0))
            if group in self._fixed or not largest:
                continue
            share = size.astype(np.float64) / largest
            if (before := shares.get(group)) is not None:
                if before.shape != share.shape:
                    self._fixed.add(group)
                    del shares[group]
                    continue
                share = np.maximum(share, before)
            shares[group] = share
        # A channel that was never seen to hold anything has no size.
        factors = {
            group: np.where(share > 0, np.maximum(share, SMALLEST_SHARE) ** -EXPONENT, 1.0)
            for group, share in shares.items()
        }
        for node in self._wiring.nodes:
            for tensor, channels in self._channels(node):
                # A reshape in between made other channels of them.
                if len(factors.get(self._group(tensor), ())) not in (0, channels):
                    del factors[self._group(tensor)]
        return factors

    def _channels(self, node: onnx.NodeProto) -> list[tuple[str, int]]:
        """How many channels a node's constants say that its input and output have."""
        if node.name in self._layer_nodes:
            shape = self._values[node.input[1]].shape
            if node.op_type == PRODUCT:
                return [(node.input[0], shape[0])]
            groups = next((each.i for each in node.attribute if each.name == "group"), 1)
            return [(node.input[0], shape[1] * groups), (node.output[0], shape[0])]
        if (constant := self._constant_of(node)) is not None:
            size = self._values[constant].size
            return [(node.input[0], size), (node.output[0], size)]
        return []

    def _scale_layer(self, node: onnx.NodeProto) -> None:
        taken, given = self.factors(node.input[0]), self.factors(node.output[0])
        weight = self._values[node.input[1]].astype(np.float64)
        if node.op_type == PRODUCT:
            if taken is not None:
                self._changed[node.input[1]] = (weight / taken[:, None]).astype(np.float32)
            return
        if taken is not None:
            outputs, inputs = weight.shape[:2]
            by_output = len(taken) // inputs  # groups of the convolution
            first = np.arange(outputs) // (outputs // by_output) * inputs
            places = first[:, None] + np.arange(inputs)[None]
            weight = weight / taken[places].reshape(outputs, inputs, *[1] * (weight.ndim - 2))
        if given is not None:
            weight = weight * given.reshape(-1, *[1] * (weight.ndim - 1))
            if len(node.input) > 2 and node.input[2]:
                self._replace(node, 2, self._values[node.input[2]] * given)
        if taken is not None or given is not None:
            self._changed[node.input[1]] = weight.astype(np.float32)

    def _scale_constant(self, node: onnx.NodeProto, constant: str) -> None:
        taken, given = self.factors(node.input[0]), self.factors(node.output[0])
        if taken is None and given is None:
            return
        values = self._values[constant]
        flat = values.reshape(-1).astype(np.float64)
        if given is not None:
            flat = flat * given
        if node.op_type == "Mul" and taken is not None:
            flat = flat / taken
        self._replace(node, 1, flat.reshape(values.shape))

    def _replace(self, node: onnx.NodeProto, place: int, values: npt.NDArray[np.float64]) -> None:
        """By a constant of its own: others may read the one that was there."""
        name = f"{node.input[place]}_for_{node.output[0]}"
        self._changed[name] = values.astype(np.float32)
        node.input[place] = name
