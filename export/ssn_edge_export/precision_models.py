"""The models that ask to go into a package: FP32 from the net, FP16 and INT8 from FP32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ssn_edge_calibrate.int8_graph import Int8Form
from ssn_edge_calibrate.int8_sensitivity import Int8Search, search_float_layers
from ssn_edge_export.half_precision import HalfPrecision, fp16_from_fp32
from ssn_edge_export.half_precision_emulation import half_emulation
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_export.reference_graph import InspectionNet
from ssn_edge_export.scoring import LabelledPicture, Progress, to_pixels
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import ScoringRule
from ssn_edge_runtime.manifest import INT8_ONNXRUNTIME, INT8_OPENVINO
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry

_Item = TypeVar("_Item")

CPU_FORMS = {INT8_ONNXRUNTIME: Int8Form.ONNXRUNTIME, INT8_OPENVINO: Int8Form.OPENVINO}
"""Precisions whose INT8 is for an engine that runs on processors, and its form."""
MAX_RANGE_PICTURES = 256
"""Normal training pictures that ranges are taken from, at most, evenly spread."""
_HARDLY = ". That is hardly INT8: ssn-edge benchmark shows whether it is faster at all"
HALF_RANGE_PICTURES = 32
"""Of them for half precision: it asks for an order of magnitude, INT8 for a range."""

_NAMED = 3
"""Layers in a note; the certificate has all."""


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionModel:
    """One model, and how it was made.

    Args:
        precision: Its name in the manifest.
        graph: Which graph it is, such as ``deploy-1``.
        model: The ONNX file's bytes.
        faithful: What gives its scores on a CPU; see `gate.Contender`.
        details: For the certificate.
        notes: For people, a line each.
    """

    precision: str
    graph: str
    model: bytes
    faithful: bytes
    details: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fp32_model(
    net: InspectionNet, kind: GraphKind, input_size_hw: tuple[int, int]
) -> PrecisionModel:
    """Trace a net in evaluation mode.

    Raises:
        ExportError: It cannot be traced, or has not the parts that the deploy graph is made of.
    """
    graph = inspection_graph(net, kind)
    model = onnx_from_graph(graph, input_size_hw=input_size_hw, version=kind.version)
    return PrecisionModel("fp32", kind.version, model, model)


def fp16_model(fp32: PrecisionModel, pixels: Sequence[ByteImage]) -> PrecisionModel:
    """FP32 in half precision, but for what overflows on real pictures.

    Raises:
        ExportError: Nothing of the model can be in half precision.
    """
    half = fp16_from_fp32(fp32.model, _some(pixels, HALF_RANGE_PICTURES))
    return _in_halves("fp16", fp32.graph, half, {})


def int8_model(
    fp32: PrecisionModel,
    pixels: Sequence[ByteImage],
    accepts: Callable[[PrecisionModel], bool],
    on_progress: Progress,
    *,
    rule: ScoringRule,
    screens: Callable[[PrecisionModel], bool],
) -> PrecisionModel:
    """FP32 in INT8, with as many layers left in half precision as it takes to be accepted.

    Args:
        fp32: The exported model.
        pixels: Network input of normal training pictures; none else may give ranges.
        accepts: The gate's judgement of a candidate.
        on_progress: Called with the stage's name, the steps done and their number.
        rule: What the score is: layers are judged by what they do to it.
        screens: A quicker judgement, for a candidate whose rest is still in FP32.

    Raises:
        CalibrationError: Too few pictures for ranges, or nothing was accepted.
    """
    halves = _some(pixels, HALF_RANGE_PICTURES)

    def in_halves(quantised: bytes) -> PrecisionModel:
        return _in_halves("int8", fp32.graph, fp16_from_fp32(quantised, halves), {})

    def offered(quantised: bytes) -> bool:
        # The float rest first as it is: most candidates fail by their INT8 layers, and half
        # precision has to be looked for on pictures each time.
        as_it_is = PrecisionModel("int8", fp32.graph, quantised, quantised)
        return screens(as_it_is) and accepts(in_halves(quantised))

    search = search_float_layers(fp32.model, pixels, offered, rule=rule, on_progress=on_progress)
    return _searched(in_halves(search.int8.model), search, "half precision")


def int8_cpu_model(
    precision: str,
    fp32: PrecisionModel,
    pixels: Sequence[ByteImage],
    accepts: Callable[[PrecisionModel], bool],
    on_progress: Progress,
    *,
    rule: ScoringRule,
) -> PrecisionModel:
    """FP32 in the INT8 of an engine for processors; the rest stays in FP32.

    For arguments and errors see `int8_model`; `precision` is a name of `CPU_FORMS`.
    """

    def as_it_is(quantised: bytes) -> PrecisionModel:
        return PrecisionModel(precision, fp32.graph, quantised, quantised)

    search = search_float_layers(
        fp32.model,
        pixels,
        lambda quantised: accepts(as_it_is(quantised)),
        form=CPU_FORMS[precision],
        rule=rule,
        on_progress=on_progress,
    )
    return _searched(as_it_is(search.int8.model), search, "FP32")


def range_pixels(
    normals: Sequence[LabelledPicture], geometry: Geometry, on_progress: Progress
) -> list[ByteImage]:
    """Network input of normal training pictures, evenly spread over the part.

    Raises:
        PictureError: One can no longer be read.
    """
    chosen = _some(normals, MAX_RANGE_PICTURES)
    pixels = []
    for done, picture in enumerate(chosen, start=1):
        pixels.append(to_pixels(read_picture(picture.path), geometry, picture.path))
        on_progress("ranges", done, len(chosen))
    return pixels


def _in_halves(
    precision: str, graph: str, half: HalfPrecision, details: dict[str, object]
) -> PrecisionModel:
    return PrecisionModel(
        precision,
        graph,
        half.model,
        half_emulation(half.model),
        {**details, "half_precision": half.report.to_dict()},
    )


def _searched(model: PrecisionModel, search: Int8Search, rest: str) -> PrecisionModel:
    """With what the search found, for the certificate and for people."""
    return replace(
        model,
        details={**model.details, **_search_details(search)},
        notes=(_search_note(model.precision, search, rest),),
    )


def _search_details(search: Int8Search) -> dict[str, object]:
    return {
        "int8": search.int8.report.to_dict(),
        "float_layers": list(search.float_layers),
        "tries": search.tries,
        "sensitivities": [
            {
                "layer": each.name,
                "classification": each.classification,
                "map_max": each.map_max,
                "harm": each.harm if np.isfinite(each.harm) else None,
                "multiplications": each.multiplications,
            }
            for each in search.sensitivities
        ],
    }


def _search_note(precision: str, search: Int8Search, rest: str) -> str:
    count = len(search.int8.report.int8_layers)
    if not search.float_layers:
        return f"{precision}: all {count} layers that can be are in INT8"
    more = len(search.float_layers) - _NAMED
    return (
        f"{precision}: {count} layers in INT8; {len(search.float_layers)} left in {rest} "
        f"({search.tries} choices tried), costliest first: "
        + ", ".join(search.float_layers[:_NAMED])
        + (f", and {more} more: see the certificate" if more > 0 else "")
        + ("" if count > len(search.float_layers) else _HARDLY)
    )


def _some(items: Sequence[_Item], most: int) -> list[_Item]:
    places = np.linspace(0, len(items) - 1, min(most, len(items))) if items else np.zeros(0)
    return [items[index] for index in places.astype(int)]
