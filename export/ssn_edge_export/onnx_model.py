"""A torch graph to ONNX bytes: standard operators, our names, the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import onnx
import torch
from torch import nn

from ssn_edge_export.deploy_graph import DeployableNet, deploy_net
from ssn_edge_export.reference_graph import InspectionNet, ReferenceGraph
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.errors import ConfigError, ExportError

OPSET = 18
"""TensorRT takes 9 to 20, and 18 is the lowest that torch's exporter writes."""
PRODUCER = "ssn-edge"
MAX_WEIGHT_BYTES = 2**31 - 2**20
"""Protobuf ends at 2 GiB; the nodes get a megabyte of it."""

_EXAMPLE_BATCH = 2
"""Not 1: the exporter takes a size of 1 for a constant."""
_TENSOR = onnx.TensorProto


class GraphKind(Enum):
    """Which order of operations computes the net's function."""

    REFERENCE = "reference"
    """The net as trained, operator by operator."""
    DEPLOY = "deploy"
    """The heads in the order that costs least; see `deploy_graph`."""

    @property
    def version(self) -> str:
        """Raised when the graph changes; a release alone leaves the bytes, and engines of them."""
        return _VERSIONS[self]


_VERSIONS = {GraphKind.REFERENCE: "reference-2", GraphKind.DEPLOY: "deploy-1"}


def inspection_graph(net: InspectionNet, kind: GraphKind) -> ReferenceGraph:
    """A net in one of the two orders, with normalisation before it and region and mask after it.

    Args:
        net: In evaluation mode; kept by reference, in whole or in part.
        kind: The deploy graph needs a net with the parts of `DeployableNet`.

    Returns:
        In evaluation mode.

    Raises:
        ExportError: The net is not of a form that the deploy graph can be made of.
    """
    if kind is GraphKind.DEPLOY:
        if not isinstance(net, DeployableNet):
            raise ExportError(
                f"the net is a {type(net).__name__}; the deploy graph is made of backbone, "
                "features, heads and anomaly_map; export the reference graph instead"
            )
        net = deploy_net(net)
    return ReferenceGraph(net).eval()


def onnx_from_graph(
    graph: nn.Module, *, input_size_hw: tuple[int, int], version: str, opset: int = OPSET
) -> bytes:
    """Export a graph with the inputs and outputs of `ssn_edge_runtime.engines.base`.

    Args:
        graph: In evaluation mode and on the CPU, such as `ReferenceGraph`.
        input_size_hw: Height and width of the network input in pixels; fixed in the file.
        version: Of the graph, such as `GraphKind.version`; written into the file.
        opset: Version of the default operator domain, 18 or newer.

    Returns:
        A serialised ONNX model, weights inside, checked; the batch is free, under the name
        `base.BATCH`. Equal graphs give equal bytes.

    Raises:
        ExportError: Tracing failed, or what came of it is not by the contract.
        ConfigError: The opset is one that the exporter does not write.
    """
    if opset < OPSET:
        raise ConfigError(f"opset {opset} cannot be written; use {OPSET}, or a newer one")
    model = _traced(graph, input_size_hw, opset)
    _measure_after_cast(model)
    _strip(model, version)
    _check(model, input_size_hw, opset)
    return bytes(model.SerializeToString(deterministic=True))


def _traced(graph: nn.Module, input_size_hw: tuple[int, int], opset: int) -> onnx.ModelProto:
    example = (
        torch.zeros(_EXAMPLE_BATCH, *input_size_hw, 3, dtype=torch.uint8),
        torch.zeros(1),
        torch.ones(input_size_hw, dtype=torch.uint8),
    )
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                graph,
                example,
                input_names=[base.PIXELS, base.PIXEL_THRESHOLD, base.REGION_MASK],
                output_names=[
                    base.CLASSIFICATION_LOGIT,
                    base.MAP_MAX_LOGIT,
                    base.ANOMALY_MAP,
                    base.DEFECT_MASK,
                ],
                opset_version=opset,
                dynamic_shapes=({0: torch.export.Dim(base.BATCH, min=1)}, None, None),
                dynamo=True,
                verbose=False,
            )
    # The exporter's own errors are RuntimeErrors; the others come from a net that does not fit.
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExportError(
            f"the net cannot be traced for an input of {input_size_hw[0]} x {input_size_hw[1]} "
            f"({_first_line(error)}); a net must take (B, 3, H, W) and give a map (B, H, W) and a "
            "logit (B,), for any B, without branches that "
            "depend on pixels"
        ) from error
    if program is None:
        raise ExportError("the exporter of this torch gives no model; install torch 2.6 or newer")
    return program.model_proto


