"""`ssn-edge evaluate`: metrics and a report."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    AllowOlderOption,
    CheckpointOption,
    JsonOption,
    RequireSignatureOption,
    TrustOption,
    parse_scoring,
    parse_share,
    project_settings,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge.cli.console import Output
    from ssn_edge.evaluation.of_run import EvaluatedRun
    from ssn_edge_runtime.trust import Trust

NO_SETTINGS = Path("none")
"""Asks for the package's own thresholds."""


def evaluate(
    context: typer.Context,
    checkpoint: CheckpointOption = None,
    package: Annotated[
        Path | None,
        typer.Option(help="Judge with this package instead, as the line would; of the same run."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Where the data set is now, or another one to measure on."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What runs the package: auto, or as in ssn-edge run.")
    ] = "auto",
    max_false_reject: Annotated[
        str | None, typer.Option(help="For a checkpoint's thresholds, such as 1% or 0.01.")
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(help="For a checkpoint: map_max, classification or combined; else the run's."),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="For a package: this device's settings; without it settings.json, if it is here; "
            "none for the package's own thresholds."
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of the settings.")] = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: AllowOlderOption = False,
    report: Annotated[
        Path | None, typer.Option(help="The page; default report.html beside the checkpoint.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure on the test part; writes one HTML page.

    Judges with the checkpoint in PyTorch, or with a package as the line would: by this device's
    settings, where they are for the package.
    Where signatures are required, the package must have one; settings need none to be tried.

    Example: ssn-edge evaluate --package part.ssn
    """
    with reporting(context) as out:
        from ssn_edge.evaluation.of_run import evaluate_checkpoint, evaluate_package
        from ssn_edge.evaluation.report_numbers import report_numbers
        from ssn_edge.evaluation.report_page import write_report
        from ssn_edge.project import find_checkpoint, find_package, refuse_untrusted
        from ssn_edge.trained import REPORT_NAME, open_run
        from ssn_edge_runtime.errors import ConfigError

        project = project_settings()
        share = project.export.max_false_reject
        if max_false_reject is not None:
            if package is not None:
                raise ConfigError(
                    "--max-false-reject is for a checkpoint; a package has its own thresholds: "
                    "leave the option out"
                )
            share = parse_share(max_false_reject, "--max-false-reject")
        if scoring is not None and package is not None:
            raise ConfigError("--scoring is for a checkpoint; a package has its own: leave it out")
        path = find_checkpoint(checkpoint)
        in_force = None
        trusted = None
        if package is not None:
            find_package(package)
            trusted = whom_to_trust(trust, is_required=require_signature, allows_older=allow_older)
            refuse_untrusted(package, trusted)
            in_force = _settings(out, settings, Path(project.run.settings), package, trusted)
        elif settings is not None or recipe is not None:
            raise ConfigError(
                "--settings and --recipe are for a package; a checkpoint has its own thresholds: "
                "leave them out"
            )
        if package is None and (require_signature or trust is not None or allow_older):
            raise ConfigError(
                "--require-signature, --trust and --allow-older are for a package; a checkpoint is "
                "not signed: leave them out"
            )
        run = open_run(path, data, may_be_other=True)
        command = ["ssn-edge", "evaluate", "--checkpoint", str(path)]
        if scoring is not None:
            run = replace(run, scoring=parse_scoring(scoring))
            command += ["--scoring", scoring]
        command += [] if data is None else ["--data", str(data)]
        out.say(f"evaluating {package or path} on {len(run.split.test)} test pictures")
        with out.progress() as progress:
            if package is None:
                found = evaluate_checkpoint(
                    run,
                    max_false_reject=share,
                    commands=[shlex.join([*command, "--max-false-reject", f"{share:g}"])],
                    on_progress=progress.stage("evaluate"),
                )
            else:
                found = evaluate_package(
                    run,
                    package,
                    engine=engine,
                    settings=in_force,
                    recipe=recipe,
                    trust=trusted,
                    commands=[
                        shlex.join(
                            [*command, "--package", str(package)]
                            + ["--settings", str(in_force or NO_SETTINGS)]
                            + ([] if recipe is None else ["--recipe", recipe])
                        )
                    ],
                    on_progress=progress.stage("evaluate"),
                )
        page = report or path.parent / REPORT_NAME
        write_report(found.report, page)
        out.result(
            {
                "report": str(page),
                **report_numbers(found.report),
                "verdicts_by_picture": found.verdicts(run.data_root),
            },
            [*metric_lines(found), f"report: {page}"],
            as_json=as_json,
        )


def _settings(
    out: Output, named: Path | None, default: Path, package: Path, trust: Trust | None
) -> Path | None:
    """The device settings to judge with; None for the package's own thresholds."""
    from ssn_edge.project import are_for, find_settings

    if named == NO_SETTINGS:
        return None
    found = find_settings(named, default=default)
    if named is None and found is not None and not are_for(found, package, trust):
        out.say(f"{found} is for another package; {package} judges by its own thresholds")
        return None
    return found


def metric_lines(found: EvaluatedRun) -> list[str]:
    """The metrics and verdicts as a table for a terminal."""
    metrics = found.evaluation.metrics
    normal, anomalous = found.report.normal, found.report.anomalous

    def text(value: float | None) -> str:
        return "  n/a" if value is None else f"{value:.3f}"

    return [
        "                     I-AUROC  AP-det",
        f"  classification       {text(metrics.classification.i_auroc)}   "
        f"{text(metrics.classification.ap_det)}",
        f"  map maximum          {text(metrics.map_max.i_auroc)}   {text(metrics.map_max.ap_det)}",
        *(
            [
                f"  combined             {text(metrics.decided.i_auroc)}   "
                f"{text(metrics.decided.ap_det)}"
            ]
            if found.scoring_rule.value == "combined"
            else []
        ),
        f"  pixels: P-AUROC {text(metrics.pixel.p_auroc)}, AP-loc {text(metrics.pixel.ap_loc)}, "
        f"AUPRO {text(metrics.pixel.aupro)}",
        f"  at the threshold, by the {found.scoring_rule.value} score: "
        f"{anomalous.failed} of {anomalous.total} defects found, "
        f"{normal.failed + normal.unknown} of {normal.total} good parts rejected",
        *_ranges(found),
        *_thresholds_from(found),
    ]


def _thresholds_from(found: EvaluatedRun) -> list[str]:
    """Which device settings decided, and what they promise."""
    settings = found.report.settings
    if settings is None:
        return []
    recipe = "" if settings.recipe is None else f", recipe {settings.recipe}"
    version = f"{settings.version} ({settings.settings_id[:12]}){recipe}"
    return [
        f"  thresholds of settings version {version}",
        *(f"    promised: {line}" for line in settings.promises),
    ]


def _ranges(found: EvaluatedRun) -> list[str]:
    """How far both shares may be off, where there is something to say."""
    from ssn_edge.evaluation.report_texts import percent_text

    known = found.report.uncertainty
    if known is None:
        return []
    ranges = [
        f"{what} {percent_text(rate.interval)}"
        for what, rate in (("found", known.found), ("rejected", known.rejected))
        if rate.interval is not None
    ]
    return [f"  with 95 % confidence: {', '.join(ranges)}"] if ranges else []
