"""`ssn-edge calibrate`: thresholds for a stated risk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    EngineOption,
    JsonOption,
    PackageOption,
    PrecisionOption,
    RequireSignatureOption,
    TrustOption,
    parse_columns,
    parse_confidence,
    parse_share,
    project_settings,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge.calibration.choice import Fit
    from ssn_edge_calibrate.best_threshold import Costs
    from ssn_edge_calibrate.operating_point import Wish


def calibrate(
    context: typer.Context,
    max_false_reject: Annotated[
        str | None, typer.Option(help="Of good parts, as 0.5%; all that do not pass count.")
    ] = None,
    min_caught: Annotated[
        str | None, typer.Option(help="Of defects, as 99%; with the other, both hold together.")
    ] = None,
    confidence: Annotated[str, typer.Option(help="That what is promised holds.")] = "95%",
    cost_miss: Annotated[
        float | None, typer.Option(help="Of a defect that passes; for the least expected cost.")
    ] = None,
    cost_false_reject: Annotated[
        float | None, typer.Option(help="Of a good part that does not, in the same currency.")
    ] = None,
    defect_rate: Annotated[
        str | None, typer.Option(help="Share of defects on the line, as 2%.")
    ] = None,
    best_f1: Annotated[bool, typer.Option("--best-f1", help="Where F1 is best.")] = False,
    image_threshold: Annotated[
        float | None, typer.Option(help="By hand: a logit; a score at it fails.")
    ] = None,
    bound: Annotated[
        str,
        typer.Option(help="Of cost and F1: band, half (of the groups chooses) or none."),
    ] = "band",
    review: Annotated[
        str | None,
        typer.Option(
            help="A zone for a person: caught, from the one side to the other; or a share of "
            "--max-false-reject, as 0.2%."
        ),
    ] = None,
    pixel_threshold: Annotated[
        str | None, typer.Option(help="A logit, or fit; without it the one in force.")
    ] = None,
    min_area: Annotated[
        str | None,
        typer.Option(help="Camera pixels, 0 for none, or fit; without it the one in force."),
    ] = None,
    package: PackageOption = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures that training did not see; else the run's calibration part."),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="The package's run; without it the newest under runs/ that fits."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Other name of a CSV column, as label=defect.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            help="What belongs to one part: parent (folder), a CSV column, a regular expression "
            "on names, or none."
        ),
    ] = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="The file; without it settings.json, here.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="For this recipe only.")] = None,
    note: Annotated[str, typer.Option(help="Why; without it, what is promised.")] = "",
    new: Annotated[bool, typer.Option("--new", help="Begin anew, for another package.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the thresholds for a stated risk, on the engine that will run, and save them.

    Judges held-out pictures with the package. Says what is promised, at what confidence and from
    how many pictures, and refuses what so few cannot carry (exit code 4).

    Example: ssn-edge calibrate --max-false-reject 0.5%
    """
    with reporting(context) as out:
        from ssn_edge.calibration.calibrate import CalibrationRequest
        from ssn_edge.calibration.calibrate import calibrate as find_thresholds
        from ssn_edge.calibration.choice import BestBound, Choice
        from ssn_edge.calibration.held_out import Wanted
        from ssn_edge.calibration.text import calibration_document, calibration_lines
        from ssn_edge.project import find_package
        from ssn_edge_runtime.errors import ConfigError
        from ssn_edge_runtime.settings_store import SettingsStore

        project = project_settings()
        sure = parse_confidence(confidence)
        if bound not in [each.value for each in BestBound]:
            raise ConfigError(f"--bound {bound}: band, half or none is wanted")
        costs = _costs(cost_miss, cost_false_reject, defect_rate)
        is_other_way = costs is not None or best_f1 or image_threshold is not None
        if max_false_reject is None and min_caught is None and not is_other_way:
            max_false_reject = f"{project.export.max_false_reject:g}"
        choice = Choice(
            wish=_wish(max_false_reject, min_caught, sure, review),
            costs=costs,
            best_f1=best_f1,
            image=image_threshold,
            best_bound=BestBound(bound),
            confidence=sure,
            pixel=_number_or_fit(pixel_threshold, "--pixel-threshold"),
            min_area_px=_number_or_fit(min_area, "--min-area"),
        )
        columns = parse_columns(column or [])
        if not columns and data is not None and data.suffix.lower() == ".csv":
            columns = project.data.columns
        store = SettingsStore(settings or Path(project.run.settings))
        request = CalibrationRequest(
            package=find_package(package),
            choice=choice,
            pictures=Wanted(
                data=data,
                checkpoint=checkpoint,
                columns=columns,
                group=group,
            ),
            engine=engine or project.run.engine,
            precision=precision or project.run.precision,
            recipe=recipe,
            is_new=new,
            note=note,
            is_dry=dry_run,
            trust=whom_to_trust(trust, is_required=require_signature),
        )
        with out.progress() as progress:
            done = find_thresholds(store, request, on_progress=progress)
        out.result(
            calibration_document(done, str(store.path)),
            calibration_lines(done, str(store.path)),
            as_json=as_json,
        )


def _wish(
    max_false_reject: str | None, min_caught: str | None, confidence: float, review: str | None
) -> Wish | None:
    from ssn_edge_calibrate.operating_point import Wish
    from ssn_edge_runtime.errors import ConfigError

    if max_false_reject is None and min_caught is None:
        if review is not None:
            raise ConfigError("--review goes with --max-false-reject: say how many may be rejected")
        return None
    is_share = review not in (None, "caught")
    return Wish(
        max_false_reject=None
        if max_false_reject is None
        else parse_share(max_false_reject, "--max-false-reject"),
        min_caught=None if min_caught is None else parse_share(min_caught, "--min-caught"),
        confidence=confidence,
        review_share=parse_share(review or "", "--review") if is_share else None,
        review_caught=review == "caught",
    )


def _costs(miss: float | None, false_reject: float | None, defect_rate: str | None) -> Costs | None:
    from ssn_edge_calibrate.best_threshold import Costs
    from ssn_edge_runtime.errors import ConfigError

    if miss is None and false_reject is None and defect_rate is None:
        return None
    if miss is None or false_reject is None or defect_rate is None:
        raise ConfigError(
            "the least expected cost needs all of --cost-miss, --cost-false-reject and "
            "--defect-rate, as 2%"
        )
    return Costs(miss, false_reject, parse_share(defect_rate, "--defect-rate"))


def _number_or_fit(text: str | None, option: str) -> float | Fit | None:
    from ssn_edge.calibration.choice import Fit
    from ssn_edge_runtime.errors import ConfigError

    if text is None or text == "fit":
        return None if text is None else Fit.FIT
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} {text}: a number, or fit, is wanted") from None
