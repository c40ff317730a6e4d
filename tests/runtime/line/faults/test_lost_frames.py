"""A part whose own frame was lost is not judged by a later one, however much time it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import sleep

import failing_camera
import paced_camera
import pytest
import simulated_line
from running_line import while_running
from test_ends import QUIET, verdicts

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import FreePolicy, TriggerKind, device_command
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.sinks import Journal

LONG = TriggerRules(deadline_ns=20_000_000_000, exposure_window_ns=20_000_000_000, in_flight=4)
"""Frames from 20 s after the trigger would still be in time."""


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("damaged", "bad_frame"),
        ("lost", "no_frame"),
        ("killed", "no_frame"),
        ("skipped", "missed_trigger"),
    ],
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


def test_where_each_frame_has_a_record_one_that_the_camera_alone_counted_has_it_too(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    options = simulated_line.options(
        trigger=TriggerKind.FREE, policy=FreePolicy.EVERY, max_parts=12, rules=LONG
    )
    with Journal(tmp_path) as journal:
        Authority(
            {"cam": device_command("test:?fps=10&width=64&height=48&fault=gap@4x2")},
            simulated_line.engine_command(planned),
            journal,
            options,
        ).run()
    records = verdicts(tmp_path)
    assert len(records) == 12
    missed = [each for each in records if each["reason"] == "missed_trigger"]
    assert len(missed) >= 2
    assert all(each["trigger_id"] is None for each in records)


def unnumbered(journal: Journal, **more: object) -> Authority:
    planned = simulated_line.plan(1, **QUIET)
    return Authority(
        {"belt": paced_camera.command("unnumbered", 50, is_numbered=False)},
        simulated_line.engine_command(planned),
        journal,
        simulated_line.options(max_parts=1, **more),
    )


SHORTER = replace(LONG, exposure_window_ns=LONG.exposure_window_ns - 1)


@pytest.mark.parametrize(
    ("trigger", "rules"),
    [
        (TriggerKind.SOFTWARE, LONG),
        (TriggerKind.RATE, LONG),
        (TriggerKind.CAMERA, LONG),
        (TriggerKind.CAMERA, SHORTER),
    ],
)
def test_where_nothing_would_tell_a_lost_frame_there_are_no_triggers(
    tmp_path: Path, nothing_is_left: None, trigger: TriggerKind, rules: TriggerRules
) -> None:
    rate_hz = 10.0 if trigger is TriggerKind.RATE else None
    with Journal(tmp_path) as journal:
        authority = unnumbered(journal, trigger=trigger, rules=rules, rate_hz=rate_hz)
        with pytest.raises(ConfigError, match="unnumbered: does not number its frames"):
            authority.run()
    assert "pass" not in {each["verdict"] for each in verdicts(tmp_path)}


def test_a_camera_without_frame_numbers_needs_a_window_of_its_own(
    tmp_path: Path, nothing_is_left: None
) -> None:
    with Journal(tmp_path) as journal:
        authority = unnumbered(journal, rules=SHORTER)
        while_running(authority, lambda: authority.ask(1).result(30))
    assert [each["verdict"] for each in verdicts(tmp_path)] == ["pass"]
