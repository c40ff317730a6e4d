"""Headings over the options of a command that has many of them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

JUDGED = "What is judged, and by what"
TIMES = "Triggers and times"
ALARMS = "Alarms and limits"
LOG = "Log and evidence"
TRUST = "Signatures"
PLC = "PLC and wires"
PROGRAMS = "Other programs"
PAGE = "Live page"
DEVICE = "This device"
OTHER = "Options"


class HeadedCommand(TyperCommand):
    """Help in plain text with the options under the headings that their ``rich_help_panel`` names.

    Typer itself does so only where it draws boxes.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options; called by `click`."""
        headed: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                heading = getattr(parameter, "rich_help_panel", None) or OTHER
                headed.setdefault(heading, []).append(row)
        for heading, rows in headed.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
