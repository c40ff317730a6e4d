"""`ssn-edge replay` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ssn_edge.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def test_it_prints_counts_and_the_verdicts_that_changed(
    lenient: Path, parts: Path, log: Path
) -> None:
    answer = run(parts, "--package", lenient, "--against", log)
    assert answer.exit_code == 0, "differences are data"
    lines = answer.stdout.splitlines()
    assert lines[0] == "6 pictures: 4 pass, 0 fail, 2 unknown"
    assert lines[1] == "reasons: bad_exposure 1, bad_frame 1"
    assert lines[2] == f"against {log}: 6 compared, 2 verdicts changed"
    assert lines[3] == "  fail -> pass: 2"
    assert lines[4].startswith("    1.png  fail (")
    assert lines[4].endswith(" at 9.000)  (record 2)")
    assert len(lines) == 6


def test_json_holds_every_change(lenient: Path, parts: Path, log: Path) -> None:
    answer = run(parts, "--package", lenient, "--against", log, "--json")
    document = json.loads(answer.stdout)
    assert (document["compared"], document["changed"]) == (6, 2)
    assert document["package"]["precision"] == "fp32"
    assert document["against"]["kind"] == "log"
    assert [each["picture"] for each in document["changes"]] == ["1.png", "3.png"]
    assert document["changes"][0]["before"]["verdict"] == "fail"


@pytest.mark.parametrize(("source", "code"), [("/dev/null", 2), ("/nowhere", 3)])
def test_what_is_no_recording_has_its_exit_code(strict: Path, source: str, code: int) -> None:
    answer = run(source, "--package", strict)
    assert answer.exit_code == code
    assert answer.stderr.count("\n") == 1
