from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, monotonic_ns, sleep
from typing import Any

import pytest
import simulated_line
from fault_plan import Plan

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import ConfigError, EngineError, SourceError, StorageError
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.control import ControlSocket, StandardInput
from ssn_edge_runtime.line.options import FreePolicy, LineOptions, TriggerKind, device_command
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.line.status import LastVerdict
from ssn_edge_runtime.record import DecisionRecord, TriggerRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.verdict_codes import VerdictCode

QUIET = {"often": 0.0, "spacing": 0}


def make_authority(
    journal: Journal, planned: Plan, options: LineOptions | None = None, **more: object
) -> Authority:
    return Authority(
        {"belt": simulated_line.camera_command(planned)},
        simulated_line.engine_command(planned),
        journal,
        options or simulated_line.options(),
        **more,  # type: ignore[arg-type]
    )


class Driver(threading.Thread):
    """Runs a function beside the line, and stops the line when that is over."""

    def __init__(self, authority: Authority, drive: Callable[[], None]) -> None:
        super().__init__(name="driver", daemon=True)
        self._authority = authority
        self._drive = drive
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            until_s = monotonic() + 20
            while not self._authority.status().state.may_pass:
                assert monotonic() < until_s
                sleep(0.01)
            self._drive()
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self.failure = error
        finally:
            self._authority.stop()


def run_beside(authority: Authority, drive: Callable[[], None]) -> None:
    driver = Driver(authority, drive)
    driver.start()
    try:
        authority.run()
    finally:
        driver.join(30)
        if driver.failure is not None:
            raise driver.failure


def verdicts(folder: Path, *, is_running: bool = False) -> list[dict[str, Any]]:
    lines = simulated_line.read_lines(folder, is_running=is_running)
    return [line for line in lines if line["kind"] == "verdict"]


def events(folder: Path, name: str, *, is_running: bool = False) -> list[dict[str, Any]]:
    lines = simulated_line.read_lines(folder, is_running=is_running)
    return [line for line in lines if line["kind"] == "event" and line["event"] == name]


def trigger_now(authority: Authority, trigger_id: int, timeout_s: float = 5.0) -> Answer:
    return authority.ask(trigger_id).result(timeout_s)


def test_an_orderly_run_goes_through_the_states_and_ends_halted(
    tmp_path: Path, nothing_is_left: None
) -> None:
    gate = simulated_line.Gate()
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, simulated_line.plan(1, **QUIET), outlets=[gate])
        run_beside(authority, lambda: None)
    assert gate.states == [
        LineState.INITIALIZED,
        LineState.READY,
        LineState.CONTINUOUS_EXECUTION,
        LineState.READY,
        LineState.HALTED,
    ]


@pytest.mark.parametrize(
    ("worker", "error"), [("engine", EngineError), ("camera belt", SourceError)]
)
def test_a_worker_that_dies_more_often_than_its_budget_ends_the_line_in_error(
    tmp_path: Path, nothing_is_left: None, worker: str, error: type[Exception]
) -> None:
    options = simulated_line.options(
        engine=simulated_line.limits(1), capture=simulated_line.limits(1)
    )
    gate = simulated_line.Gate()
    with Journal(tmp_path) as journal:
        authority = make_authority(
            journal, simulated_line.plan(1, **QUIET), options, outlets=[gate]
        )

        def drive() -> None:
            killed: set[int] = set()
            until_s = monotonic() + 30
            while authority.status().state is not LineState.ERROR:
                assert monotonic() < until_s
                for each in authority.status().workers:
                    if each.name == worker and each.state == "running" and each.pid not in killed:
                        assert each.pid is not None
                        killed.add(each.pid)
                        os.kill(each.pid, signal.SIGKILL)
                sleep(0.01)
            assert len(killed) == 2

        with pytest.raises(error, match="restarts"):
            run_beside(authority, drive)
    assert gate.state is LineState.ERROR
    assert len(events(tmp_path, "worker_restart")) == 2
    assert gate.accepted == []


def test_no_worker_is_killed_because_the_authority_itself_could_not_listen(
    tmp_path: Path, nothing_is_left: None
) -> None:
    """A disk that does not answer for longer than a pulse, while a trigger is written down."""
    planned = simulated_line.plan(1, **QUIET)
    reads, writes = os.pipe()
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned)

        def stall() -> None:
            os.read(reads, 1)
            sleep(2 * simulated_line.BEAT_MS / 1e3)

        authority.watch(reads, stall)

        def drive() -> None:
            for _ in range(6):
                os.write(writes, b"x")
                sleep(3 * simulated_line.BEAT_MS / 1e3)

        run_beside(authority, drive)
    os.close(reads)
    os.close(writes)
    assert events(tmp_path, "worker_restart") == []


