"""What the audit of a whole log finds, where it says it is, and what it says it cannot prove."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import AuditError, ConfigError, DatasetError, StorageError
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord, TriggerRecord
from ssn_edge_runtime.sinks import (
    HEAD_NAME,
    JOURNAL_NAME,
    AuditReport,
    DeviceKey,
    HeadStatement,
    Journal,
    ProblemKind,
    audit_log,
    heads_from,
    journal_files,
    read_head,
)

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)


def decision(sequence: int, trigger_id: int | None = None) -> DecisionRecord:
    return DecisionRecord(
        sequence=sequence,
        source="test",
        decided_at=NOW,
        verdict=list(Verdict)[sequence % 3],
        reason=Reason.NONE,
        timings_ms={},
        trigger_id=trigger_id,
        monotonic_ns=sequence,
    )


def trigger(sequence: int) -> TriggerRecord:
    return TriggerRecord(
        sequence=sequence, trigger_id=sequence, source="test", trigger_at=NOW, monotonic_ns=sequence
    )


def write_log(folder: Path, key: DeviceKey | None, parts: int = 24) -> None:
    """Three segments or so, with triggers that are decided out of turn, and events between."""
    with Journal(folder, key=key, segment_bytes=12_000, checkpoint_every=15) as journal:
        for _ in range(parts // 4):
            first = journal.next_sequence
            journal.accept(trigger(first))
            journal.accept(trigger(first + 1))
            journal.write(decision(first + 2))
            journal.write(decision(first + 1, first + 1))
            journal.note(EventRecord.now(EventKind.STATE, {"state": "Ready"}))
            journal.write(decision(first, first))
            journal.write(decision(first + 3))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> DeviceKey:
    return DeviceKey.open(tmp_path_factory.mktemp("keys") / "device.key")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, key: DeviceKey) -> Path:
    """A whole log; nobody writes into it."""
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, key)
    return folder


@pytest.fixture(scope="module")
def head(log: Path) -> HeadStatement:
    return read_head(log / HEAD_NAME)


@pytest.fixture
def copy(log: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(log, tmp_path / "copy"))


def kinds(report: AuditReport) -> set[ProblemKind]:
    return {each.kind for each in report.problems}


def test_an_untouched_log_is_whole(log: Path, head: HeadStatement, key: DeviceKey) -> None:
    report = audit_log(log, heads=[head], key=key.public)
    assert report.problems == ()
    assert report.unproven == ()
    assert report.files >= 3
    assert report.verdicts == {"pass": 8, "fail": 8, "unknown": 8}
    assert (report.first_line, report.last_line) == (1, head.line)
    report.raise_for_problems()


def test_the_hash_of_the_last_line_is_a_head_too(log: Path, head: HeadStatement) -> None:
    report = audit_log(log, heads=[head.sha256])
    assert report.is_whole
    assert not any("tail" in each for each in report.unproven)


def test_without_a_head_the_tail_is_said_to_be_not_provable(log: Path, key: DeviceKey) -> None:
    report = audit_log(log, key=key.public)
    assert report.is_whole
    (sentence,) = report.unproven
    assert sentence.startswith("tail not provable: without a published head")


def test_what_follows_the_last_head_is_said_to_be_not_provable(
    copy: Path, head: HeadStatement, key: DeviceKey
) -> None:
    write_log(copy, key, parts=4)
    report = audit_log(copy, heads=[head], key=key.public)
    assert report.is_whole
    (sentence,) = report.unproven
    assert sentence.startswith(f"tail not provable after line {head.line}")


def test_a_key_that_lies_beside_the_log_is_said_to_prove_little(
    log: Path, head: HeadStatement
) -> None:
    (sentence,) = audit_log(log, heads=[head]).unproven
    assert sentence.startswith("whose key it is")


ORIGINALS: dict[Path, dict[str, bytes]] = {}


def originals(log: Path) -> dict[str, bytes]:
    if log not in ORIGINALS:
        ORIGINALS[log] = {path.name: path.read_bytes() for path in journal_files(log)}
    return ORIGINALS[log]


def check_damaged(files: dict[str, bytes], log: Path, head: HeadStatement) -> None:
    """Any change is found with the head; without it, unless it is one of the tail alone."""
    before = originals(log)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        try:
            with_head = audit_log(folder, heads=[head])
            without = audit_log(folder)
        except DatasetError:  # all of it is gone
            assert not b"".join(files.values())
            return
    is_changed = files != before
    assert with_head.is_whole != is_changed
    if without.is_whole and is_changed:
        assert any(each.startswith("tail not provable") for each in without.unproven)
        chain = b"".join(files[each] for each in sorted(files, key=order))
        whole = b"".join(before[each] for each in sorted(before, key=order))
        last = whole.rindex(b"\n", 0, -1) + 1
        assert whole.startswith(chain) or chain[:last] == whole[:last]


def order(name: str) -> tuple[bool, str]:
    return (name == JOURNAL_NAME, name)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_changed_byte_is_found(log: Path, head: HeadStatement, data: st.DataObject) -> None:
    files = dict(originals(log))
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    files[name] = bytes(content)
    check_damaged(files, log, head)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_line_that_is_missing_doubled_or_moved_is_found(
    log: Path, head: HeadStatement, data: st.DataObject
) -> None:
    files = {name: each.splitlines(keepends=True) for name, each in originals(log).items()}
    names = st.sampled_from(sorted(files))
    name, other = data.draw(names), data.draw(names)
    index = data.draw(st.integers(0, len(files[name]) - 1))
    what = data.draw(st.sampled_from(["delete", "double", "swap", "move"]))
    line = files[name][index]
    if what == "delete":
        del files[name][index]
    elif what == "double":
        files[other].insert(data.draw(st.integers(0, len(files[other]))), line)
    elif what == "swap":
        place = data.draw(st.integers(0, len(files[other]) - 1))
        files[name][index], files[other][place] = files[other][place], line
    else:
        del files[name][index]
        files[other].insert(data.draw(st.integers(0, len(files[other]))), line)
    check_damaged({each: b"".join(lines) for each, lines in files.items()}, log, head)


@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_any_file_that_is_cut_short_missing_or_exchanged_is_found(
    log: Path, head: HeadStatement, data: st.DataObject
) -> None:
    files = dict(originals(log))
    name = data.draw(st.sampled_from(sorted(files)))
    what = data.draw(st.sampled_from(["cut", "delete", "exchange"]))
    if what == "cut":
        files[name] = files[name][: data.draw(st.integers(0, len(files[name]) - 1))]
    elif what == "delete":
        del files[name]
    else:
        other = data.draw(st.sampled_from(sorted(files)))
        files[name], files[other] = files[other], files[name]
    check_damaged(files, log, head)


def test_a_problem_is_told_with_its_file_and_line(copy: Path) -> None:
    second = journal_files(copy)[1]
    lines = second.read_bytes().splitlines(keepends=True)
    document = json.loads(lines[4])
    document["monotonic_ns"] += 1
    lines[4] = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    second.write_bytes(b"".join(lines))
    (problem,) = audit_log(copy).problems
    assert (problem.file, problem.line, problem.kind) == (second.name, 6, ProblemKind.LINK)


def rechained(folder: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """A log written anew by someone who knows how, without the device's key."""
    from ssn_edge_runtime.record import FIRST_PREVIOUS, canonical_json
    from ssn_edge_runtime.sinks import line_sha256

    documents = [
        json.loads(line)
        for path in journal_files(folder)
        for line in path.read_bytes().splitlines()
    ]
    for path in journal_files(folder):
        path.unlink()
    previous, lines = FIRST_PREVIOUS, []
    for number, document in enumerate(change(documents), start=1):
        lines.append(canonical_json(document | {"line": number, "previous": previous}))
        previous = line_sha256(lines[-1])
    (folder / JOURNAL_NAME).write_bytes(b"\n".join(lines) + b"\n")


