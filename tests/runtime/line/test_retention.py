"""Old segments go, only behind a signed checkpoint, and the log says so before they do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import (
    EVIDENCE_FOLDER,
    DeviceKey,
    EvidenceKeeper,
    EvidencePolicy,
    Housekeeping,
    Journal,
    RetentionPolicy,
    audit_log,
    journal_files,
    plan_retirement,
    retention,
)
from ssn_edge_runtime.sources import Frame

MakeRecord = Callable[..., DecisionRecord]


@pytest.fixture
def key(tmp_path: Path) -> DeviceKey:
    return DeviceKey.open(tmp_path / "keys" / "device.key")


def fill(output: Path, make_record: MakeRecord, count: int, key: DeviceKey | None) -> None:
    with Journal(output, segment_bytes=5000, key=key) as journal:
        for _ in range(count):
            journal.write(make_record(journal))


def size(output: Path) -> int:
    return sum(path.stat().st_size for path in journal_files(output))


def test_an_age_beyond_all_clocks_keeps_everything(
    output: Path, make_record: MakeRecord, key: DeviceKey
) -> None:
    fill(output, make_record, 50, key)
    for age_s in (1e300, float("inf")):
        assert plan_retirement(output, RetentionPolicy(max_age_s=age_s), key.public) is None


def test_the_oldest_segments_go_until_the_rest_fits(
    output: Path, make_record: MakeRecord, key: DeviceKey
) -> None:
    fill(output, make_record, 50, key)
    before = len(journal_files(output))
    with Journal(output, segment_bytes=5000, key=key) as journal:
        plan = plan_retirement(output, RetentionPolicy(max_bytes=25_000), key.public)
        assert plan is not None
        journal.note(plan.event)
        assert len(journal_files(output)) == before  # the log says it first
        plan.carry_out()
    assert size(output) < 26_500
    assert len(journal_files(output)) == before - len(plan.segments)
    report = audit_log(output, key=key.public)
    assert report.problems == ()
    assert (report.first_line, sum(report.verdicts.values())) == (plan.last_line + 1, 50)
    assert plan_retirement(output, RetentionPolicy(max_bytes=26_500), key.public) is None


def test_segments_go_by_their_age(output: Path, make_record: MakeRecord, key: DeviceKey) -> None:
    fill(output, make_record, 50, key)
    policy = RetentionPolicy(max_age_s=3600)
    assert plan_retirement(output, policy, key.public) is None
    later = datetime.now(timezone.utc) + timedelta(hours=2)
    plan = plan_retirement(output, policy, key.public, now=later)
    assert plan is not None
    assert len(plan.segments) == len(journal_files(output)) - 1  # the one in use stays


def test_nothing_goes_by_a_clock_that_was_not_set(
    output: Path, make_record: MakeRecord, key: DeviceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(output, make_record, 50, key)
    monkeypatch.setattr(retention, "clock_synchronised", lambda: False)
    later = datetime.now(timezone.utc) + timedelta(days=9000)
    policy = RetentionPolicy(max_age_s=3600)
    assert plan_retirement(output, policy, key.public, now=later) is None


@pytest.mark.parametrize("signer", [None, "another"])
def test_nothing_goes_without_a_checkpoint_that_the_device_has_signed(
    output: Path,
    make_record: MakeRecord,
    key: DeviceKey,
    tmp_path: Path,
    signer: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = None if signer is None else DeviceKey.open(tmp_path / "other.key")
    fill(output, make_record, 50, other)
    assert plan_retirement(output, RetentionPolicy(max_bytes=1), key.public) is None
    assert "does not begin with a checkpoint that this device has signed" in caplog.text


def test_a_retirement_that_was_cut_short_leaves_a_log_that_is_whole(
    output: Path, make_record: MakeRecord, key: DeviceKey
) -> None:
    fill(output, make_record, 50, key)
    with Journal(output, key=key) as journal:
        plan = plan_retirement(output, RetentionPolicy(max_bytes=15_000), key.public)
        assert plan is not None
        journal.note(plan.event)
    for count, segment in enumerate(plan.segments):
        assert audit_log(output, key=key.public).is_whole, count
        segment.path.unlink()
    assert audit_log(output, key=key.public).is_whole
    plan.carry_out()  # what is gone already is no error


def test_a_journal_opens_where_only_its_last_segment_is_left(
    output: Path, make_record: MakeRecord, key: DeviceKey
) -> None:
    fill(output, make_record, 50, key)
    with Journal(output, key=key) as journal:
        plan = plan_retirement(output, RetentionPolicy(max_bytes=1), key.public)
        assert plan is not None
        journal.note(plan.event)
    plan.carry_out()
    assert len(journal_files(output)) == 1
    with Journal(output, key=key) as journal:
        assert journal.next_sequence == 51
    assert audit_log(output, key=key.public).is_whole


def test_housekeeping_notes_waits_for_the_disk_and_deletes_evidence_first(
    output: Path, make_record: MakeRecord, key: DeviceKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    unlink = Path.unlink

    def noting(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        if path.suffix in (".jsonl", ".png"):
            order.append(path.suffix)

    monkeypatch.setattr(Path, "unlink", noting)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    frame = Frame.taken_now(image, source="test", index=0)
    decision = Decision(Verdict.FAIL, Reason.DEFECT)
    with (
        Journal(output, segment_bytes=5000, key=key, sync_interval_s=0.002) as journal,
        EvidenceKeeper(output, EvidencePolicy(10**9, reserve_bytes=0), depth=100) as evidence,
        Housekeeping(
            journal,
            policy=RetentionPolicy(max_bytes=30_000),
            key=key.public,
            evidence=evidence,
            every_s=0.005,
        ) as housekeeping,
    ):
        deadline = time.monotonic() + 60.0
        while order.count(".jsonl") <= 5 and time.monotonic() < deadline:
            record = replace(make_record(journal), verdict=Verdict.FAIL)
            journal.write(record)
            evidence.write(record, frame, decision)
            housekeeping.tend()
            time.sleep(0.002)
    assert order.count(".jsonl") > 5
    first_segment = order.index(".jsonl")
    assert order[:first_segment] == [".png"] * first_segment != []
    report = audit_log(output, key=key.public)
    assert report.problems == ()
    lines = [line for path in journal_files(output) for line in path.read_bytes().splitlines()]
    assert any(b'"event":"evidence"' in line for line in lines)
    noted = [json.loads(line)["detail"] for line in lines if b'"event":"retirement"' in line]
    # The last one noted may not have been carried out before the end.
    (done,) = [each for each in noted if each["last_line"] + 1 == report.first_line]
    names = sorted(path.name for path in (output / EVIDENCE_FOLDER).iterdir())
    assert int(names[0][:9]) > done["last_sequence"] > 0


def test_housekeeping_without_a_key_retires_nothing(output: Path, make_record: MakeRecord) -> None:
    with (
        Journal(output, segment_bytes=3000) as journal,
        Housekeeping(journal, policy=RetentionPolicy(max_bytes=1), every_s=0.001) as housekeeping,
    ):
        for _ in range(30):
            journal.write(make_record(journal))
            housekeeping.tend()
    report = audit_log(output)
    assert (report.problems, report.first_line) == ((), 1)


@pytest.mark.parametrize("options", [{"max_age_s": 0.0}, {"max_bytes": 0}])
def test_a_policy_that_keeps_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        RetentionPolicy(**options)