class FullDisk:
    """A journal that takes so many records, and then none."""

    def __init__(self, journal: Journal, room: int) -> None:
        self._journal = journal
        self.room = room

    def __getattr__(self, name: str) -> object:
        return getattr(self._journal, name)

    def write(self, record: DecisionRecord) -> None:
        self.room -= 1
        if self.room < 0:
            raise StorageError("decisions can no longer be written (the disk is full)")
        self._journal.write(record)

    def accept(self, trigger: TriggerRecord) -> None:
        self._journal.accept(trigger)


def test_a_part_that_cannot_be_recorded_does_not_pass_and_the_line_ends_in_error(
    tmp_path: Path, nothing_is_left: None
) -> None:
    gate = simulated_line.Gate()
    answers: list[Answer] = []
    with Journal(tmp_path) as journal:
        planned = simulated_line.plan(1, **QUIET)
        authority = make_authority(
            FullDisk(journal, 0),  # type: ignore[arg-type]
            planned,
            outlets=[gate],
        )
        with pytest.raises(StorageError, match="full"):
            run_beside(authority, lambda: answers.append(trigger_now(authority, 1)))
    assert [(each.verdict, each.reason) for each in answers] == [
        (Verdict.UNKNOWN, Reason.STORAGE_ERROR)
    ]
    assert gate.accepted == []
    assert gate.state is LineState.ERROR


def test_a_line_that_drops_frames_drives_no_outlet_unless_told_so(tmp_path: Path) -> None:
    options = simulated_line.options(trigger=TriggerKind.FREE)
    planned = simulated_line.plan(1)
    with Journal(tmp_path) as journal, pytest.raises(ConfigError, match="drives_while_dropping"):
        make_authority(journal, planned, options, outlets=[simulated_line.Gate()])


def test_a_source_that_does_not_tell_the_exposure_is_refused_with_triggers(
    tmp_path: Path, nothing_is_left: None
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    planned = simulated_line.plan(1)
    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"belt": device_command(str(folder))},
            simulated_line.engine_command(planned),
            journal,
            simulated_line.options(),
        )
        with pytest.raises(ConfigError, match="does not tell when a frame was exposed"):
            authority.run()


def test_free_running_latest_judges_the_newest_frame_and_notes_what_it_dropped(
    tmp_path: Path, nothing_is_left: None
) -> None:
    options = simulated_line.options(trigger=TriggerKind.FREE, max_parts=30)
    planned = simulated_line.plan(1, **QUIET)
    with Journal(tmp_path) as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(planned)},
            simulated_line.engine_command(planned, work_ms=25),
            journal,
            options,
        )
        authority.run()
    records = verdicts(tmp_path)
    assert [record["sequence"] for record in records] == list(range(1, 31))
    indices = [record["frame_index"] for record in records]
    assert indices == sorted(set(indices))  # type: ignore[type-var]
    dropped = sum(
        event["detail"]["frames"]  # type: ignore[index]
        for event in events(tmp_path, "drop_range")
        if event["detail"]["cause"] == "the engine was busy"  # type: ignore[index]
    )
    assert dropped > 0
    assert {record["reason"] for record in records} & {"none", "defect"}


@pytest.mark.parametrize("drives", [False, True])
def test_what_drops_frames_shows_no_signal_unless_it_is_said_to_drive(
    tmp_path: Path, nothing_is_left: None, drives: bool
) -> None:
    options = simulated_line.options(
        trigger=TriggerKind.FREE, max_parts=30, drives_while_dropping=drives
    )
    shown: list[LastVerdict] = []
    with Journal(tmp_path) as journal:
        make_authority(
            journal,
            simulated_line.plan(1, **QUIET),
            options,
            on_status=lambda status: shown.append(status.last) if status.last else None,
        ).run()
    assert "pass" in {each["verdict"] for each in verdicts(tmp_path)}
    passed = [each for each in shown if each.verdict is Verdict.PASS]
    assert passed
    assert {each.code for each in passed} == {VerdictCode.PASS if drives else VerdictCode.NONE}
    assert {each.is_accepted for each in passed} == {drives}


