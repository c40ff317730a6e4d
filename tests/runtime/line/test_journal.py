from __future__ import annotations

import errno
import json
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import (
    FIRST_PREVIOUS,
    DecisionRecord,
    EventKind,
    EventRecord,
    TriggerRecord,
)
from ssn_edge_runtime.sinks import (
    HEAD_NAME,
    Journal,
    ProblemKind,
    audit_log,
    line_sha256,
    verify_chain,
)

MakeRecord = Callable[..., DecisionRecord]
MakeTrigger = Callable[..., TriggerRecord]
Records = Callable[[Path], list[dict[str, Any]]]


def fill(output: Path, make_record: MakeRecord, count: int) -> Path:
    with Journal(output) as journal:
        for _ in range(count):
            journal.write(make_record(journal))
        return journal.path


def test_records_are_numbered_and_chained_from_one(
    output: Path, make_record: MakeRecord, records: Records
) -> None:
    path = fill(output, make_record, 3)
    lines = path.read_bytes().splitlines()
    assert [record["sequence"] for record in records(output)] == [1, 2, 3]
    assert records(output)[0]["previous"] == FIRST_PREVIOUS
    assert records(output)[2]["previous"] == line_sha256(lines[1])
    report = verify_chain(path)
    assert report.is_whole
    assert (report.records, report.first_sequence, report.last_sequence) == (3, 1, 3)


def test_a_journal_that_is_opened_again_continues_its_chain(
    output: Path, make_record: MakeRecord
) -> None:
    for count in (1, 2, 40):
        path = fill(output, make_record, count)
    report = verify_chain(path)
    assert report.is_whole
    assert report.last_sequence == 43


def test_a_record_that_does_not_continue_the_chain_is_refused(
    output: Path, make_record: MakeRecord
) -> None:
    with Journal(output) as journal:
        record = make_record(journal)
        journal.write(record)
        with pytest.raises(ValueError, match="does not continue the journal"):
            journal.write(record)
        journal.write(make_record(journal))
    assert verify_chain(journal.path).is_whole


def kill(journal: Journal) -> None:
    """What SIGKILL leaves: the file as it is, and nobody who holds it."""
    assert journal._sync is not None
    with suppress(OSError):
        journal._sync.stop()
    os.close(journal._lock_fd)
    journal._file = journal._sync = None


def test_a_trigger_is_owed_a_decision_until_it_has_one(
    output: Path, make_record: MakeRecord, make_trigger: MakeTrigger
) -> None:
    with Journal(output) as journal:
        first = make_trigger(journal, 11)
        journal.accept(first)
        second = make_trigger(journal, 12)
        journal.accept(second)
        assert journal.next_sequence == 3
        assert journal.open_triggers == (first, second)
        journal.write(make_record(journal, sequence=2))
        assert journal.open_triggers == (first,)
        with pytest.raises(ValueError, match="sequence 2 was decided already"):
            journal.write(make_record(journal, sequence=2))
        with pytest.raises(ValueError, match="3 is next"):
            journal.write(make_record(journal, sequence=4))
        with pytest.raises(ValueError, match="3 is next"):
            journal.accept(first)
        journal.write(make_record(journal))
        journal.write(make_record(journal, sequence=1))
        assert journal.open_triggers == ()
        assert journal.next_sequence == 4
    assert verify_chain(journal.path).is_whole


def test_triggers_of_a_run_that_was_cut_short_are_open_in_the_next(
    output: Path, make_record: MakeRecord, make_trigger: MakeTrigger
) -> None:
    journal = Journal(output, checkpoint_every=4)
    journal.open()
    triggers = []
    for number in range(1, 21):
        triggers.append(make_trigger(journal, number))
        journal.accept(triggers[-1])
        if number % 5:
            journal.write(make_record(journal, sequence=number))
    kill(journal)
    with Journal(output) as journal:
        assert journal.open_triggers == tuple(triggers[4::5])
        assert journal.next_sequence == 21
        for trigger in journal.open_triggers:
            journal.write(make_record(journal, sequence=trigger.sequence))
    assert verify_chain(journal.path).is_whole


def test_who_is_no_line_leaves_open_triggers_open_and_notes_no_end_over_them(
    output: Path, make_record: MakeRecord, make_trigger: MakeTrigger
) -> None:
    journal = Journal(output)
    journal.open()
    trigger = make_trigger(journal, 1)
    journal.accept(trigger)
    kill(journal)
    for number in range(2):
        with Journal(output, is_line=False) as visited:
            assert visited.open_triggers == (trigger,)
            visited.note(EventRecord.now(EventKind.USER_ACTION, {"number": number}))
        assert audit_log(output).is_whole
    with Journal(output) as journal:
        assert journal.open_triggers == (trigger,)
        journal.write(make_record(journal, sequence=1))
    with Journal(output, is_line=False) as visited:
        visited.note(EventRecord.now(EventKind.USER_ACTION, {"number": 3}))
    assert audit_log(output).is_whole
    events = [json.loads(line).get("event") for line in journal.path.read_bytes().splitlines()]
    assert [each for each in events if each] == [
        *("restart", "user_action"),
        *("restart", "user_action"),
        *("restart", "stop"),
        *("user_action", "stop"),
    ]


