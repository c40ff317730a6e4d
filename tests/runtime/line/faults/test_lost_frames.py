"""A part whose own frame was lost is not judged by a later one, however much time it has."""

from __future__ import annotations

from pathlib import Path
from time import sleep

import failing_camera
import pytest
import simulated_line
from running_line import while_running
from test_ends import QUIET, verdicts

from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.sinks import Journal

LONG = TriggerRules(deadline_ns=20_000_000_000, exposure_window_ns=20_000_000_000, in_flight=4)
"""Frames from 20 s after the trigger would still be in time."""


@pytest.mark.parametrize(
    ("how", "reason"), [("damaged", "bad_frame"), ("lost", "no_frame"), ("killed", "no_frame")]
)
def test_no_later_frame_is_taken_for_that_of_a_part_whose_own_was_lost(
    tmp_path: Path, nothing_is_left: None, how: str, reason: str
) -> None:
    fails = tmp_path / "fails"
    planned = simulated_line.plan(1, **QUIET)
    options = simulated_line.options(rules=LONG, reopen_pause_s=0.05, reopen_attempts=1000)
    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"belt": failing_camera.command(50, fails, how)},
            simulated_line.engine_command(planned),
            journal,
            options,
        )

        def work() -> None:
            assert authority.ask(1).result(30).is_pass
            fails.touch()
            if how != "killed":
                sleep(0.5)  # it fails when the part comes
            answer = authority.ask(2)
            sleep(1.0)
            fails.unlink(missing_ok=True)
            assert not answer.result(30).is_pass
            assert authority.ask(3).result(30).is_pass

        while_running(authority, work)
    records = verdicts(tmp_path / "out")
    assert [each["verdict"] for each in records] == ["pass", "unknown", "pass"]
    assert records[1]["reason"] == reason
