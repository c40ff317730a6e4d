"""Half precision on a CPU as a GPU computes it: every half tensor is rounded to float16.

Opened as it is, a float16 model tells nothing on a CPU: ONNX Runtime runs most of its nodes in
float32 and takes the casts between them out, so that an overflow passes unseen. Here each rounding
is a pair of casts, to float16 and back, in a float32 model; such a pair changes values, and ONNX
Runtime leaves it alone (seen with 1.18, 1.23 and 1.32, at each level of optimisation). OpenVINO
does not: it takes the pairs out, and clips weights that overflow, so it can stand in for nothing.
"""

from __future__ import annotations

import numpy as np
import onnx

from ssn_edge_export.half_precision_graph import FLOAT, HALF
from ssn_edge_runtime.errors import ExportError

_EXACT = frozenset(
    {
        *("Abs", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool"),
        *("Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu"),
        *("Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose"),
        *("Unsqueeze", "Where"),
    }
)
"""Give only numbers that they were given, so there is nothing to round."""


def half_emulation(model: bytes) -> bytes:
    """The same model in float32, with each float16 tensor rounded to float16.

    Weights, what enters a half node and what leaves it are rounded; inside of a node it is float32,
    as GPUs accumulate. What is beyond 65504 becomes infinite. Open it in ONNX Runtime; the level of
    optimisation does not matter.

    Args:
        model: A serialised ONNX model, with float32 or integer inputs and outputs.

    Returns:
        A serialised ONNX model with the same inputs and outputs; `model` itself if it holds no
        float16. Equal models give equal bytes.

    Raises:
        ExportError: The model is not valid, or float16 is a type of its inputs or outputs.
    """
    proto = onnx.load_from_string(model)
    types = _types(proto)
    if HALF not in types.values():
        return model
    graph = proto.graph
    edge = [each.name for each in (*graph.input, *graph.output) if types[each.name] == HALF]
    if edge:
        raise ExportError(
            f"{edge[0]} is float16 at the model's edge; the contract has float32 there, convert "
            "the model with its inputs and outputs kept"
        )
    nodes = [each for node in graph.node for each in _emulated(node, types)]
    weights = [_widened(each) for each in graph.initializer]
    graph.ClearField("node")
    graph.ClearField("initializer")
    graph.ClearField("value_info")
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the model cannot be emulated ({str(error).strip().splitlines()[0]}); convert it to "
            "half precision with ssn-edge, and report this message"
        ) from error
    return bytes(proto.SerializeToString(deterministic=True))


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    try:
        graph = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(
            f"the model's types do not fit together ({str(error).strip().splitlines()[0]}); "
            "export it again"
        ) from error
    types = {
        each.name: int(each.type.tensor_type.elem_type)
        for each in (*graph.input, *graph.output, *graph.value_info)
    }
    types.update({each.name: int(each.data_type) for each in graph.initializer})
    return types


def _emulated(node: onnx.NodeProto, types: dict[str, int]) -> list[onnx.NodeProto]:
    """A node in float32, with the roundings of what it gives."""
    emulated = onnx.NodeProto()
    emulated.CopyFrom(node)
    roundings = []
    for attribute in emulated.attribute:
        if attribute.HasField("t"):
            attribute.t.CopyFrom(_widened(attribute.t))
        elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i == HALF:
            attribute.i = FLOAT
    for index, name in enumerate(node.output):
        if types.get(name) == HALF and node.op_type not in _EXACT:
            exact, rounded = f"{name}.exact", f"{name}.rounded"
            emulated.output[index] = exact
            roundings += [
                onnx.helper.make_node("Cast", [exact], [rounded], name=f"{rounded}.cast", to=HALF),
                onnx.helper.make_node("Cast", [rounded], [name], name=f"{name}.cast", to=FLOAT),
            ]
    return [emulated, *roundings]


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The same numbers as float32."""
    if tensor.data_type != HALF:
        return tensor
    values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    return onnx.numpy_helper.from_array(values, tensor.name)
