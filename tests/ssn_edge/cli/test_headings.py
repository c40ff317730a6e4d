"""`ssn-edge run` has many options: its help lists each of them once, under a heading."""

from __future__ import annotations

import re

from typer.main import get_command
from typer.testing import CliRunner

from ssn_edge.cli import app, headings


def test_each_option_of_run_stands_once_under_its_heading() -> None:
    shown = CliRunner().invoke(app, ["run", "--help"])
    assert shown.exit_code == 0, shown.output
    sections: dict[str, list[str]] = {}
    for line in shown.output.splitlines():
        if heading := re.fullmatch(r"(\w[^:]*):", line):
            sections[heading[1]] = []
        elif sections and (option := re.match(r"  (--[a-z-]+)", line)):
            sections[next(reversed(sections))].append(option[1])
    named = [option for options in sections.values() for option in options]
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert sorted(named) == sorted([*(each.opts[0] for each in run.params), "--help"])
    assert sections[headings.OTHER] == ["--json", "--help"]
    assert "--modbus-allow" in sections[headings.PLC]
    assert "--page-tokens" in sections[headings.PAGE]
    assert len(sections) == 10