def test_only_a_run_that_was_cut_short_is_followed_by_a_restart(
    output: Path, make_record: MakeRecord, events: Callable[[Path], list[str]]
) -> None:
    fill(output, make_record, 1)
    fill(output, make_record, 0)
    fill(output, make_record, 1)
    assert events(output) == ["stop", "stop"]
    journal = Journal(output)
    journal.open()
    journal.note(EventRecord.now(EventKind.START, {"why": "test"}))
    kill(journal)
    with Journal(output) as journal:
        journal.note(EventRecord.now(EventKind.STOP, {"why": "told to"}))
    assert events(output) == ["stop", "stop", "start", "restart", "stop"]
    with Journal(output):
        pass
    assert len(events(output)) == 5
    assert verify_chain(journal.path).is_whole


def test_a_new_journal_that_took_nothing_is_empty(output: Path) -> None:
    with Journal(output) as journal:
        pass
    assert journal.path.read_bytes() == b""


def test_opening_reads_back_to_the_last_checkpoint_only(
    output: Path, make_record: MakeRecord
) -> None:
    with Journal(output, checkpoint_every=50) as journal:
        for _ in range(500):
            journal.write(make_record(journal, detail="x" * 2000))
    # Were the old lines looked at, this would be damage.
    with journal.path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"~" * 1000)
    with Journal(output) as journal:
        assert journal.next_sequence == 501
        assert journal._ledger.verdicts == {"pass": 500, "fail": 0, "unknown": 0}
        assert journal._since_checkpoint <= 50


def test_many_short_runs_do_not_put_off_the_checkpoint(
    output: Path, make_record: MakeRecord, events: Callable[[Path], list[str]]
) -> None:
    for _ in range(30):
        with Journal(output, checkpoint_every=10) as journal:
            journal.write(make_record(journal))
    assert events(output).count("checkpoint") >= 5
    assert verify_chain(journal.path).is_whole


def test_a_journal_of_an_older_schema_is_not_continued(output: Path) -> None:
    output.mkdir()
    (output / "decisions.jsonl").write_bytes(
        b'{"previous":"' + b"0" * 64 + b'","schema":1,"sequence":1}\n'
    )
    with pytest.raises(
        StorageError, match=r"is of schema 1, .* move the files of this journal away"
    ):
        Journal(output).open()


def test_two_runs_cannot_write_one_chain(output: Path, make_record: MakeRecord) -> None:
    with Journal(output) as journal:
        with pytest.raises(StorageError, match="another run is writing it") as caught:
            Journal(output).open()
        assert caught.value.exit_code == 5
        journal.write(make_record(journal))
    with Journal(output) as journal:
        assert journal.next_sequence == 2


def test_a_last_line_torn_at_any_byte_is_set_aside_and_the_restart_names_it(
    output: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    path = fill(output, make_record, 3)
    *lines, _stop = path.read_bytes().splitlines(keepends=True)
    torn = lines.pop()
    for number, cut in enumerate([1, 100, len(torn) - 1], start=1):
        path.write_bytes(b"".join(lines) + torn[:cut])
        (output / HEAD_NAME).unlink()
        assert [p.kind for p in verify_chain(path).problems] == [ProblemKind.TORN]
        caplog.clear()
        with Journal(output) as journal:
            assert journal.next_sequence == 3
            journal.write(make_record(journal))
        name = f"decisions.torn-{number}"
        assert (output / name).read_bytes() == torn[:cut]
        assert name in caplog.text
        assert verify_chain(path).is_whole
        restart = json.loads(path.read_bytes().splitlines()[2])
        assert restart["event"] == "restart"
        assert restart["detail"] == {
            "open_triggers": 0,
            "set_aside": name,
            "set_aside_bytes": cut,
            "set_aside_sha256": line_sha256(torn[:cut]),
            "published_line": None,
        }


def test_pages_that_were_never_written_are_torn_with_all_that_comes_after_them(
    output: Path, make_record: MakeRecord
) -> None:
    path = fill(output, make_record, 6)
    lines = path.read_bytes().splitlines(keepends=True)
    hole = bytes(len(lines[3]) + 40)
    path.write_bytes(b"".join(lines[:3]) + hole + b"".join(lines[4:])[40:])
    with Journal(output) as journal:
        assert journal.next_sequence == 4
    assert verify_chain(path).is_whole
    assert path.read_bytes().startswith(b"".join(lines[:3]))


def test_a_journal_that_was_torn_in_its_first_line_begins_anew(
    output: Path, make_record: MakeRecord
) -> None:
    path = fill(output, make_record, 1)
    path.write_bytes(path.read_bytes()[:40] + bytes(5000))
    fill(output, make_record, 2)
    assert verify_chain(path).is_whole
    assert (output / "decisions.torn-1").stat().st_size == 5040


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:-1], b"{not a record"],
        lambda lines: [*lines[:-1], b"[1, 2]"],
        lambda lines: [*lines[:-1], lines[-1].replace(b'"line":', b'"line": ')],
        lambda lines: [*lines[:-2], lines[-1]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:-2], b"", lines[-1]],
        lambda lines: [lines[-1]],
    ],
    ids=["no JSON", "no record", "not canonical", "missing", "doubled", "emptied", "beheaded"],
)
def test_a_damaged_end_is_not_continued(
    output: Path, make_record: MakeRecord, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = fill(output, make_record, 4)
    damaged = b"\n".join(damage(path.read_bytes().splitlines())) + b"\n"
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match="its end is damaged"):
        Journal(output).open()
    assert path.read_bytes() == damaged


