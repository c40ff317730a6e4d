"""A trigger that was decided before a restart is known after it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

import simulated_line
from test_ends import QUIET, make_authority, run_beside, trigger_now, verdicts

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.control import answer_line
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.sinks import Journal

CAMERA = "test:?fps=30&width=128&height=96"


def run_triggers(
    folder: Path, trigger_ids: list[int], options: LineOptions | None = None
) -> tuple[dict[int, Answer], simulated_line.Gate]:
    """One run of the line; the answer to each trigger, given one after the other."""
    answers: dict[int, Answer] = {}
    gate = simulated_line.Gate()
    planned = simulated_line.plan(1, **QUIET)
    with Journal(folder) as journal:
        authority = make_authority(journal, planned, options, outlets=[gate])

        def drive() -> None:
            for trigger_id in trigger_ids:
                part = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 1
                sleep(max(0, planned.triggered_ns(part) - monotonic_ns()) / 1e9)
                answers[trigger_id] = trigger_now(authority, trigger_id)

        run_beside(authority, drive)
    return answers, gate


def test_after_a_restart_the_same_id_has_the_same_answer_no_second_record_and_no_signal(
    tmp_path: Path, nothing_is_left: None
) -> None:
    ids = list(range(40, 60))
    before, _ = run_triggers(tmp_path, ids)
    after, gate = run_triggers(tmp_path, [*ids, 60])
    assert [record["trigger_id"] for record in verdicts(tmp_path)] == [*ids, 60]
    assert {each.verdict for each in before.values()} >= {Verdict.PASS, Verdict.FAIL}
    for trigger_id in ids:
        first, again = before[trigger_id], after[trigger_id]
        if first.verdict is Verdict.PASS:
            # The verdict stands in the journal; said now, it would be a late one.
            assert answer_line(again) == f"{trigger_id} unknown deadline 0x3CC3"
        else:
            assert again == first
    assert {trigger_id for trigger_id, *_ in gate.accepted} <= {60}


def test_a_pass_that_is_asked_for_again_after_its_deadline_is_not_given_late() -> None:
    passed = Answer(7, 1, Verdict.PASS, Reason.NONE, until_ns=100)
    assert passed.again(99) is passed
    late = passed.again(100)
    assert (late.verdict, late.reason, int(late.code)) == (Verdict.UNKNOWN, Reason.DEADLINE, 0x3CC3)
    assert not replace(passed, until_ns=None).again(0).is_pass
    failed = Answer(7, 1, Verdict.FAIL, Reason.DEFECT)
    assert failed.again(10**9) is failed


def test_only_so_many_ids_are_known_after_a_restart_and_one_that_rolled_is_a_new_part(
    tmp_path: Path, nothing_is_left: None
) -> None:
    ids = [65_534, 65_535, *range(1, 12)]
    run_triggers(tmp_path, ids)
    rules = replace(simulated_line.options().rules, remembered=8)
    run_triggers(tmp_path, [65_535, 11], simulated_line.options(rules=rules))
    assert [record["trigger_id"] for record in verdicts(tmp_path)] == [*ids, 65_535]


@contextmanager
def line_process(folder: Path, package: Path) -> Iterator[subprocess.Popen[str]]:
    """`ssn-edge run` with triggers from its socket; killed at the end."""
    line = subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", "run", "--device", CAMERA, "--package", str(package),
         "--output", str(folder), "--trigger", "software", "--deadline-ms", "3000",
         "--keep", "none"],
        stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    try:
        assert line.stderr is not None
        for said in line.stderr:
            if "judging with" in said:
                break
        else:
            raise AssertionError(line.wait())
        yield line
    finally:
        line.kill()
        line.wait()
        assert line.stderr is not None
        line.stderr.close()


def say(folder: Path, *lines: str, answers: int) -> list[str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(folder / "control.sock"))
        client.sendall("".join(f"{line}\n" for line in lines).encode())
        with client.makefile("r") as told:
            return [told.readline().strip() for _ in range(answers)]


def test_killed_and_started_again_the_line_knows_what_it_answered_and_what_it_left_open(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with line_process(tmp_path, package_path) as line:
        (first,) = say(tmp_path, "trigger 4711 part-a", answers=1)
        # Accepted, and the line killed before the verdict can stand: the engine is held.
        engine = [int(pid) for pid in Path(f"/proc/{line.pid}/task/{line.pid}/children")
                  .read_text().split()]  # fmt: skip
        for pid in engine:
            os.kill(pid, signal.SIGSTOP)
        say(tmp_path, "trigger 4712 part-b", answers=0)
        until_s = monotonic() + 2
        while '"in_flight":1' not in say(tmp_path, "status", answers=1)[0]:
            assert monotonic() < until_s
        line.send_signal(signal.SIGKILL)
        line.wait()
        for pid in engine:
            wait_until_gone(pid)
    with line_process(tmp_path, package_path):
        again = say(tmp_path, "trigger 4711 part-a", "trigger 4712 part-b", answers=2)
    expected = "4711 unknown deadline 0x3CC3" if " pass " in first else first
    assert again == [expected, "4712 unknown restart 0x3CC3"]
    records = [(each["trigger_id"], each["reason"]) for each in verdicts(tmp_path)]
    assert [trigger_id for trigger_id, _ in records] == [4711, 4712]
    assert records[1] == (4712, "restart")


def wait_until_gone(pid: int) -> None:
    until_s = monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert monotonic() < until_s
        sleep(0.01)