def test_free_running_every_gives_each_frame_a_record_even_without_room(
    tmp_path: Path, nothing_is_left: None
) -> None:
    options = simulated_line.options(
        trigger=TriggerKind.FREE, policy=FreePolicy.EVERY, max_parts=60
    )
    planned = simulated_line.plan(1, **QUIET)
    with Journal(tmp_path) as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(planned)},
            simulated_line.engine_command(planned, work_ms=40),
            journal,
            options,
        )
        authority.run()
    records = verdicts(tmp_path)
    assert len(records) == 60
    assert {"overrun", "deadline"} & {record["reason"] for record in records}


def test_a_recording_waits_and_each_picture_has_its_record(
    tmp_path: Path, nothing_is_left: None, make_pictures: Callable[[Path, int], None]
) -> None:
    make_pictures(tmp_path / "pictures", 12)
    rules = replace(simulated_line.options().rules, deadline_ns=5 * 10**9)
    options = simulated_line.options(trigger=TriggerKind.FREE, policy=FreePolicy.BLOCK, rules=rules)
    planned = simulated_line.plan(1, **QUIET)
    with Journal(tmp_path / "out") as journal:
        Authority(
            {"folder": device_command(str(tmp_path / "pictures"))},
            simulated_line.engine_command(planned, work_ms=5),
            journal,
            options,
        ).run()
    records = verdicts(tmp_path / "out")
    assert [record["part_id"] for record in records] == [f"{each:03d}.png" for each in range(12)]


def test_two_cameras_share_one_engine(tmp_path: Path, nothing_is_left: None) -> None:
    planned = simulated_line.plan(1, **QUIET)
    options = simulated_line.options(trigger=TriggerKind.FREE, max_parts=40)
    with Journal(tmp_path) as journal:
        command = simulated_line.camera_command(planned)
        Authority(
            {"left": command, "right": command},
            simulated_line.engine_command(planned),
            journal,
            options,
        ).run()
    assert len(verdicts(tmp_path)) == 40


def test_a_rate_triggers_by_itself(tmp_path: Path, nothing_is_left: None) -> None:
    planned = simulated_line.plan(1, **QUIET)
    options = simulated_line.options(trigger=TriggerKind.RATE, rate_hz=40.0, max_parts=10)
    with Journal(tmp_path) as journal:
        make_authority(journal, planned, options).run()
    records = verdicts(tmp_path)
    assert [record["trigger_id"] for record in records] == list(range(1, 11))
    assert all(record["trigger_at"] for record in records)


