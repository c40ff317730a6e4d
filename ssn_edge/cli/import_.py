"""`ssn-edge import`: a checkpoint from elsewhere to a run's folder."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ssn_edge.cli.console import Output, reporting
from ssn_edge.cli.options import (
    JsonOption,
    parse_columns,
    parse_roi,
    parse_size,
    project_settings,
)

if TYPE_CHECKING:
    from ssn_edge.imports.import_run import ImportResult

Choice = TypeVar("Choice", bound=Enum)


def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="The authors' weights.pt, or a checkpoint of anomalib.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Data set to calibrate and test on; default the project's."),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="journal or conference; needed where the file is silent.")
    ] = None,
    regime: Annotated[
        str | None,
        typer.Option(help="How it was trained: unsupervised, weak, mixed or full."),
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(help="Image score: map_max, classification or combined; else by regime."),
    ] = None,
    origin: Annotated[
        str, typer.Option(help="authors or anomalib; auto finds it from the tensors' names.")
    ] = "auto",
    backbone: Annotated[
        str | None, typer.Option(help="timm name; default wide_resnet50_2.tv_in1k.")
    ] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="The backbone's weights, for the authors' file.")
    ] = None,
    input_size: Annotated[
        str, typer.Option(help="Network input that it was trained with: 256, or 640x232.")
    ] = "256",
    roi: Annotated[
        str | None, typer.Option(help="Region of interest X,Y,WIDTH,HEIGHT in camera pixels.")
    ] = None,
    map_output: Annotated[
        str | None,
        typer.Option(help="What the origin calls its map: logits, or sigmoid as anomalib now."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="CSV column by another name, such as label=defect.")
    ] = None,
    mask_above: Annotated[
        int | None, typer.Option(help="Mask values above this are defects (else found out).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder; default runs/TIME-NAME.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take over a checkpoint of the authors' code or of anomalib.

    Then evaluate and export work on it as on a run of our own.

    Example: ssn-edge import weights.pt --data data/tiles --variant journal --regime full
    """
    with reporting(context) as out:
        from ssn_edge.imports.foreign_names import Origin
        from ssn_edge.imports.foreign_net import NetChoice
        from ssn_edge.imports.import_run import ImportRequest, import_run
        from ssn_edge.model.anomaly_map import MapOutput
        from ssn_edge.model.variant import Variant
        from ssn_edge.project import new_run_folder
        from ssn_edge.training.regime import Regime
        from ssn_edge_runtime.decision import ScoringMethod

        path, columns, above = _data(data, column, mask_above)
        request = ImportRequest(
            file=file,
            data=path,
            columns=columns,
            mask_above=above,
            choice=NetChoice(
                origin=None if origin == "auto" else _one_of(Origin, origin, "--origin"),
                variant=_one_of(Variant, variant, "--variant"),
                regime=_one_of(Regime, regime, "--regime"),
                backbone=backbone,
                backbone_weights=backbone_weights,
                map_output=_one_of(MapOutput, map_output, "--map-output"),
            ),
            scoring=_one_of(ScoringMethod, scoring, "--scoring"),
            input_size_hw=parse_size(input_size),
            roi_xywh=None if roi is None else parse_roi(roi),
        )
        result = import_run(request, output or new_run_folder(file.stem), out.say)
        _finish(out, result, as_json=as_json)


def _data(
    data: Path | None, column: list[str] | None, mask_above: int | None
) -> tuple[Path, dict[str, str], int | None]:
    """The data set with its columns and mask rule; what is not said is the project's."""
    from ssn_edge_runtime.errors import ConfigError

    settings = project_settings().data
    if data is None and not settings.path:
        raise ConfigError(
            "no data set: ssn-edge import FILE --data DATA, or note one in ssn-edge.toml "
            "([data] path)"
        )
    above = settings.mask_above if mask_above is None else mask_above
    return (
        Path(settings.path) if data is None else data,
        settings.columns if column is None else parse_columns(column),
        None if above < 0 else above,
    )


def _one_of(kinds: type[Choice], text: str | None, option: str) -> Choice | None:
    from ssn_edge_runtime.errors import ConfigError

    if text is None:
        return None
    try:
        return kinds(text)
    except ValueError:
        names = ", ".join(str(each.value) for each in kinds)
        raise ConfigError(f"{option} {text!r} is unknown; one of {names} fits") from None


def _finish(out: Output, result: ImportResult, *, as_json: bool) -> None:
    imported = result.imported
    architecture = imported.net.architecture
    facts = {
        "origin": imported.origin.value,
        "variant": architecture.variant.value,
        "regime": imported.regime.value,
        "scoring_rule": result.scoring_rule.value,
        "backbone": architecture.backbone,
        "backbone_weights": imported.backbone_weights,
        "align_corners": architecture.align_corners,
        "interpolation": imported.interpolation.value,
        "map_output": architecture.map_output.value,
    }
    out.result(
        {"checkpoint": str(result.checkpoint), **facts, "file_sha256": result.file_sha256},
        [
            f"imported: {result.checkpoint}",
            ", ".join(f"{name} {value}" for name, value in facts.items()),
            "next: ssn-edge evaluate, then ssn-edge export",
        ],
        as_json=as_json,
    )
