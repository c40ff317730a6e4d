"""Which layers of an exported graph can run in INT8, and which tensors that takes.

A layer is a weight: its name is that of the weight's initialiser, which the net gave it.
Convolutions and the projections of the heads count; what comes after the raw map does not, nor do
the small matrices that upscale and blur: one output or a constant left operand tells them apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

CONVOLUTION, PRODUCT = "Conv", "MatMul"
MOVES = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators that change no value: quantised in front of them, bytes are moved and not floats."""
ACTIVATIONS = frozenset({"Relu", "Clip"})
BY_CHANNEL = frozenset({"Add", "Sub", "Mul", "Div"})
"""Operators that standardise, with a constant."""


@dataclass(frozen=True, slots=True)
class Int8Layer:
    """A layer that can run in INT8.

    Args:
        name: Of its weight in the graph.
        kind: `Conv` or `MatMul`.
        channels: Output channels; each has a scale of its own.
        axis: Of the weight, along which they lie.
        inputs: Tensors that are quantised for it.
        nodes: Names of the nodes that use the weight; nearly always one.
        is_depthwise: Whether each output channel sees one input channel.
    """

    name: str
    kind: str
    channels: int
    axis: int
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    is_depthwise: bool


class Wiring:
    """Who makes a tensor of a graph and who takes it.

    Args:
        graph: With its nodes in the order in which they can run, as ONNX demands.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self.constants: dict[str, onnx.TensorProto] = {
            each.name: each for each in graph.initializer
        }
        self.maker: dict[str, onnx.NodeProto] = {
            name: node for node in self.nodes for name in node.output
        }
        self.takers: Mapping[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.takers[name].append(node)
        self.outputs = {each.name for each in graph.output}

    def source(self, tensor: str) -> str:
        """The tensor that holds the same values before they were moved."""
        while (node := self.maker.get(tensor)) is not None and node.op_type in MOVES:
            tensor = node.input[0]
        return tensor

    def activated(self, tensor: str) -> str:
        """The tensor behind an activation that alone takes this one, or the tensor itself."""
        takers = self.takers[tensor]
        if len(takers) == 1 and takers[0].op_type in ACTIVATIONS and tensor not in self.outputs:
            return str(takers[0].output[0])
        return tensor

    @cached_property
    def weight_depth(self) -> Mapping[str, int]:
        """For each tensor, the most layers with a constant weight on a way to it."""
        depth: dict[str, int] = defaultdict(int)
        for node in self.nodes:
            above = max((depth[name] for name in node.input), default=0)
            own = node.op_type in (CONVOLUTION, PRODUCT)
            for name in node.output:
                depth[name] = above + own
        return depth

    def after(self, operators: Collection[str], *, single: bool = False) -> set[str]:
        """Tensors that come out of one of these operators, or of what follows them.

        Args:
            operators: Their names.
            single: Only where the operator's weight gives one output channel.
        """
        found: set[str] = set()
        for node in self.nodes:
            starts = node.op_type in operators and (not single or self._channels(node) == 1)
            if starts or not found.isdisjoint(node.input):
                found.update(node.output)
        return found

    def has_channels_last(self, tensor: str) -> bool:
        """Whether it is of the backbone's tensors, transposed and nothing mixed since."""
        transposed = False
        while (node := self.maker.get(tensor)) is not None:
            of = [name for name in node.input if name not in self.constants]
            if len(of) != 1 or node.op_type not in MOVES | BY_CHANNEL:
                break
            transposed |= node.op_type == "Transpose"
            tensor = of[0]
        return transposed

    def _channels(self, node: onnx.NodeProto) -> int | None:
        """Output channels of a convolution or product with a constant weight on either side."""
        left, right = (self.constants.get(name) for name in node.input[:2])
        if right is not None and len(right.dims) > 1:
            return int(right.dims[0] if node.op_type == CONVOLUTION else right.dims[-1])
        if left is not None and len(left.dims) > 1:
            return int(left.dims[-2])
        return None


