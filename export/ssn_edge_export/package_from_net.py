"""A trained net to one model package: traced, calibrated, held against the net, written, proven."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from torch import nn

from ssn_edge_calibrate.int8_pictures import checked_pictures
from ssn_edge_export.admission import Admission, Admitted
from ssn_edge_export.certificate import certificate_json
from ssn_edge_export.engines_here import CPU, engines_here, open_here
from ssn_edge_export.export_request import (
    ExportRequest,
    ExportResult,
    GateListener,
    PackedPrecision,
)
from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_pictures import evenly_spread
from ssn_edge_export.gate_tolerance import Seen, tolerance_of
from ssn_edge_export.golden import GOLDEN_PICTURES, Golden, Witness, golden_entries
from ssn_edge_export.input_statistics import measure_normals
from ssn_edge_export.onnx_model import GraphKind
from ssn_edge_export.package_proof import write_proven
from ssn_edge_export.precision_models import (
    CPU_FORMS,
    PrecisionModel,
    fp16_model,
    fp32_model,
    int8_cpu_model,
    int8_model,
    range_pixels,
)
from ssn_edge_export.reference_graph import InspectionNet
from ssn_edge_export.scoring import LabelledPicture, Progress, score_pictures
from ssn_edge_export.versions import versions_here
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import CalibrationError, EngineError, ExportError, StorageError
from ssn_edge_runtime.manifest import Manifest, PrecisionEntry, Tolerance


def export_package(
    net: InspectionNet,
    request: ExportRequest,
    *,
    on_progress: Progress | None = None,
    on_gate: GateListener | None = None,
) -> ExportResult:
    """Write a net as one model package, or nothing.

    Each precision has thresholds of its own, fitted on the scores that it gives itself. All are
    held against the net before anything is written, and the package takes its place only after it
    was opened and judged its golden pictures in each precision; whatever fails before leaves an
    earlier package as it was. A precision that is refused stops the export, unless the request
    keeps going: then the package is written without it.

    Args:
        net: The trained net, on any device and in any mode; a copy on the CPU is exported.
        request: What is wanted.
        on_progress: Called with a stage's name, the steps done and their number.
        on_gate: Called once with what the gate measured, also when it refuses.

    Raises:
        DatasetError: A picture is unusable.
        CalibrationError: No threshold lies above the scores, too few pictures for INT8, or no
            choice of its layers is within the limits.
        EngineError: ONNX Runtime is not installed as it must be.
        ScoreError: The net gives NaN.
        ExportError: The net cannot be traced, a precision decides otherwise, or the package does
            not read back.
        StorageError: The package or the page cannot be written.
    """
    started = time.monotonic()
    progress = on_progress or _silent
    geometry = request.geometry
    size_hw = geometry.input_size_hw
    net = _frozen_copy(net)
    normals = [LabelledPicture(path, 0) for path in request.training_normals]
    inputs = measure_normals(normals, geometry, progress)
    pixels: list[ByteImage] = []
    if len(request.wanted) > 1:
        pixels = range_pixels(normals, geometry, progress)
    if {"int8", *CPU_FORMS} & set(request.wanted):
        checked_pictures(pixels, size_hw=size_hw)  # too few: known before minutes of work
    progress("trace", 0, 1)
    fp32 = fp32_model(net, request.graph, size_hw)
    others = [] if request.graph is GraphKind.REFERENCE else [GraphKind.REFERENCE]
    references = [fp32_model(net, kind, size_hw) for kind in others]
    progress("trace", 1, 1)
    admission = Admission(net, request, fp32, progress)
    compared = [column for each in references for column in admission.compare(each)]
    admitted: list[Admitted] = []
    for precision in request.wanted:
        try:
            model = _made(precision, fp32, pixels, admission, progress)
            admitted.append(admission.admit(model))
        except (ExportError, CalibrationError) as error:
            admission.refuse(precision, str(error))
            if request.keeps_going and admitted:
                continue
            raise type(error)(f"{error}. No package was written{_look(admission, on_gate)}") from (
                error
            )
    golden = _golden(admitted, admission, request, normals, progress)
    versions = {**request.tools, **versions_here()}
    entries, precisions = _entries(admitted, compared, golden, admission, request, versions)
    manifest = Manifest(
        name=request.name,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        geometry=geometry,
        scoring_rule=admission.rule,
        precisions=precisions,
        variant=request.variant,
        regime=request.regime,
        backbone=request.backbone,
        training_data=request.training_data,
        input_statistics=inputs.statistics,
        frame_size_hw=inputs.frame_size_hw,
        golden=golden.pictures,
        tools=versions,
    )
    progress("write", 0, 1)
    package_id = write_proven(request.output, manifest, entries, normals[0].path)
    progress("write", 1, 1)
    return ExportResult(
        package_path=request.output,
        package_id=package_id,
        precisions=tuple(_packed(each) for each in admitted),
        compared=tuple(compared),
        refusals=admission.refusals,
        pictures=sum(admission.pictures.values()),
        golden_pictures=len(golden.pictures),
        page=None if on_gate is None else on_gate(admission.report()),
        seconds=time.monotonic() - started,
    )


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def _frozen_copy(net: InspectionNet) -> InspectionNet:
    """A copy on the CPU in evaluation mode; the caller's net stays on its device, in its mode."""
    copied = copy.deepcopy(net)
    if isinstance(copied, nn.Module):
        copied.cpu().eval().requires_grad_(False)
    return copied


