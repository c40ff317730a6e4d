from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest
import simulated_line

from ssn_edge_runtime.sinks import audit_log

HERE = Path(__file__).parent


def _descendants(pid: int) -> set[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children}


def _run_and_kill(folder: Path, answers: int, more_s: float) -> list[list[str]]:
    """Let the line give some answers and go on a little, kill it; returns what it answered."""
    line = subprocess.Popen(
        [sys.executable, str(HERE / "mortal_line.py"), str(folder), "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    try:
        assert line.stdout is not None
        told = "".join(line.stdout.readline() for _ in range(answers))
        sleep(more_s)
        workers = _descendants(line.pid)
        line.send_signal(signal.SIGKILL)
        rest, complaints = line.communicate(timeout=20)
    finally:
        line.kill()
        line.wait()
    assert complaints == ""
    until_s = monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert monotonic() < until_s, "a worker outlived the authority"
        sleep(0.01)
    return [answer.split() for answer in (told + rest).splitlines() if answer.count(" ") == 2]


@pytest.mark.parametrize(
    "kills", [pytest.param(20, id="short"), pytest.param(300, id="long", marks=pytest.mark.soak)]
)
def test_killed_at_any_moment_nothing_that_was_told_is_lost_and_open_triggers_are_unknown(
    tmp_path: Path, nothing_is_left: None, kills: int
) -> None:
    random = Random(11)
    told: list[list[str]] = []
    for kill in range(kills):
        answers = random.randrange(1, 20) if kill % 2 else 0  # half of them while it starts
        told += _run_and_kill(tmp_path, answers, random.uniform(0.0, 0.1 if answers else 0.8))
    simulated_line.run_line(
        tmp_path, simulated_line.plan(3, spacing=0), 5
    )  # an orderly run at the end
    lines = simulated_line.read_lines(tmp_path)
    verdicts = {line["sequence"]: line for line in lines if line["kind"] == "verdict"}
    accepted = [line["sequence"] for line in lines if line["kind"] == "trigger"]
    assert accepted == sorted(set(accepted))
    assert sorted(verdicts) == list(range(1, len(verdicts) + 1))
    assert set(accepted) == set(verdicts)
    assert len(verdicts) > kills
    for sequence, verdict, reason in told:
        record = verdicts[int(sequence)]
        assert (record["verdict"], record["reason"]) == (verdict, reason)
    assert any(record["reason"] == "restart" for record in verdicts.values())
    assert audit_log(tmp_path).problems == ()
