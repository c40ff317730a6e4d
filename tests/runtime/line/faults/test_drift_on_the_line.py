"""`ssn-edge run`: light that goes down raises an alarm in the journal, and judges nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.preprocess import preprocess
from ssn_edge_runtime.sources import open_source

# Stripes that go round: the monitor takes every 20th frame or so, and learns from 64 of those.
FRAMES = 2100
DIM_FROM = 1800
CAMERA = "test:?width=128&height=96&fps=400"


@pytest.fixture
def package(make_package: Callable[..., Path]) -> Path:
    """One that was trained on the test pattern's own frames."""
    plain = make_package()
    from ssn_edge_runtime.package import Package

    with Package.open(plain) as opened:
        geometry = opened.manifest.geometry
    with open_source(f"{CAMERA}&frames=64") as source:
        frames = [source.read(1.0) for _ in range(64)]
    measured = [measure_input(preprocess(each.image, geometry)) for each in frames if each]
    return make_package(input_statistics=collect_statistics(measured))


def run(cwd: Path, package: Path, query: str, *arguments: str) -> tuple[dict[str, Any], str]:
    process = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "run", "--package", str(package), "--json",
         "--device", f"{CAMERA}&frames={FRAMES}{query}", "--policy", "block",
         "--keep", "none", "--engine", "onnxruntime-cpu", *arguments],
        capture_output=True, text=True, check=False, timeout=120, cwd=cwd,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), process.stderr


def lines(folder: Path) -> list[dict[str, Any]]:
    journal = folder / "decisions" / "decisions.jsonl"
    return [json.loads(each) for each in journal.read_bytes().splitlines()]


def alarms(journal: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    events = [each["detail"] for each in journal if each.get("event") == "alarm"]
    found = {each["alarm"]: each for each in events}
    assert len(found) == len(events)  # each once
    return found


@pytest.mark.parametrize("mode", [(), ("--single-process",)])
def test_a_tenth_less_light_raises_an_alarm_that_is_in_the_journal(
    tmp_path: Path, package: Path, mode: tuple[str, ...]
) -> None:
    out, _ = run(tmp_path, package, f"&fault=dim@{DIM_FROM}x1000", *mode)
    journal = lines(tmp_path)
    verdicts = {each["sequence"]: each for each in journal if each["kind"] == "verdict"}
    alarm = alarms(journal)["brightness_drift"]
    assert alarm["direction"] == "down"
    assert alarm["deviations"] < -2
    assert alarm["false_alarm_every_parts"] == 10_000_000
    assert abs(verdicts[alarm["since_sequence"]]["frame_index"] - DIM_FROM) <= 100
    # It judges nothing: the frames behind it are judged as those before.
    after = [each for number, each in verdicts.items() if number > alarm["sequence"]]
    assert all(each["raw_score"] is not None for each in after[10:])
    assert {each["reason"] for each in after} <= {"none", "defect"}
    told = {each["alarm"]: each for each in out["supervision"]["alarms"]}
    assert "brightness went down" in told["brightness_drift"]["text"]
    (drift,) = out["supervision"]["drift"]["cameras"].values()
    assert drift["brightness"]["state"] == "drifted"


def test_the_same_light_raises_none_and_is_still_known_after_a_restart(
    tmp_path: Path, package: Path
) -> None:
    out, _ = run(tmp_path, package, "")
    journal = lines(tmp_path)
    assert alarms(journal) == {}
    verdicts = [each for each in journal if each["kind"] == "verdict"]
    assert all(100 < each["brightness"] < 120 for each in verdicts if each["raw_score"] is not None)
    assert out["supervision"]["drift"]["false_alarm_every_parts"] == 10_000_000
    (drift,) = out["supervision"]["drift"]["cameras"].values()
    assert [drift[name]["state"] for name in ("score", "brightness")] == ["watched", "watched"]
    run(tmp_path, package, "&fault=dim@1x1000", "--max-frames", "400")
    alarm = alarms(lines(tmp_path))["brightness_drift"]
    assert len(verdicts) < alarm["sequence"] < len(verdicts) + 400


def test_it_can_be_switched_off_and_a_rate_that_drowns_is_refused(
    tmp_path: Path, package: Path
) -> None:
    out, _ = run(tmp_path, package, "", "--alarm-drift", "0", "--max-frames", "3")
    assert out["supervision"]["drift"] is None
    with pytest.raises(AssertionError, match="one false drift alarm in 5 parts; 1000 or more"):
        run(tmp_path, package, "", "--alarm-drift", "5")