def int8_layers(wiring: Wiring) -> tuple[Int8Layer, ...]:
    """All layers that can run in INT8, in the order of the graph.

    Not the raw map's (one output channel: its step would be the threshold's), and nothing that
    follows it; of the products only the first behind the convolutions, by a constant matrix from
    the right on channels that were brought to the last axis.
    """
    behind_map = wiring.after((CONVOLUTION, PRODUCT), single=True)
    behind_product = wiring.after((PRODUCT, "Gemm"))
    nodes: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in wiring.nodes:
        if node.op_type not in (CONVOLUTION, PRODUCT) or node.input[0] in wiring.constants:
            continue
        if node.input[1] not in wiring.constants or not behind_map.isdisjoint(node.output):
            continue
        if node.op_type == PRODUCT and (
            len(wiring.constants[node.input[1]].dims) != 2
            or node.input[0] in behind_product
            or not wiring.has_channels_last(node.input[0])
        ):
            continue
        nodes[node.input[1]].append(node)
    return tuple(
        _layer(wiring, name, users)
        for name, users in nodes.items()
        # A weight that something else reads as well must stay what it is.
        if len(wiring.takers[name]) == len(users) and len({node.op_type for node in users}) == 1
    )


def _layer(wiring: Wiring, name: str, users: list[onnx.NodeProto]) -> Int8Layer:
    weight, kind = wiring.constants[name], users[0].op_type
    axis = 0 if kind == CONVOLUTION else 1
    return Int8Layer(
        name=name,
        kind=kind,
        channels=int(weight.dims[axis]),
        axis=axis,
        inputs=tuple(dict.fromkeys(wiring.source(node.input[0]) for node in users)),
        nodes=tuple(node.name for node in users),
        is_depthwise=kind == CONVOLUTION and int(weight.dims[1]) == 1 and int(weight.dims[0]) > 1,
    )


def skips(wiring: Wiring, layers: Collection[Int8Layer]) -> dict[str, tuple[str, str]]:
    """Residual additions that a convolution can take into itself.

    Engines fuse convolution, addition and activation if the other operand, the skip, is quantised.
    Of two convolutions (a downsampled skip) the deeper one fuses.

    Args:
        wiring: Of the graph.
        layers: All that can run in INT8.

    Returns:
        The addition's output to: the skip's tensor, and the name of the layer that fuses.
    """
    names = {each.name for each in layers if each.kind == CONVOLUTION}
    found = {}
    for node in wiring.nodes:
        operands = [name for name in node.input if name in wiring.maker]
        if node.op_type != "Add" or len(set(operands)) != 2:
            continue
        fusable = [
            (wiring.weight_depth[name], name)
            for name in operands
            if _is_only_for(wiring, name, node) and wiring.maker[name].input[1] in names
        ]
        if fusable:
            _, main = max(fusable)
            skip = operands[1] if operands[0] == main else operands[0]
            found[node.output[0]] = (skip, wiring.maker[main].input[1])
    return found


def closed_tensors(wiring: Wiring, layers: Collection[Int8Layer]) -> tuple[str, ...]:
    """What convolutions and the additions behind them give, after their activation.

    ONNX Runtime runs a convolution in INT8 only if its output is quantised, too.

    Args:
        wiring: Of the graph.
        layers: Those that will run in INT8.
    """
    names = {each.name for each in layers if each.kind == CONVOLUTION}
    made = [
        node.output[0]
        for node in wiring.nodes
        if node.op_type == CONVOLUTION and node.input[1] in names
    ]
    return tuple(dict.fromkeys(wiring.activated(name) for name in [*made, *skips(wiring, layers)]))


def _is_only_for(wiring: Wiring, tensor: str, taker: onnx.NodeProto) -> bool:
    """Whether a convolution made the tensor for this taker alone."""
    maker = wiring.maker.get(tensor)
    return (
        maker is not None
        and maker.op_type == CONVOLUTION
        and len(wiring.takers[tensor]) == 1
        and wiring.takers[tensor][0] is taker
        and tensor not in wiring.outputs
    )
