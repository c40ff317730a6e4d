"""Numbers as float16 holds them: weights, and weights of integers with their scales."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from ssn_edge_export.half_precision_graph import TypedGraph, stored_integers
from ssn_edge_runtime.errors import ExportError

LARGEST_HALF = 65504.0
SMALLEST_NORMAL_HALF = 2.0**-14
"""Below it float16 loses a bit with each halving."""


def half_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float16]:
    """Round to float16; what is too large becomes infinite, and says nothing."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float16)


def half_scale(scale: npt.NDArray[np.generic]) -> npt.NDArray[np.float16]:
    """Scales as float16, each rounded upwards: never 0, which TensorRT refuses."""
    nearest = half_of(scale)
    above = np.nextafter(nearest, np.float16(np.inf))
    is_below = nearest.astype(np.float64) < scale.astype(np.float64)
    return np.where(is_below, above, nearest)


def half_integers(graph: TypedGraph, node: onnx.NodeProto) -> npt.NDArray[np.int8]:
    """The integers of a stored weight for `half_scale`; the same where that changes a scale little.

    Raises:
        ExportError: The weight is not symmetric INT8.
    """
    stored = graph.values(node.input[0])
    integers, scale = stored_integers(graph, node)
    if stored.dtype != np.int8 or not np.array_equal(integers, stored):
        raise ExportError(
            f"weight {node.input[0]!r} is {stored.dtype} or has a zero point; symmetric INT8 is "
            "wanted, TensorRT takes no other"
        )
    for_half = np.rint(integers * (scale / half_scale(scale).astype(np.float32)))
    return np.clip(for_half, -128, 127).astype(np.int8)


def half_weight(graph: TypedGraph, name: str) -> npt.NDArray[np.float16]:
    """What a constant, of integers or not, holds in half precision."""
    if name in graph.constants:
        return half_of(graph.values(name))
    node = graph.producers[name]
    _, scale = stored_integers(graph, node)
    return half_of(half_integers(graph, node) * half_scale(scale).astype(np.float32))
