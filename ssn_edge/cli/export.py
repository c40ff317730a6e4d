"""`ssn-edge export`: a checkpoint to one model package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    CheckpointOption,
    DataOption,
    JsonOption,
    parse_scoring,
    parse_share,
    project_settings,
)


def export(
    context: typer.Context,
    checkpoint: CheckpointOption = None,
    output: Annotated[Path | None, typer.Option(help="The package; default part.ssn.")] = None,
    data: DataOption = None,
    max_false_reject: Annotated[
        str | None, typer.Option(help="Share of good parts that may be rejected, such as 0.5%.")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="Image score: map_max, classification or combined.")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision; comes later.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers; comes later.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint as one verified package.

    Example: ssn-edge export --max-false-reject 0.5%
    """
    with reporting(context) as out:
        from ssn_edge_runtime.errors import ConfigError

        if fp16 or int8:
            raise ConfigError(
                f"--{'fp16' if fp16 else 'int8'} comes later; this version writes fp32: "
                "leave the option out"
            )
        from ssn_edge.project import find_checkpoint
        from ssn_edge.trained import export_run, open_run

        settings = project_settings().export
        share = settings.max_false_reject
        if max_false_reject is not None:
            share = parse_share(max_false_reject, "--max-false-reject")
        path = find_checkpoint(checkpoint)
        out.say(f"exporting {path}")
        run = open_run(path, data)
        if scoring is not None:
            run = replace(run, scoring=parse_scoring(scoring))
        with out.progress() as progress:
            result = export_run(
                run,
                output or Path(settings.output),
                max_false_reject=share,
                on_progress=lambda stage, done, count: progress(stage, done, count),
            )
        compared = result.comparison
        out.result(
            {
                "package": str(result.package_path),
                "package_id": result.package_id,
                "thresholds": {
                    "image": result.thresholds.image,
                    "pixel": result.thresholds.pixel,
                },
                "risk": {
                    "max_false_reject": result.risk.max_false_reject,
                    "normals": result.risk.normals,
                    "supported": result.risk.supported,
                },
                "comparison": compared.to_dict(),
                "golden_pictures": result.golden_pictures,
                "model_bytes": result.model_bytes,
                "seconds": result.seconds,
            },
            [
                f"verified on {compared.pictures} pictures: largest difference of a score "
                f"{compared.max_score_difference:.1e}, of a map {compared.max_map_difference:.1e}, "
                f"{len(compared.flips)} verdicts differ",
                *_promise(result.risk.supported, result.risk.max_false_reject, result.risk.normals),
                f"{result.package_path}: {result.package_path.stat().st_size / 1e6:.1f} MB, "
                f"id {result.package_id[:16]}, {result.golden_pictures} golden pictures",
                "next: ssn-edge run --device /dev/video0",
            ],
            as_json=as_json,
        )


def _promise(supported: bool, share: float, normals: int) -> list[str]:
    if supported:
        return [f"thresholds for at most {share:.2%} false rejects, by {normals} normal pictures"]
    return [
        f"thresholds above all {normals} calibration normals: too few to promise {share:.2%} false "
        f"rejects, {1 / (normals + 1):.1%} is what they can carry"
    ]