def test_a_log_that_was_written_anew_is_found_by_its_head_alone(
    copy: Path, head: HeadStatement
) -> None:
    rechained(copy, lambda documents: [*documents[:-1], documents[-1] | {"at": "later"}])
    assert audit_log(copy).is_whole
    assert kinds(audit_log(copy, heads=[head])) == {ProblemKind.HEAD}


def test_a_decision_that_was_taken_out_of_a_log_written_anew_is_found_by_its_number(
    copy: Path,
) -> None:
    rechained(
        copy,
        lambda documents: [
            each for each in documents if (each["kind"], each.get("sequence")) != ("verdict", 7)
        ],
    )
    assert ProblemKind.SEQUENCE in kinds(audit_log(copy))


def test_a_second_decision_for_a_part_is_found(copy: Path) -> None:
    rechained(copy, lambda documents: [*documents, documents[3] | {"verdict": "pass"}])
    report = audit_log(copy)
    (problem,) = report.problems
    assert problem.kind is ProblemKind.SEQUENCE
    assert "was decided already" in problem.detail


def test_a_trigger_without_a_decision_is_a_problem_once_the_run_has_ended_in_order(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path) as journal:
        journal.accept(trigger(1))
        while journal.lag_s:
            pass
        report = audit_log(tmp_path)
        assert report.is_whole
        assert report.open_triggers == 1
    (problem,) = audit_log(tmp_path).problems
    assert problem.kind is ProblemKind.TRIGGER
    assert "trigger 1 (sequence 1) has no decision" in problem.detail


