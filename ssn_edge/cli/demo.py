"""`ssn-edge demo`: the whole chain on sample surfaces."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import EXIT_INTERRUPTED, reporting
from ssn_edge.cli.options import JsonOption

if TYPE_CHECKING:
    from ssn_edge.demo import DemoResult


def demo(
    context: typer.Context,
    surface: Annotated[str, typer.Option(help="brushed, cast or woven.")] = "brushed",
    seed: Annotated[int, typer.Option(help="Of pictures and training.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where everything goes; default ssn-edge-demo.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the whole chain in minutes, on a CPU.

    Draws sample surfaces, trains, exports one package, writes a report, runs a recorded line.

    Example: ssn-edge demo --surface woven --seed 1
    """
    with reporting(context) as out:
        from ssn_edge.data.surfaces import Surface
        from ssn_edge.demo import Stages, run_demo
        from ssn_edge_runtime.errors import ConfigError

        names = [each.value for each in Surface]
        if surface not in names:
            raise ConfigError(f"--surface {surface}: one of {', '.join(names)} is wanted")
        stopping = threading.Event()

        def stop(number: int, frame: object) -> None:
            stopping.set()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            out.say("stopping soon; Ctrl-C again stops at once ...")

        before = signal.signal(signal.SIGINT, stop)
        try:
            with out.progress() as progress:
                result = run_demo(
                    folder or _free_folder(),
                    surface=Surface(surface),
                    seed=seed,
                    stages=Stages(out.say, progress, stopping.is_set),
                )
        finally:
            signal.signal(signal.SIGINT, before)
        if result is None:
            out.say("stopped; what was made so far is kept")
            raise typer.Exit(EXIT_INTERRUPTED)
        out.result(_document(result), _lines(result), as_json=as_json)


def _free_folder() -> Path:
    """ssn-edge-demo, or the first of ssn-edge-demo-2, -3, ... that is not there."""
    folder, number = Path("ssn-edge-demo"), 2
    while folder.exists():
        folder, number = Path(f"ssn-edge-demo-{number}"), number + 1
    return folder


def _document(result: DemoResult) -> dict[str, object]:
    from ssn_edge.evaluation.report_numbers import report_numbers

    found, defective, rejected, good = result.line_truth
    return {
        "folder": str(result.folder),
        "report": str(result.report),
        "package": str(result.exported.package_path),
        "evaluation": report_numbers(result.evaluated.report),
        "line": {
            **result.line.to_dict(),
            "defects_rejected": found,
            "defects": defective,
            "good_rejected": rejected,
            "good": good,
        },
        "seconds": dict(result.seconds),
    }


def _lines(result: DemoResult) -> list[str]:
    from ssn_edge.cli.evaluate import metric_lines

    found, defective, rejected, good = result.line_truth
    compared = result.exported.fp32.columns[0]
    infer = result.line.latency_ms.get("infer")
    baseline = result.evaluated.report.baseline
    lines = ["", "Package on pictures it has not seen:", *metric_lines(result.evaluated)]
    if baseline is not None:
        lines.append(f"  a simple baseline ({baseline.name}): I-AUROC {baseline.i_auroc:.3f}")
    lines += [
        "",
        f"Recorded line of {result.line.frames} parts: {found} of {defective} defective parts "
        f"rejected, {rejected} of {good} good parts rejected",
    ]
    if infer is not None:
        lines.append(f"  inference on this CPU: median {infer.p50:.1f} ms, p99 {infer.p99:.1f} ms")
    lines += [
        f"Export against checkpoint: {compared.pictures} pictures, "
        f"{len(compared.flips)} verdicts differ",
        "Time: " + ", ".join(f"{name} {each:.0f} s" for name, each in result.seconds.items()),
        "",
        f"Report:    {result.report.resolve().as_uri()}",
        f"Package:   {result.exported.package_path}",
        f"Decisions: {result.folder / 'decisions' / 'decisions.jsonl'}",
    ]
    return lines