def _measure_after_cast(model: onnx.ModelProto) -> None:
    """Ask for the batch after the pixels' Cast: TensorRT has uint8 for that Cast and no other."""
    nodes = model.graph.node
    casts = [each for each in nodes if each.op_type == "Cast" and each.input[0] == base.PIXELS]
    if not casts:
        raise ExportError(
            f"the graph reads the bytes of {base.PIXELS} without a Cast to float, all that "
            "TensorRT does with bytes; put one first, as ReferenceGraph does"
        )
    cast = casts[0]
    for node in nodes:
        if node.op_type == "Shape" and node.input[0] == base.PIXELS:
            node.input[0] = cast.output[0]
    first = onnx.NodeProto()
    first.CopyFrom(cast)
    nodes.remove(cast)
    nodes.insert(0, first)


def _strip(model: onnx.ModelProto, version: str) -> None:
    """Remove what the exporter wrote for its developers: stack traces with this machine's paths."""
    graph = model.graph
    graph.ClearField("value_info")
    for holder in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    graph.name = PRODUCER
    # The oldest file format that has this opset: what reads the one reads the other.
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    model.producer_name = PRODUCER
    model.producer_version = version
    onnx.helper.set_model_props(model, {"producer": PRODUCER, "graph": version})


def _check(model: onnx.ModelProto, input_size_hw: tuple[int, int], opset: int) -> None:
    """Hold the model against the contract; it must be whole in itself."""
    height, width = input_size_hw
    _check_tensors(
        model.graph.input,
        [
            (base.PIXELS, _TENSOR.UINT8, [base.BATCH, height, width, 3]),
            (base.PIXEL_THRESHOLD, _TENSOR.FLOAT, [1]),
            (base.REGION_MASK, _TENSOR.UINT8, [height, width]),
        ],
    )
    _check_tensors(
        model.graph.output,
        [
            (base.CLASSIFICATION_LOGIT, _TENSOR.FLOAT, [base.BATCH]),
            (base.MAP_MAX_LOGIT, _TENSOR.FLOAT, [base.BATCH]),
            (base.ANOMALY_MAP, _TENSOR.FLOAT, [base.BATCH, height, width]),
            (base.DEFECT_MASK, _TENSOR.UINT8, [base.BATCH, height, width]),
        ],
    )
    domains = {(each.domain, each.version) for each in model.opset_import}
    foreign = sorted({node.op_type for node in model.graph.node if node.domain})
    if domains != {("", opset)} or foreign or model.functions:
        raise ExportError(
            f"the ONNX model needs more than the standard operators of opset {opset} "
            f"({', '.join(foreign) or sorted(domains)}); no other engine could run it; replace "
            "these layers of the net"
        )
    if any(each.data_location == _TENSOR.EXTERNAL for each in model.graph.initializer):
        raise ExportError("the ONNX model keeps weights in another file; the net is too large")
    weight_bytes = sum(len(each.raw_data) for each in model.graph.initializer)
    if weight_bytes > MAX_WEIGHT_BYTES:
        raise ExportError(
            f"the net has {weight_bytes} bytes of weights, an ONNX file holds {MAX_WEIGHT_BYTES}; "
            "use a smaller backbone"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exporter wrote an invalid ONNX model ({_first_line(error)}); "
            "install the versions of torch, onnx and onnxscript that ssn-edge was tested with"
        ) from error


def _check_tensors(
    found: Iterable[onnx.ValueInfoProto], wanted: list[tuple[str, int, list[str | int]]]
) -> None:
    described = [
        (
            each.name,
            each.type.tensor_type.elem_type,
            [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim],
        )
        for each in found
    ]
    for have, want in zip(described, wanted, strict=True):
        if have != want:
            raise ExportError(
                f"the ONNX model has {_tensor_text(*have)} where {_tensor_text(*want)} is wanted; "
                "the net must give a float32 map (B, H, W) at input size and a logit (B,)"
            )


def _tensor_text(name: str, element: int, shape: Sequence[str | int]) -> str:
    kind = _TENSOR.DataType.Name(element).lower()
    return f"{name} of {kind} {' x '.join(map(str, shape)) or 'without shape'}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
