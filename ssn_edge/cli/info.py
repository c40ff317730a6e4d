"""`ssn-edge info`: what is in a package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting
from ssn_edge.cli.options import JsonOption, TrustOption, project_settings


def info(
    context: typer.Context,
    package: Annotated[
        Path | None, typer.Argument(help="The package; without it the one in this directory.")
    ] = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a package; show what is in it, who signed it, and what may run it here.

    Example: ssn-edge info part.ssn
    """
    with reporting(context) as out:
        from ssn_edge.package_info import read_info
        from ssn_edge.project import find_package
        from ssn_edge.trust import known_trust

        project = project_settings()
        trusted = known_trust(project.trust, keys=trust, output=Path(project.run.output))
        info = read_info(find_package(package), trust=trusted)
        out.result(info.to_dict(), info.lines(), as_json=as_json)
