"""`ssn-edge export`: a checkpoint to one model package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    CheckpointOption,
    DataOption,
    JsonOption,
    parse_confidence,
    parse_scoring,
    parse_share,
    project_settings,
)

if TYPE_CHECKING:
    from ssn_edge.settings import ExportSettings
    from ssn_edge.trained import ExportOptions
    from ssn_edge_export import ExportResult, PackedPrecision
    from ssn_edge_export.gate_columns import ColumnReport
    from ssn_edge_export.gate_metrics import MetricChange


def export(
    context: typer.Context,
    checkpoint: CheckpointOption = None,
    output: Annotated[Path | None, typer.Option(help="The package; default part.ssn.")] = None,
    data: DataOption = None,
    max_false_reject: Annotated[
        str | None, typer.Option(help="Share of good parts that may be rejected, such as 0.5%.")
    ] = None,
    confidence: Annotated[
        str | None,
        typer.Option(
            help="That this share holds for these very pictures, such as 95%; without it it holds "
            "on average over such sets."
        ),
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="Image score: map_max, classification or combined.")
    ] = None,
    fp16: Annotated[
        bool | None, typer.Option("--fp16/--no-fp16", help="Half precision, too.")
    ] = None,
    int8: Annotated[
        bool | None,
        typer.Option(
            "--int8/--no-int8", help="8-bit integers, too; ranges from training pictures."
        ),
    ] = None,
    int8_onnxruntime: Annotated[
        bool | None,
        typer.Option(
            "--int8-onnxruntime/--no-int8-onnxruntime",
            help="And in the form that is fast in ONNX Runtime on a CPU.",
        ),
    ] = None,
    int8_openvino: Annotated[
        bool | None,
        typer.Option(
            "--int8-openvino/--no-int8-openvino",
            help="And as OpenVINO alone takes them on a CPU: finer than TensorRT's form.",
        ),
    ] = None,
    graph: Annotated[
        str | None,
        typer.Option(help="deploy, rewritten to be fast (default), or reference, as trained."),
    ] = None,
    max_flip_margin: Annotated[
        float | None,
        typer.Option(
            help="FP16 and INT8: a verdict may turn so many deviations of the normal scores from "
            "the threshold; default 0.25, 0 for none."
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="Write the package without a precision that is refused; exit 4."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint as one verified package.

    FP32 is always in it. Each precision is held against the trained net on held-out pictures, in
    every engine of this machine; one that decides otherwise is refused, exit code 4, and nothing is
    written. The page beside the package shows what was found.

    Example: ssn-edge export --fp16 --int8 --max-false-reject 0.5%
    """
    with reporting(context) as out:
        from ssn_edge.project import find_checkpoint
        from ssn_edge.trained import export_run, open_run
        from ssn_edge_runtime.errors import ExportError

        settings = project_settings().export
        share = settings.max_false_reject
        if max_false_reject is not None:
            share = parse_share(max_false_reject, "--max-false-reject")
        settings = replace(
            settings,
            max_false_reject=share,
            fp16=settings.fp16 if fp16 is None else fp16,
            int8=settings.int8 if int8 is None else int8,
            int8_onnxruntime=(
                settings.int8_onnxruntime if int8_onnxruntime is None else int8_onnxruntime
            ),
            int8_openvino=settings.int8_openvino if int8_openvino is None else int8_openvino,
            graph=graph or settings.graph,
            max_flip_margin=(
                settings.max_flip_margin if max_flip_margin is None else max_flip_margin
            ),
        )
        options = _options(settings, keep_going)
        if confidence is not None:
            options = replace(options, confidence=parse_confidence(confidence))
        path = find_checkpoint(checkpoint)
        out.say(f"exporting {path}")
        run = open_run(path, data)
        if scoring is not None:
            run = replace(run, scoring=parse_scoring(scoring))
        with out.progress() as progress:
            result = export_run(
                run,
                output or Path(settings.output),
                options,
                on_progress=lambda stage, done, count: progress(stage, done, count),
            )
        out.result(_document(result), _lines(result), as_json=as_json)
        if result.refusals:
            raise ExportError(
                "; ".join(each.why for each in result.refusals)
                + f". {result.package_path} was written without"
            )


def _options(settings: ExportSettings, keep_going: bool) -> ExportOptions:
    from ssn_edge.trained import ExportOptions
    from ssn_edge_export import GateLimits, GraphKind

    return ExportOptions(
        max_false_reject=settings.max_false_reject,
        precisions=settings.precisions,
        graph=GraphKind(settings.graph),
        limits=GateLimits(
            max_flip_margin=settings.max_flip_margin, max_pictures=settings.gate_pictures
        ),
        keeps_going=keep_going,
    )


def _document(result: ExportResult) -> dict[str, object]:
    from dataclasses import asdict

    fp32 = result.fp32
    return {
        "package": str(result.package_path),
        "package_id": result.package_id,
        "page": None if result.page is None else str(result.page),
        "thresholds": {"image": fp32.thresholds.image, "pixel": fp32.thresholds.pixel},
        "risk": asdict(fp32.risk),
        "pictures": result.pictures,
        "precisions": {
            each.name: {
                "graph": each.graph,
                "thresholds": asdict(each.thresholds),
                "model_bytes": each.model_bytes,
                "notes": list(each.notes),
                "columns": [column.to_dict() for column in each.columns],
            }
            for each in result.precisions
        },
        "compared": [column.to_dict() for column in result.compared],
        "refused": {each.precision: each.why for each in result.refusals},
        "golden_pictures": result.golden_pictures,
        "seconds": result.seconds,
    }


def _lines(result: ExportResult) -> list[str]:
    from ssn_edge.risk_words import risk_words

    return [
        f"held against the trained net on {result.pictures} pictures:",
        *_table(result),
        *(note for each in result.precisions for note in each.notes),
        f"thresholds: {risk_words(result.risk)}",
        f"{result.package_path}: {result.package_path.stat().st_size / 1e6:.1f} MB, "
        f"{', '.join(each.name for each in result.precisions)}, id {result.package_id[:16]}, "
        f"{result.golden_pictures} golden pictures",
        *([] if result.page is None else [f"what was compared: {result.page}"]),
        "next: ssn-edge run --device /dev/video0",
    ]


_HEAD = ("model and engine", "flips", "score max", "99.9 %", "map max", "I-AUROC", "AP-det", "MB")


def _table(result: ExportResult) -> list[str]:
    """One row for each model in each engine; differences in logits, metrics in points."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for each in result.precisions:
        rows += [_row(column, each) for column in each.columns]
        if each.name == "fp32":
            rows += [_row(column, None) for column in result.compared]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    return [
        "  "
        + row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _row(column: ColumnReport, packed: PackedPrecision | None) -> tuple[str, ...]:
    changes = {each.name: _points(each) for each in column.metrics}
    return (
        column.column.title,
        str(len(column.flips)),
        f"{column.score.largest:.1e}",
        f"{column.score.quantile:.1e}",
        f"{column.maps.largest:.1e}",
        changes.get("I-AUROC", "-"),
        changes.get("AP-det", "-"),
        "not packed" if packed is None else f"{packed.model_bytes / 1e6:.1f}",
    )


def _points(metric: MetricChange) -> str:
    if metric.interval is None:
        return f"{metric.change_points:+.2f}"
    low, high = (100 * each for each in metric.interval)
    return f"{metric.change_points:+.2f} [{low:+.2f}, {high:+.2f}]"
