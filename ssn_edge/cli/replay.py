"""`ssn-edge replay`: recorded pictures through another package."""

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
    project_settings,
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
    as_json: JsonOption = False,
) -> None:
    """Judge recorded pictures again, and show which verdicts change.

    A log's pictures are found by their pixels, or by name where the log holds no hash. Nothing is
    driven and no log is written. Differences are the result, not an error.

    Example: ssn-edge replay parts/ --package new.ssn --against decisions/
    """
    with reporting(context) as out:
        from ssn_edge.project import find_package
        from ssn_edge.replay import ReplayRequest
        from ssn_edge.replay import replay as replay_pictures

        settings = project_settings().run
        request = ReplayRequest(
            source,
            find_package(package),
            against,
            engine=engine or settings.engine,
            precision=precision or settings.precision,
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
