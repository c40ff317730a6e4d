"""`ssn-edge replay`: recorded pictures through another package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import (
    AllowOlderOption,
    EngineOption,
    JsonOption,
    PackageOption,
    PrecisionOption,
    RequireSignatureOption,
    TrustOption,
    project_settings,
    whom_to_trust,
)

if TYPE_CHECKING:
    from ssn_edge.replay import Outcome, Replay

LISTED_CHANGES = 40


def replay(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="Folder of pictures, a video, or a log's folder with its evidence."),
    ],
    package: PackageOption = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Compare with a log (its folder) or another package (.ssn)."),
    ] = None,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="This device's settings; without it settings.json, if it is here."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of the settings.")] = None,
    require_signature: RequireSignatureOption = False,
    trust: TrustOption = None,
    allow_older: AllowOlderOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge recorded pictures again, and show which verdicts change.

    Judged as `run` does it: by this device's settings, where they are for the package.
    A log's pictures are found by their pixels, or by name where the log holds no hash. Nothing is
    driven and no log is written. Differences are the result, not an error.
    Where signatures are required, both packages must have one; settings need none to be tried.

    Example: ssn-edge replay parts/ --package new.ssn --against decisions/
    """
    with reporting(context) as out:
        from ssn_edge.project import are_for, find_package, find_settings
        from ssn_edge.replay import ReplayRequest
        from ssn_edge.replay import replay as replay_pictures

        project = project_settings().run
        trusted = whom_to_trust(trust, is_required=require_signature, allows_older=allow_older)
        judge = find_package(package)
        in_force = find_settings(settings, default=Path(project.settings))
        if settings is None and in_force is not None and not are_for(in_force, judge, trusted):
            out.say(f"{in_force} is for another package; {judge} judges by its own thresholds")
            in_force = None
        request = ReplayRequest(
            source,
            judge,
            against,
            engine=engine or project.engine,
            precision=precision or project.precision,
            settings=in_force,
            recipe=recipe,
            trust=trusted,
        )
        with out.progress() as progress:
            found = replay_pictures(
                request, on_progress=lambda done: progress("replay", done, done)
            )
        out.result(found.to_dict(), replay_lines(found), as_json=as_json)


def replay_lines(found: Replay) -> list[str]:
    """A replay for a terminal."""
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts().items())
    lines = [f"{len(found.pictures)} pictures: {verdicts}"]
    reasons = {name: count for name, count in found.reasons().items() if name != "none"}
    if reasons:
        lines.append("reasons: " + ", ".join(f"{name} {count}" for name, count in reasons.items()))
    if found.against is None:
        return lines
    lines.append(
        f"against {found.against['path']}: {len(found.compared)} compared, "
        f"{len(found.changed)} verdicts changed"
    )
    if missing := len(found.pictures) - len(found.compared):
        lines.append(f"  {missing} pictures are not in the log")
    if unreadable := found.against.get("unreadable_lines"):
        lines.append(f"  {unreadable} lines of the log cannot be read; ssn-edge audit says more")
    if not found.changed:
        return lines
    lines += [
        f"  {before} -> {now}: {count}"
        for before, by_now in found.transitions().items()
        for now, count in by_now.items()
        if count and before != now
    ]
    width = min(40, max(len(each.picture) for each in found.changed[:LISTED_CHANGES]))
    for each in found.changed[:LISTED_CHANGES]:
        assert each.before is not None
        record = "" if each.sequence is None else f"  (record {each.sequence})"
        lines.append(
            f"    {each.picture:<{width}}  {_text(each.before)} -> {_text(each.now)}{record}"
        )
    if len(found.changed) > LISTED_CHANGES:
        lines.append(f"    and {len(found.changed) - LISTED_CHANGES} more; --json lists them all")
    return lines


def _text(outcome: Outcome) -> str:
    if outcome.raw_score is None or outcome.threshold is None:
        return f"{outcome.verdict} ({outcome.reason})"
    return f"{outcome.verdict} ({outcome.raw_score:.3f} at {outcome.threshold:.3f})"