def test_long_lines_are_found_from_the_end(output: Path, make_record: MakeRecord) -> None:
    with Journal(output) as journal:
        for size in (10, 300_000, 200_000, 20):
            journal.write(make_record(journal, detail="x" * size))
    with Journal(output) as journal:
        assert journal.next_sequence == 5


def test_a_line_that_the_disk_took_in_part_is_taken_back_and_stops_the_journal(
    output: Path, make_record: MakeRecord
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(output) as journal:
        journal.write(make_record(journal))
        size = journal.path.stat().st_size
        record = make_record(journal)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
        try:
            with pytest.raises(StorageError, match="can no longer be written"):
                journal.write(record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with pytest.raises(StorageError, match="can no longer be written"):
            journal.write(record)
    assert journal.path.stat().st_size == size
    assert verify_chain(journal.path).is_whole


def test_a_failed_sync_stops_the_journal(output: Path, make_record: MakeRecord) -> None:
    journal = Journal(output, sync_interval_s=0.01)
    journal.open()
    try:
        # What the thread sees when the disk goes away under an open file: a file it cannot sync.
        readable, writable = os.pipe()
        assert journal._file is not None
        os.dup2(writable, journal._file.fd)
        journal.write(make_record(journal))
        for _ in range(200):
            if journal._sync is not None and journal._sync.failure is not None:
                break
            time.sleep(0.01)
        with pytest.raises(StorageError, match="cannot be synced"):
            journal.write(make_record(journal))
    finally:
        journal.close()
        os.close(readable)
        os.close(writable)


def test_a_durable_journal_has_synced_each_line_when_the_call_returns(
    output: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noting(fd: int) -> None:
        fsync(fd)
        synced.append(os.fstat(fd).st_size)

    with Journal(output, durable=True, sync_interval_s=60.0, lag_limit_s=61.0) as journal:
        monkeypatch.setattr("os.fsync", noting)
        for _ in range(5):
            journal.write(make_record(journal))
            assert synced[-1] == journal.path.stat().st_size
        assert journal.lag_s == 0.0
    assert verify_chain(journal.path).is_whole


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be opened"):
        Journal(tmp_path / "file" / "decisions").open()


def test_a_closed_journal_takes_nothing(output: Path, make_record: MakeRecord) -> None:
    journal = Journal(output)
    with pytest.raises(StorageError, match="not open"):
        journal.write(make_record(journal))


def test_a_sync_that_failed_after_the_last_write_is_told_on_closing(
    output: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    failed = threading.Event()
    journal = Journal(output, sync_interval_s=0.01)
    journal.open()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fails)
        journal.write(make_record(journal))
        assert failed.wait(10.0)
    with pytest.raises(StorageError, match="the last decisions may be lost"):
        journal.close()
    journal.close()


@pytest.mark.parametrize("what", ["deleted", "emptied", "written to"])
def test_a_journal_that_is_deleted_or_changed_under_the_run_takes_no_more_records(
    output: Path, make_record: MakeRecord, what: str
) -> None:
    with Journal(output) as journal:
        journal.write(make_record(journal))
        if what == "deleted":
            journal.path.unlink()
        elif what == "emptied":
            os.truncate(journal.path, 0)
        else:
            with journal.path.open("ab") as other:
                other.write(b"a note\n")
        for _ in range(2):
            with pytest.raises(StorageError, match="while this run wrote it"):
                journal.write(make_record(journal))
    if what == "written to":
        assert journal.path.read_bytes().endswith(b"a note\n")


def test_a_write_that_was_interrupted_once_it_was_done_is_not_done_again(
    output: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        write(fd, data)
        raise KeyboardInterrupt

    with Journal(output) as journal:
        with monkeypatch.context() as patched:
            patched.setattr("os.write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.write(make_record(journal))
        with pytest.raises(StorageError, match="while this run wrote it"):
            journal.write(make_record(journal))
    fill(output, make_record, 1)
    report = verify_chain(output / "decisions.jsonl")
    assert report.is_whole
    assert report.records == 2


def test_a_sync_interval_of_zero_is_refused(output: Path) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        Journal(output, sync_interval_s=0.0)
