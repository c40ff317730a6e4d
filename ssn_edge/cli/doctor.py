"""`ssn-edge doctor`: is this machine fit for the line?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption, project_settings

EXIT_CANNOT_RUN = 5
"""As for a device that is not available: something makes running impossible."""


def doctor(
    context: typer.Context,
    package: Annotated[
        Path | None, typer.Option(help="A package that is meant to run here; default none.")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="A camera to try, as run --device takes it.")
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(help="An address to try, as run --listen takes it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the decisions; default the project's.")
    ] = None,
    write_budget: Annotated[
        float | None, typer.Option(min=0.0001, help="GB a day that run may write.")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the systemd unit.")] = "ssn-edge",
    as_json: JsonOption = False,
) -> None:
    """Check this machine and print what was found, each with its fix. Nothing is changed.

    ok, note (worth knowing, or not known), warning (the line runs, but), problem (it cannot run).
    Exit code 0 without a problem, 5 with one.

    Example: ssn-edge doctor --camera /dev/video0 --package part.ssn
    """
    with reporting(context) as out:
        from ssn_edge_runtime.doctor import Wishes, gather, judge

        project = project_settings().run
        budget_gb = write_budget or project.write_budget_gb
        wishes = Wishes(
            output=(output or Path(project.output)).absolute(),
            package=package,
            cameras=tuple(camera or ()),
            addresses=tuple(listen or ()),
            write_bytes_a_day=round(budget_gb * 1e9) or None,
            unit=name,
        )
        report = judge(gather(wishes))
        out.result(report.to_dict(), report.lines(), as_json=as_json)
        if not report.can_run:
            raise typer.Exit(EXIT_CANNOT_RUN)
