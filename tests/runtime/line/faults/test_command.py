from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import simulated_line

CAMERA = "test:?fps=30&width=128&height=96"


def _start(package: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-c", "from ssn_edge.cli import main; main()", "run"),
            *("--device", CAMERA, "--package", str(package), "--output", str(output)),
            *("--keep", "none", *more),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )


def _wait_until_judging(line: subprocess.Popen[str]) -> None:
    assert line.stderr is not None
    for said in line.stderr:
        if "judging with" in said:
            return
    raise AssertionError(line.wait())


def test_run_takes_triggers_on_stdin_and_answers_each_on_stdout(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with _start(package_path, tmp_path, "--trigger", "stdin", "--deadline-ms", "2000") as line:
        _wait_until_judging(line)
        out, err = line.communicate("trigger 17 part-a\n", timeout=30)
    assert line.returncode == 0, err
    assert out.startswith("17 ")
    (record,) = [each for each in simulated_line.read_lines(tmp_path) if each["kind"] == "verdict"]
    assert (record["trigger_id"], record["part_id"]) == (17, "part-a")


def test_run_ends_on_sigterm_with_everything_delivered(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with _start(package_path, tmp_path, "--trigger", "rate:20", "--json") as line:
        _wait_until_judging(line)
        try:
            line.wait(0.5)
        except subprocess.TimeoutExpired:
            line.send_signal(signal.SIGTERM)
        out, err = line.communicate(timeout=30)
    assert line.returncode == 0, err
    lines = simulated_line.read_lines(tmp_path)
    triggers = [each["sequence"] for each in lines if each["kind"] == "trigger"]
    assert triggers == [each["sequence"] for each in lines if each["kind"] == "verdict"]
    assert lines[-1]["event"] == "stop"
    assert json.loads(out)["records"] == len(triggers) > 0
