"""Evidence of a guarded line: kept behind the verdicts, by a process that nobody waits for."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

import pytest
import simulated_line
import slow_keeper
from fault_plan import Plan
from simulated_camera import SimulatedCamera
from test_ends import QUIET, events, make_authority, run_beside, verdicts

from ssn_edge_runtime import read_picture
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import EvidenceKept, LineOptions
from ssn_edge_runtime.line.worker_process import WorkerCommand, WorkerLimits
from ssn_edge_runtime.record import frame_sha256
from ssn_edge_runtime.sinks import (
    EVIDENCE_FOLDER,
    DeviceKey,
    EvidencePolicy,
    Housekeeping,
    Journal,
    RetentionPolicy,
    audit_log,
)
from ssn_edge_runtime.sinks.retention import Retirement
from ssn_edge_runtime.sinks.write_budget import written_bytes

MS = 1_000_000
LIMITS = WorkerLimits(
    start_ns=60_000 * MS, beat_ns=400 * MS, busy_ns=60_000 * MS, restarts=10**6, pause_ns=10 * MS
)
PARTS = 60


def evidence(folder: Path, **more: object) -> EvidenceKept:
    policy = EvidencePolicy(10**9, share=1.0, reserve_bytes=0)  # every frame
    return replace(EvidenceKept(folder, policy, limits=LIMITS), **more)  # type: ignore[arg-type]


def options(kept: EvidenceKept) -> LineOptions:
    """A line with time enough and few slots: what it lacks, it lacks because of the keeper."""
    usual = simulated_line.options()
    rules = replace(usual.rules, deadline_ns=3_000 * MS, in_flight=6)
    return replace(usual, rules=rules, spare_slots=2, evidence=kept)


def run_belt(
    folder: Path,
    kept: EvidenceKept,
    *,
    parts: int = PARTS,
    beside: Callable[[Authority], None] = lambda authority: None,
) -> tuple[Plan, Authority]:
    """Triggers for so many parts of a belt; `beside` is called before each."""
    planned = simulated_line.plan(1, **QUIET)
    with Journal(folder) as journal:
        authority = make_authority(journal, planned, options(kept))

        def drive() -> None:
            for _ in range(parts):
                beside(authority)
                give_part(authority, planned)
            sleep(0.1)

        run_beside(authority, drive)
    return planned, authority


def give_part(authority: Authority, planned: Plan) -> None:
    """Trigger the part after the next one, in the moment that it comes."""
    part = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 2
    sleep(max(0, planned.triggered_ns(part) - monotonic_ns()) / 1e9)
    authority.trigger(part + 1, at_ns=planned.triggered_ns(part))


def keeper_pid(authority: Authority) -> int | None:
    for each in authority.status().workers:
        if each.name == "keeper" and each.state == "running":
            return each.pid
    return None


def send(authority: Authority, number: signal.Signals) -> bool:
    pid = keeper_pid(authority)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return True


def kept_files(folder: Path) -> dict[str, Path]:
    place = folder / EVIDENCE_FOLDER
    return {f"{EVIDENCE_FOLDER}/{path.name}": path for path in place.iterdir()}


def left_out(folder: Path) -> set[int]:
    found: set[int] = set()
    for event in events(folder, "evidence"):
        for each in filter(None, event["detail"]["left_out"].split(",")):  # type: ignore[index]
            first, _, last = each.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def test_kept_frames_are_what_the_camera_gave_and_what_the_journal_says(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned, authority = run_belt(tmp_path, evidence(tmp_path))
    camera = SimulatedCamera(planned)
    records = {record["sequence"]: record for record in verdicts(tmp_path)}
    kept = {event["detail"]["sequence"]: event["detail"] for event in events(tmp_path, "kept")}  # type: ignore[index]
    seen = {number for number, record in records.items() if record["frame_index"] is not None}
    assert len(seen) > PARTS // 4
    assert seen == set(kept) | left_out(tmp_path)
    assert len(kept) > PARTS // 10  # a busy machine sheds more, and says so
    assert {detail["file"] for detail in kept.values()} == set(kept_files(tmp_path))
    for sequence, detail in kept.items():
        record = records[sequence]
        image = read_picture(tmp_path / detail["file"])
        assert frame_sha256(image) == detail["frame_sha256"]
        part = int(str(record["trigger_id"])) - 1
        assert image.tobytes() == camera.picture(part).tobytes()
        assert detail["file"].startswith(f"evidence/{sequence:09d}_{record['verdict']}")
    report = audit_log(tmp_path, with_evidence=True)
    assert (report.problems, report.evidence) == ((), len(kept))
    assert authority.status().counters["evidence_kept"] == len(kept)


def test_a_keeper_that_is_stopped_and_killed_again_and_again_costs_no_verdict_and_no_slot(
    tmp_path: Path, nothing_is_left: None
) -> None:
    dice, until_s = random.Random(3), monotonic() + 60
    hit: set[int | None] = {None}
    planned = simulated_line.plan(1, **QUIET)
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned, options(evidence(tmp_path, frames=3)))

        def drive() -> None:
            while len(hit) <= 6:
                assert monotonic() < until_s
                give_part(authority, planned)
                pid = keeper_pid(authority)
                if pid not in hit and dice.random() < 0.2:
                    hit.add(pid)
                    send(authority, signal.SIGSTOP)
                    for _ in range(dice.randrange(2, 6)):  # held by it, and by nobody else
                        give_part(authority, planned)
                    if dice.random() < 0.3:
                        send(authority, signal.SIGKILL)
            for _ in range(30):
                give_part(authority, planned)
            sleep(0.1)

        run_beside(authority, drive)
    records = verdicts(tmp_path)
    assert {record["reason"] for record in records} <= {"none", "defect", "no_frame", "overrun"}
    assert [each["sequence"] for each in records] == list(range(1, len(records) + 1))
    seen = {each["sequence"] for each in records if each["frame_index"] is not None}
    # Each hit may cost what the keeper held: without the slots' return, none would be left here.
    assert len([each for each in records[-30:] if each["frame_index"] is not None]) > 10
    kept = {event["detail"]["sequence"] for event in events(tmp_path, "kept")}  # type: ignore[index]
    assert kept
    assert left_out(tmp_path)
    assert kept | left_out(tmp_path) == seen
    assert not kept & left_out(tmp_path)
    restarts = events(tmp_path, "worker_restart")
    assert {each["detail"]["worker"] for each in restarts} == {"keeper"}  # type: ignore[index]
    counters = authority.status().counters
    assert counters.get("evidence_shed", 0) + counters.get("evidence_failed", 0) == len(
        left_out(tmp_path)
    )
    assert audit_log(tmp_path).is_whole


def test_a_keeper_that_dies_more_often_than_its_budget_is_done_without(
    tmp_path: Path, nothing_is_left: None, caplog: pytest.LogCaptureFixture
) -> None:
    limits = replace(LIMITS, restarts=1)
    until_s = monotonic() + 30

    def kill(authority: Authority) -> None:
        send(authority, signal.SIGKILL)

    run_belt(tmp_path, evidence(tmp_path, limits=limits), parts=150, beside=kill)
    assert monotonic() < until_s
    records = verdicts(tmp_path)
    assert len(records) == 150
    assert any(record["verdict"] == "pass" for record in records[-20:])
    given_up = [each["detail"]["given_up"] for each in events(tmp_path, "worker_restart")]  # type: ignore[index]
    assert given_up == [False, True]
    assert "the line goes on without evidence" in caplog.text
    assert records[-1]["sequence"] in left_out(tmp_path) | {
        each["sequence"] for each in records if each["frame_index"] is None
    }


def test_frames_beyond_what_a_slow_disk_takes_are_left_out_by_number(
    tmp_path: Path, nothing_is_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(slow_keeper.PICTURE_S, "0.2")
    kept = evidence(tmp_path, frames=2, command=WorkerCommand("", {}, "slow_keeper"))
    planned, _ = run_belt(tmp_path, kept)
    records = verdicts(tmp_path)
    assert {record["reason"] for record in records} <= {"none", "defect", "no_frame"}
    seen = {each["sequence"] for each in records if each["frame_index"] is not None}
    done = {event["detail"]["sequence"] for event in events(tmp_path, "kept")}  # type: ignore[index]
    assert done
    assert len(left_out(tmp_path)) > len(done)
    assert done | left_out(tmp_path) == seen
    counted = sum(each["detail"]["shed"] for each in events(tmp_path, "evidence"))  # type: ignore[index]
    assert counted == len(left_out(tmp_path))
    camera = SimulatedCamera(planned)
    trigger_ids = {record["sequence"]: int(str(record["trigger_id"])) for record in records}
    for event in events(tmp_path, "kept"):  # all slots were filled anew while it held them
        detail = event["detail"]
        image = camera.picture(trigger_ids[detail["sequence"]] - 1)  # type: ignore[index]
        assert read_picture(tmp_path / detail["file"]).tobytes() == image.tobytes()  # type: ignore[index]


def test_a_hung_keeper_holds_up_neither_the_parts_nor_the_end(
    tmp_path: Path, nothing_is_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(slow_keeper.PICTURE_S, "600")
    kept = evidence(tmp_path, frames=8, command=WorkerCommand("", {}, "slow_keeper"))
    began_s = monotonic()
    run_belt(tmp_path, kept, parts=40)
    assert monotonic() - began_s < 40
    seen = [each["sequence"] for each in verdicts(tmp_path) if each["frame_index"] is not None]
    assert left_out(tmp_path) == set(seen)
    assert len(seen) > 20


def test_the_quota_of_evidence_holds_while_the_line_runs(
    tmp_path: Path, nothing_is_left: None
) -> None:
    quota = 20_000  # some six pictures
    policy = EvidencePolicy(quota, share=1.0, reserve_bytes=0)
    sizes: list[int] = []

    def look(authority: Authority) -> None:
        with suppress(FileNotFoundError):
            sizes.append(
                sum(path.stat().st_size for path in (tmp_path / EVIDENCE_FOLDER).glob("*.png"))
            )

    run_belt(tmp_path, evidence(tmp_path, policy=policy), beside=look)
    assert 0 < max(sizes) <= quota
    told = events(tmp_path, "evidence")
    assert sum(each["detail"]["evicted"] for each in told) > 0  # type: ignore[index]
    held = sum(path.stat().st_size for path in kept_files(tmp_path).values())
    assert told[-1]["detail"]["held_bytes"] == held  # type: ignore[index]


def test_a_disk_that_takes_no_evidence_is_not_the_end_of_the_line(
    tmp_path: Path, nothing_is_left: None
) -> None:
    (tmp_path / EVIDENCE_FOLDER).write_text("in the way")
    _, authority = run_belt(tmp_path, evidence(tmp_path), parts=20)
    assert len(verdicts(tmp_path)) == 20
    assert events(tmp_path, "kept") == []
    assert authority.status().counters["evidence_failed"] > 0
    assert events(tmp_path, "worker_restart") == []


def test_evidence_goes_before_the_records_that_it_is_of(
    tmp_path: Path, nothing_is_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    key = DeviceKey.open(tmp_path / "device.key")
    planned = simulated_line.plan(1, **QUIET)
    # Slow enough that records are retired while the keeper still holds their frames.
    monkeypatch.setenv(slow_keeper.PICTURE_S, "0.3")
    kept = evidence(log, command=WorkerCommand("", {}, "slow_keeper"))
    lines: list[Authority] = []
    retired: list[int] = [0]
    began_s: list[float] = []
    carry_out = Retirement.carry_out

    def evict(sequence: int) -> None:
        began_s.append(monotonic())
        lines[0].evict_evidence(sequence)

    def look_and_carry_out(retirement: Retirement) -> None:
        assert all(each > retirement.last_sequence for each in pictured(log))
        carry_out(retirement)
        retired.append(retirement.last_sequence)

    monkeypatch.setattr(Retirement, "carry_out", look_and_carry_out)
    with (
        Journal(log, key=key, segment_bytes=4_000, sync_interval_s=0.01) as journal,
        Housekeeping(
            journal,
            policy=RetentionPolicy(max_bytes=8_000),
            key=key.public,
            evict=evict,
            every_s=0.01,
        ) as housekeeping,
    ):
        authority = make_authority(
            journal, planned, options(kept), on_status=lambda status: housekeeping.tend()
        )
        lines.append(authority)

        def drive() -> None:
            until_s, is_killed = monotonic() + 60, False
            while len(retired) <= 5:
                assert monotonic() < until_s
                if len(began_s) > 1 and monotonic() - began_s[1] > 0.12 and not is_killed:
                    is_killed = send(authority, signal.SIGKILL)  # asked, and not done: ask the next
                give_part(authority, planned)
                gone = retired[-1]
                assert all(each > gone for each in pictured(log)), "written after its record went"

        run_beside(authority, drive)
    assert events(log, "evidence")
    assert audit_log(log, key=key.public).problems == ()


def pictured(log: Path) -> list[int]:
    """The parts that a log has evidence of."""
    return [int(path.name[:9]) for path in (log / EVIDENCE_FOLDER).glob("*.png")]


def test_a_spent_write_budget_leaves_out_evidence_and_no_record(
    tmp_path: Path, nothing_is_left: None
) -> None:
    before = written_bytes()
    _, authority = run_belt(tmp_path, evidence(tmp_path, bytes_a_day=24), parts=120)
    if written_bytes() == before:
        pytest.skip("the test's folder is not on a disk: nothing is written")
    records = verdicts(tmp_path)
    assert len(records) == 120
    # It looks once a second; from then on the log alone has written more than a byte an hour.
    seen = [each["sequence"] for each in records if each["frame_index"] is not None]
    over = authority.status().counters["evidence_over_budget"]
    assert over > 10
    assert set(seen[-over:]) <= left_out(tmp_path)
    told = events(tmp_path, "evidence")
    assert sum(each["detail"]["over_budget"] for each in told) == over  # type: ignore[index]