def _made(
    precision: str,
    fp32: PrecisionModel,
    pixels: Sequence[ByteImage],
    admission: Admission,
    progress: Progress,
) -> PrecisionModel:
    if precision == "fp16":
        return fp16_model(fp32, pixels)
    if precision == "int8":
        return int8_model(
            fp32,
            pixels,
            admission.accepts,
            progress,
            rule=admission.rule,
            screens=admission.screens,
        )
    if precision in CPU_FORMS:
        return int8_cpu_model(
            precision, fp32, pixels, admission.accepts, progress, rule=admission.rule
        )
    return fp32


def _look(admission: Admission, on_gate: GateListener | None) -> str:
    """Where a person sees what was refused. Nothing that fails here may hide the refusal."""
    if on_gate is None:
        return ""
    try:
        page = on_gate(admission.report())
    except (EngineError, StorageError) as error:
        return f"; its page neither: {error}"
    return "" if page is None else f"; look at {page}"


def _golden(
    admitted: Sequence[Admitted],
    admission: Admission,
    request: ExportRequest,
    normals: Sequence[LabelledPicture],
    progress: Progress,
) -> Golden:
    """Golden pictures with what each precision makes of them."""
    size_hw = request.geometry.input_size_hw
    with contextlib.ExitStack() as opened:

        def enter(engine: str, model: bytes, precision: str) -> Engine | None:
            try:
                return opened.enter_context(open_here(engine, model, size_hw, precision=precision))
            except EngineError:
                if engine == CPU:
                    raise
                return None  # the certificate says why

        witnesses = {}
        for each in admitted:
            contender = each.contender
            precision = contender.precision
            deciding = opened.enter_context(
                open_here(CPU, contender.faithful, size_hw, precision=precision)
            )
            others = [
                enter(engine, contender.model, precision)
                for engine in engines_here(precision)
                if engine != CPU or contender.is_emulated
            ]
            witnesses[precision] = Witness(
                deciding,
                contender.thresholds,
                tuple(other for other in others if other is not None),
            )
        # Where the calibration part is small, training normals fill up: the self-test asks
        # whether an engine gives the same, not whether it is right.
        more = evenly_spread(normals, GOLDEN_PICTURES - len(admission.scored))
        fp32 = witnesses["fp32"]
        return golden_entries(
            [*admission.scored, *score_pictures(fp32.engine, more, request.geometry, progress)],
            witnesses=witnesses,
            thresholds=fp32.thresholds,
            rule=admission.rule,
            geometry=request.geometry,
            on_progress=progress,
        )


def _entries(
    admitted: Sequence[Admitted],
    compared: Sequence[ColumnReport],
    golden: Golden,
    admission: Admission,
    request: ExportRequest,
    versions: Mapping[str, str],
) -> tuple[dict[str, bytes], dict[str, PrecisionEntry]]:
    """The package's content, and the manifest's part about its models."""
    entries = dict(golden.entries)
    precisions = {}
    for each in admitted:
        name = each.contender.precision
        tolerance = _tolerance(each, golden.seen[name], admission, request)
        entry = PrecisionEntry(
            model=f"models/{name}.onnx",
            certificate=f"certificates/{name}.json",
            thresholds=each.contender.thresholds,
            risk=each.risk,
            graph=each.contender.graph,
            tolerance=tolerance,
        )
        precisions[name] = entry
        entries[entry.model] = each.contender.model
        entries[entry.certificate] = certificate_json(
            each.contender,
            each.certified,
            compared=compared if name == "fp32" else (),
            pictures=admission.pictures,
            limits=request.limits,
            risk=each.risk,
            rule=admission.rule,
            tolerance=tolerance,
            details=each.model.details,
            versions=versions,
        )
    if request.report_html is not None:
        entries["report.html"] = request.report_html
    return entries, precisions


def _tolerance(
    each: Admitted, of_golden: Seen, admission: Admission, request: ExportRequest
) -> Tolerance:
    if each.contender.precision == "fp32":
        return Tolerance()
    return tolerance_of(
        each.certified.seen | of_golden,
        limits=request.limits,
        spread=admission.spread,
        thresholds=each.contender.thresholds,
        rule=admission.rule,
    )


def _packed(each: Admitted) -> PackedPrecision:
    contender = each.contender
    return PackedPrecision(
        name=contender.precision,
        graph=contender.graph,
        thresholds=contender.thresholds,
        risk=each.risk,
        columns=each.certified.columns,
        model_bytes=len(contender.model),
        notes=each.model.notes,
    )
