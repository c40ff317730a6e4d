"""What a layer costs: its multiplications for one picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from ssn_edge_calibrate.int8_layers import Int8Layer, Wiring
from ssn_edge_calibrate.int8_run import outputs_of
from ssn_edge_runtime.arrays import ByteImage

if TYPE_CHECKING:
    import onnx


def multiplications(model: bytes, layers: Sequence[Int8Layer], pixels: ByteImage) -> dict[str, int]:
    """Count them, by the layers' names.

    Args:
        model: In float.
        layers: Of the model.
        pixels: (h, w, 3) uint8; its size alone matters.

    Raises:
        CalibrationError: The graph does not run.
    """
    import onnx

    watched = onnx.load_from_string(model)
    wiring = Wiring(watched.graph)
    owners = {node: layer for layer in layers for node in layer.nodes}
    nodes: list[onnx.NodeProto] = [node for node in wiring.nodes if node.name in owners]
    made = [node.output[0] for node in nodes]
    for name in made:
        watched.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    sizes = [each.size for each in next(outputs_of(watched.SerializeToString(), [pixels], made))]
    counts = dict.fromkeys((layer.name for layer in layers), 0)
    for node, size in zip(nodes, sizes, strict=True):
        layer = owners[node.name]
        counts[layer.name] += size * prod(wiring.constants[layer.name].dims) // layer.channels
    return counts
