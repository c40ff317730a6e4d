"""`ssn-edge replay` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ssn_edge.cli import app
from ssn_edge.device_settings import SettingsChange, change_settings
from ssn_edge_runtime.settings_store import SettingsStore, read_settings


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


@pytest.fixture
def device(tmp_path: Path, strict: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings for the strict package: in general, and in one recipe, another one."""
    store = SettingsStore(tmp_path / "settings.json")
    for recipe, threshold in ((None, 9.0), ("shiny", -9.0)):
        change_settings(
            store,
            SettingsChange(
                strict, engine="onnxruntime-cpu", recipe=recipe, image_threshold=threshold
            ),
        )
    monkeypatch.chdir(tmp_path)
    return store.path


def test_the_settings_that_are_here_judge_as_they_do_on_the_line(
    device: Path, strict: Path, parts: Path
) -> None:
    for more, counts in (
        ([], "4 pass, 0 fail, 2 unknown"),
        (["--settings", device], "4 pass, 0 fail, 2 unknown"),
        (["--recipe", "shiny"], "0 pass, 4 fail, 2 unknown"),
    ):
        answer = run(parts, "--package", strict, *more)
        assert answer.stdout.splitlines()[0] == f"6 pictures: {counts}", (more, answer.stderr)
    document = json.loads(run(parts, "--package", strict, "--recipe", "shiny", "--json").stdout)
    assert document["package"]["recipe"] == "shiny"
    assert document["package"]["settings_id"] == read_settings(device).settings_id
    device.unlink()
    answer = run(parts, "--package", strict)
    assert answer.stdout.startswith("6 pictures: 2 pass, 2 fail, 2 unknown")


def test_another_package_is_not_judged_by_settings_that_only_lie_there(
    device: Path, lenient: Path, strict: Path, parts: Path
) -> None:
    answer = run(parts, "--package", lenient, "--against", strict)
    assert answer.exit_code == 0
    assert "settings.json is for another package" in answer.stderr
    assert "  fail -> pass: 2" in answer.stdout.splitlines(), "each by its own thresholds"
    answer = run(parts, "--package", lenient, "--settings", device)
    assert answer.exit_code == 2
    assert answer.stderr.count("\n") == 1
