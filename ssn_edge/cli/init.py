"""`ssn-edge init`: the project file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssn_edge.cli.console import reporting


def init(
    context: typer.Context,
    data: Annotated[Path | None, typer.Argument(help="Data set to note in the file.")] = None,
) -> None:
    """Write ssn-edge.toml: every setting, explained.

    Example: ssn-edge init data/tiles
    """
    with reporting(context) as output:
        from ssn_edge.settings import SETTINGS_NAME, DataSettings, Settings, write_settings

        path = "" if data is None else str(data)
        write_settings(Settings(data=DataSettings(path=path)))
        output.say(f"wrote {SETTINGS_NAME}")