def test_a_decision_for_another_trigger_is_found(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.accept(trigger(1))
        journal.write(decision(1, trigger_id=9))
    assert kinds(audit_log(tmp_path)) == {ProblemKind.TRIGGER}


def retired(folder: Path, *, noted: bool, key: DeviceKey | None) -> int:
    """Delete the first segment; returns the number of its last line."""
    first, second, *_ = journal_files(folder)
    last = int(second.stem.partition("-")[2] or "0") - 1
    with Journal(folder, key=key) as journal:
        if noted:
            journal.note(
                EventRecord.now(EventKind.RETIREMENT, {"first_line": 1, "last_line": last})
            )
        journal.write(decision(journal.next_sequence))
    first.unlink()
    return last


def test_a_log_whose_beginning_was_retired_begins_at_a_signed_checkpoint(
    copy: Path, head: HeadStatement, key: DeviceKey
) -> None:
    last = retired(copy, noted=True, key=key)
    report = audit_log(copy, heads=[head], key=key.public)
    assert report.is_whole
    assert report.first_line == last + 1
    assert sum(report.verdicts.values()) == 25
    assert any(f"what lines 1 to {last} said" in each for each in report.unproven)


def test_a_beginning_that_is_missing_without_a_note_is_found(copy: Path, key: DeviceKey) -> None:
    last = retired(copy, noted=False, key=key)
    (problem,) = audit_log(copy, key=key.public).problems
    assert problem.kind is ProblemKind.BEGINNING
    assert f"lines 1 to {last} are missing" in problem.detail


def test_a_log_that_begins_at_a_checkpoint_without_a_signature_of_the_device_is_not_whole(
    tmp_path: Path, copy: Path, key: DeviceKey
) -> None:
    retired(copy, noted=True, key=key)
    other = DeviceKey.open(tmp_path / "other.key")
    assert kinds(audit_log(copy, key=other.public)) == {ProblemKind.BEGINNING}
    write_log(tmp_path / "unsigned", None)
    retired(tmp_path / "unsigned", noted=True, key=None)
    assert kinds(audit_log(tmp_path / "unsigned")) == {ProblemKind.BEGINNING}


def test_a_head_that_someone_else_signed_is_found(
    log: Path, head: HeadStatement, tmp_path: Path, key: DeviceKey
) -> None:
    forged = replace(head, sequence=head.sequence + 1)
    assert kinds(audit_log(log, heads=[forged], key=key.public)) == {ProblemKind.SIGNATURE}
    unsigned = replace(head, signature=None, key_id=None)
    report = audit_log(log, heads=[unsigned], key=key.public)
    assert report.is_whole
    assert report.unproven == (f"the head of line {head.line} is not signed",)


def test_the_head_beside_the_log_shows_a_tail_that_was_lost_with_it_there(copy: Path) -> None:
    lines = (copy / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
    (copy / JOURNAL_NAME).write_bytes(b"".join(lines[:-1]))
    assert kinds(audit_log(copy)) == {ProblemKind.HEAD}


def test_a_log_in_use_is_whole(tmp_path: Path, key: DeviceKey) -> None:
    with Journal(tmp_path, key=key) as journal:
        for sequence in range(1, 20):
            journal.write(decision(sequence))
            assert audit_log(tmp_path, heads=[journal.head], key=key.public).is_whole


def test_a_log_that_is_written_and_rotated_all_the_while_is_whole(tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        with Journal(tmp_path, segment_bytes=8000) as journal:
            while not stop.is_set():
                journal.write(decision(journal.next_sequence))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not (tmp_path / JOURNAL_NAME).exists():
            time.sleep(0.001)
        reports = [audit_log(tmp_path)]
        while len(reports) < 10 or reports[-1].files < 5:
            reports.append(audit_log(tmp_path))
    finally:
        stop.set()
        writer.join(20.0)
    assert {report.problems for report in reports} == {()}


@pytest.mark.parametrize("content", [b"hello\n", b'{"schema":1}\n', b"\0" * 500])
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DatasetError, match="is no folder"):
        audit_log(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="holds no decision log"):
        audit_log(tmp_path)
    (tmp_path / JOURNAL_NAME).write_bytes(content)
    with pytest.raises(DatasetError, match="is no decision log of this version"):
        audit_log(tmp_path)


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).touch()
    report = audit_log(tmp_path)
    assert report.is_whole
    assert (report.lines, report.first_line, report.last_line) == (0, None, None)


def test_a_head_is_named_by_its_file_or_its_hash(
    tmp_path: Path, log: Path, head: HeadStatement
) -> None:
    assert heads_from(str(log / HEAD_NAME)) == [head]
    assert heads_from("a" * 64) == ["a" * 64]
    collected = tmp_path / "heads.jsonl"
    collected.write_bytes((log / HEAD_NAME).read_bytes() * 3)
    assert heads_from(str(collected)) == [head] * 3
    with pytest.raises(ConfigError, match="is no file that is there, and no hash"):
        heads_from("abc")
    collected.write_bytes(b"\n")
    with pytest.raises(StorageError, match="no head"):
        heads_from(str(collected))


def test_problems_are_an_error_with_its_own_exit_code(copy: Path) -> None:
    journal_files(copy)[1].unlink()
    report = audit_log(copy)
    with pytest.raises(AuditError, match="is not whole and unaltered") as caught:
        report.raise_for_problems()
    assert caught.value.exit_code == 4
    assert json.loads(json.dumps(report.to_dict()))["is_whole"] is False