def test_a_gap_in_the_camera_s_numbers_is_a_record_for_each_missed_trigger(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    options = simulated_line.options(trigger=TriggerKind.CAMERA, max_parts=12)
    with Journal(tmp_path) as journal:
        Authority(
            {"cam": device_command("test:?fps=50&width=64&height=48&fault=gap@4x2,damaged@7")},
            simulated_line.engine_command(planned),
            journal,
            options,
        ).run()
    records = verdicts(tmp_path)
    reasons = [record["reason"] for record in records]
    assert len(reasons) >= 12
    assert reasons.count("missed_trigger") >= 2
    damaged = [each for each in records if "is damaged" in str(each["detail"])]
    assert [each["reason"] for each in damaged] == ["bad_frame"]  # it had a trigger, too
    assert all(record["trigger_id"] for record in records)


def test_triggers_come_over_a_socket_and_a_second_line_cannot_take_it(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    path = tmp_path / "line.sock"
    told: list[str] = []
    with Journal(tmp_path / "out") as journal:
        authority = make_authority(journal, planned)

        def drive() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.settimeout(5)
                with client.makefile("rw") as lines:
                    for line in ("trigger 7 part-a", "trigger 7", "trigger x", "status"):
                        lines.write(line + "\n")
                        lines.flush()
                        told.append(lines.readline())
                    lines.write("trigger 8\n")
                    lines.flush()
                    client.shutdown(socket.SHUT_WR)  # as `nc` does at the end of its input
                    told.append(lines.readline())

        with ControlSocket(authority, path):
            assert path.stat().st_mode & 0o777 == 0o660
            with pytest.raises(SourceError, match="another line"):
                ControlSocket(authority, path).__enter__()
            run_beside(authority, drive)
        assert not path.exists()
    assert told[0].startswith("7 ")
    assert told[1] == told[0]
    assert told[2].startswith("error: ")
    assert '"state":"ContinuousExecution"' in told[3]
    assert told[4].startswith("8 ")
    assert [record["part_id"] for record in verdicts(tmp_path / "out")] == ["part-a", None]


def test_triggers_come_on_standard_input_and_its_end_ends_the_run(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    reads, gives = os.pipe()
    takes, writes = os.pipe()
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned)

        def drive() -> None:
            os.write(gives, b"trigger 5\ntrigger 6\n")
            os.close(gives)
            sleep(0.3)

        with StandardInput(authority, reads, writes):
            run_beside(authority, drive)
    os.close(writes)
    with os.fdopen(takes) as answers:
        told = answers.read().splitlines()
    os.close(reads)
    assert sorted(line.split()[0] for line in told) == ["5", "6"]


def test_the_pass_signal_waits_until_the_part_is_at_the_ejector_and_the_stop_waits_for_it(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    delay_ns, window_ns = 300_000_000, 100_000_000
    rules = replace(
        simulated_line.options().rules, ejector_delay_ns=delay_ns, ejector_window_ns=window_ns
    )
    gate = simulated_line.Gate()
    with Journal(tmp_path) as journal:
        authority = make_authority(
            journal, planned, simulated_line.options(rules=rules), outlets=[gate]
        )

        def drive() -> None:
            for _ in range(40):
                part = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 1
                sleep(max(0, planned.triggered_ns(part) - monotonic_ns()) / 1e9)
                authority.trigger(part + 1, at_ns=planned.triggered_ns(part))

        run_beside(authority, drive)
    passed = [record for record in verdicts(tmp_path) if record["verdict"] == "pass"]
    withheld = events(tmp_path, "withheld")
    assert len(gate.accepted) + len(withheld) == len(passed) > 0
    for trigger_id, _, until_ns, given_ns in gate.accepted:
        assert trigger_id is not None
        exposed_ns = planned.exposed_ns(trigger_id - 1)
        assert exposed_ns + delay_ns <= given_ns < until_ns + 1_000_000
        assert until_ns == exposed_ns + delay_ns + window_ns


def test_what_inhibits_turns_a_pass_into_unknown(tmp_path: Path, nothing_is_left: None) -> None:
    planned = simulated_line.plan(1, **QUIET)
    gate = simulated_line.Gate()
    options = simulated_line.options(
        trigger=TriggerKind.FREE, policy=FreePolicy.EVERY, max_parts=40
    )
    with Journal(tmp_path) as journal:
        make_authority(
            journal,
            planned,
            options,
            outlets=[gate],
            inhibit=lambda: (Reason.OVERHEATED, "92 degrees, 85 is the limit"),
        ).run()
    records = verdicts(tmp_path)
    assert not [record for record in records if record["verdict"] == "pass"]
    assert "overheated" in {record["reason"] for record in records}
    assert gate.accepted == []


def test_a_pass_is_not_told_once_whoever_hears_of_records_took_the_rest_of_its_time(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    told: list[tuple[Answer, int]] = []
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned, on_record=lambda record: sleep(0.1))

        def drive() -> None:
            for trigger_id in range(1, 9):
                part = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 2
                at_ns = planned.triggered_ns(part)
                sleep(max(0, at_ns - monotonic_ns()) / 1e9)
                authority.trigger(
                    trigger_id,
                    at_ns=at_ns,
                    on_answer=lambda answer: told.append((answer, monotonic_ns())),
                )
                sleep(0.3)

        run_beside(authority, drive)
    assert any(record["verdict"] == "pass" for record in verdicts(tmp_path))
    assert len(told) == 8
    assert not [answer for answer, _ in told if answer.is_pass]


def test_a_trigger_after_the_end_is_refused_at_once(tmp_path: Path, nothing_is_left: None) -> None:
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, simulated_line.plan(1, **QUIET))
        run_beside(authority, lambda: None)
        answer = trigger_now(authority, 1)
    assert (answer.verdict, answer.is_pass, int(answer.code)) == (None, False, 0)


def test_a_trigger_that_was_given_before_the_stop_is_a_part(
    tmp_path: Path, nothing_is_left: None
) -> None:
    answers: list[Answer] = []
    reads, writes = os.pipe()
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, simulated_line.plan(1, **QUIET))

        def give_and_stop() -> None:
            os.read(reads, 1)
            authority.trigger(1, on_answer=answers.append)
            authority.stop()

        authority.watch(reads, give_and_stop)  # in the line's own turn, behind its look at triggers
        until_s = monotonic() + 30

        def begin() -> None:
            while not authority.status().state.may_pass:
                assert monotonic() < until_s
                sleep(0.01)
            os.write(writes, b"x")
            while not answers:
                assert monotonic() < until_s
                sleep(0.01)

        run_beside(authority, begin)
    os.close(reads)
    os.close(writes)
    assert [answer.verdict is not None for answer in answers] == [True]
    assert [record["trigger_id"] for record in verdicts(tmp_path)] == [1]
