"""Power is lost after every single request to the disk, and the journal goes on from there."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord, TriggerRecord, boot_id
from ssn_edge_runtime.sinks import DeviceKey, Journal, audit_log, journal_files
from tests.runtime.line.power_loss import WAYS, Trace, left_after, recording

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """A folder in memory where there is one: a thousand openings sync a lot."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def key(tmp_path: Path) -> DeviceKey:
    return DeviceKey.open(tmp_path / "device.key")


def decision(sequence: int) -> DecisionRecord:
    return DecisionRecord(
        sequence=sequence,
        source="test",
        decided_at=NOW,
        verdict=Verdict.FAIL,
        reason=Reason.DEFECT,
        detail="x" * (sequence * 97 % 700),
        timings_ms={},
        monotonic_ns=sequence,
        boot_id=boot_id(),
    )


def trigger(sequence: int) -> TriggerRecord:
    return TriggerRecord(
        sequence=sequence,
        trigger_id=sequence,
        source="test",
        trigger_at=NOW,
        monotonic_ns=sequence,
        boot_id=boot_id(),
    )


def work(journal: Journal, trace: Trace, rng: random.Random, steps: int, *, durable: bool) -> None:
    """Triggers, decisions and events; synced now and then, as the thread would."""
    for step in range(steps):
        if step % 5 == 4:
            journal.note(EventRecord.now(EventKind.STATE, {"step": step}))
        elif journal.open_triggers and rng.random() < 0.6:
            journal.write(decision(rng.choice(journal.open_triggers).sequence))
        elif rng.random() < 0.5:
            journal.accept(trigger(journal.next_sequence))
        else:
            journal.write(decision(journal.next_sequence))
        if durable:
            trace.mark(journal.line)
        if rng.random() < 0.25:
            assert journal._sync is not None
            journal._sync._sync()
            trace.mark(journal.line)


def lines_of(folder: Path) -> list[bytes]:
    return [line for path in journal_files(folder) for line in path.read_bytes().splitlines()]


def put(files: dict[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def open_after_loss(folder: Path, written: list[bytes], promised: int, key: DeviceKey) -> None:
    """Opening recovers a beginning of what was written, no shorter than what was promised."""
    with Journal(folder, key=key, sync_interval_s=60.0, lag_limit_s=61.0) as journal:
        recovered = lines_of(folder)
        is_restarted = json.loads(recovered[-1]).get("event") == "restart" if recovered else False
        if is_restarted and recovered[-1] not in written:
            detail = json.loads(recovered.pop())["detail"]
            # A head that lay beside the log was never ahead of what was recovered.
            assert detail["published_line"] is None
        assert recovered == written[: len(recovered)]
        assert len(recovered) >= promised
        documents = [json.loads(line) for line in recovered]
        accepted = {each["sequence"] for each in documents if each["kind"] == "trigger"}
        decided = {each["sequence"] for each in documents if each["kind"] == "verdict"}
        assert {each.sequence for each in journal.open_triggers} == accepted - decided
        assert journal.next_sequence == len(accepted | decided) + 1
        for each in journal.open_triggers:
            journal.write(decision(each.sequence))
        journal.write(decision(journal.next_sequence))
    assert audit_log(folder, key=key.public).problems == ()


SEEDS = [5, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 130))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("durable", [False, True])
def test_every_prefix_of_a_run_that_loses_power_is_gone_on_from(
    quick_disk: Path, key: DeviceKey, monkeypatch: pytest.MonkeyPatch, durable: bool, seed: int
) -> None:
    rng = random.Random(seed)
    folder, after = quick_disk / "run", quick_disk / "after"
    folder.mkdir()
    with (
        recording(folder, monkeypatch) as trace,
        Journal(
            folder,
            key=key,
            durable=durable,
            sync_interval_s=60.0,
            lag_limit_s=61.0,
            checkpoint_every=11,
            segment_bytes=rng.choice([5000, 9000, 14_000]),
            head_every=7,
        ) as journal,
    ):
        work(journal, trace, rng, 60, durable=durable)
        journal.close()
        trace.mark(journal.line)  # a journal that was closed is safe
    written = lines_of(folder)
    assert len(journal_files(folder)) >= 2
    assert {op.what for op in trace.ops} >= {"write", "fsync", "rename", "create", "fsync folder"}
    promised = 0
    for length in range(len(trace.ops) + 1):
        if length and trace.ops[length - 1].what == "mark":
            promised = trace.ops[length - 1].size
        for way in WAYS:
            put(left_after(trace, length, way, rng), after)
            open_after_loss(after, written, promised, key)
    assert promised == len(written)


@pytest.mark.parametrize("seed", SEEDS)
def test_power_that_is_lost_again_while_the_journal_recovers_loses_no_more(
    quick_disk: Path, key: DeviceKey, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    folder, first, again = quick_disk / "run", quick_disk / "first", quick_disk / "again"
    folder.mkdir()
    with (
        recording(folder, monkeypatch) as trace,
        Journal(
            folder, sync_interval_s=60.0, lag_limit_s=61.0, checkpoint_every=9, segment_bytes=6000
        ) as journal,
    ):
        work(journal, trace, rng, 40, durable=False)
    written = lines_of(folder)
    rotations = [number for number, op in enumerate(trace.ops, 1) if op.what == "rename"]
    lengths = {length + more for length in rotations for more in range(0, 12, 2)}
    for length in sorted(each for each in lengths if each <= len(trace.ops)):
        promised = max((op.size for op in trace.ops[:length] if op.what == "mark"), default=0)
        put(left_after(trace, length, "mixed", rng), first)
        with (
            recording(first, monkeypatch) as recovery,
            Journal(first, sync_interval_s=60.0, lag_limit_s=61.0),
        ):
            recovered = lines_of(first)
        for length_again in range(len(recovery.ops) + 1):
            put(left_after(recovery, length_again, rng.choice(WAYS), rng), again)
            open_again(again, written, promised, recovered)


def open_again(folder: Path, written: list[bytes], promised: int, recovered: list[bytes]) -> None:
    with Journal(folder, sync_interval_s=60.0, lag_limit_s=61.0):
        found = lines_of(folder)
    common = [one for one, other in zip(found, written, strict=False) if one == other]
    # Those of the run, then at most what the first recovery and this one noted.
    assert len(common) >= promised
    assert len(found) <= max(len(recovered), len(common)) + 3
    assert audit_log(folder).problems == () or open_triggers_only(folder)


def open_triggers_only(folder: Path) -> bool:
    """These runs end in order without deciding what was open; the audit says so, and no more."""
    return {each.kind.value for each in audit_log(folder).problems} == {"trigger"}
