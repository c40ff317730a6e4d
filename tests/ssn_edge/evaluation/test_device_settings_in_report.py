"""A package that is evaluated where a device has settings: they decide, and the report says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ssn_edge_runtime.settings_store import read_settings
from tests.end_to_end.chain import Project, working_in
from tests.end_to_end.chain import ssn_edge as command

PACKAGE = ("evaluate", "--package", "part.ssn", "--engine", "onnxruntime-cpu")


@pytest.fixture
def calibrated(project: Project, tmp_path: Path) -> Path:
    """The project, calibrated by its own calibration part."""
    root = tmp_path / "calibrated"
    shutil.copytree(project.root, root, symlinks=True)
    done = command(
        "calibrate", "--max-false-reject", "60%", "--min-caught", "5%",
        "--confidence", "80%", "--engine", "onnxruntime-cpu", cwd=root,
    )  # fmt: skip
    assert done.code == 0, done.err
    return root


def test_the_settings_here_decide_and_are_shown_with_what_they_promise(calibrated: Path) -> None:
    done = command(*PACKAGE, "--report", "page.html", cwd=calibrated)
    assert done.code == 0, done.err
    settings = read_settings(calibrated / "settings.json")
    fitted = settings.precisions["fp32"]
    assert f"thresholds of settings version 1 ({settings.settings_id[:12]})" in done.out
    assert "promised: at most 60 % of good parts do not pass, at 80 % confidence" in done.out
    assert "promised: at least 5 % of defects do not pass, at 80 % confidence" in done.out
    numbers = json.loads((calibrated / "page.json").read_text())
    assert numbers["thresholds"]["image"] == fitted.thresholds.image
    assert numbers["settings"]["settings_id"] == settings.settings_id
    assert numbers["settings"]["engine"] == "onnxruntime-cpu"
    assert numbers["settings"]["caught"]["defects"] == fitted.caught.defects  # type: ignore[union-attr]
    page = (calibrated / "page.html").read_text()
    for text in ("Device settings", settings.settings_id, fitted.engine_sha256, "80 % confidence"):
        assert text in page
    (commands,) = numbers["commands"]
    assert "--settings settings.json" in commands


def test_the_package_s_own_thresholds_are_there_to_be_asked_for(calibrated: Path) -> None:
    own = command(*PACKAGE, "--settings", "none", "--report", "own.html", cwd=calibrated)
    assert own.code == 0, own.err
    numbers = json.loads((calibrated / "own.json").read_text())
    assert numbers["settings"] is None
    with working_in(calibrated):
        in_force = read_settings(Path("settings.json")).precisions["fp32"].thresholds.image
    assert numbers["thresholds"]["image"] != in_force
    assert "Device settings" not in (calibrated / "own.html").read_text()


def test_settings_of_another_package_that_only_lie_there_decide_nothing(calibrated: Path) -> None:
    text = (calibrated / "settings.json").read_text()
    package_id = read_settings(calibrated / "settings.json").package_id
    assert text.count(package_id) == 1
    from dataclasses import replace

    from ssn_edge_runtime.settings_json import settings_from_json, settings_to_json

    other = replace(settings_from_json(text.encode()), package_id="0" * 64)
    (calibrated / "settings.json").write_bytes(settings_to_json(other))
    done = command(*PACKAGE, "--report", "page.html", cwd=calibrated)
    assert done.code == 0, done.err
    assert "settings.json is for another package" in done.err
    named = command(*PACKAGE, "--settings", "settings.json", cwd=calibrated)
    assert named.code == 2
    assert "calibrate again for this package" in named.err


def test_a_checkpoint_has_no_settings(calibrated: Path) -> None:
    done = command("evaluate", "--settings", "settings.json", cwd=calibrated)
    assert done.code == 2
    assert "are for a package" in done.err
