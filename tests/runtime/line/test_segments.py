"""A journal of several files, and every way in which beginning a new one can be cut short."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns, sleep
from typing import Any

import pytest

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import DecisionRecord, boot_id
from ssn_edge_runtime.sinks import JOURNAL_NAME, Journal, journal_files
from ssn_edge_runtime.sinks.chain import ChainCheck

MakeRecord = Callable[..., DecisionRecord]


def fill(
    output: Path, make_record: MakeRecord, count: int, detail: str = "", **options: Any
) -> None:
    options.setdefault("segment_bytes", 4000)
    with Journal(output, **options) as journal:
        for _ in range(count):
            record = make_record(journal, detail)
            journal.write(replace(record, monotonic_ns=monotonic_ns(), boot_id=boot_id()))


def lines(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in journal_files(output):
        found += map(json.loads, path.read_bytes().splitlines())
    return found


def assert_whole(output: Path) -> ChainCheck:
    check = ChainCheck()
    for path in journal_files(output):
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                check.take(raw, number, path.name)
    assert check.problems == []
    return check


def test_a_segment_that_is_full_is_renamed_after_its_first_line(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 30)
    *closed, active = journal_files(output)
    assert len(closed) > 3
    assert active.name == JOURNAL_NAME
    for path in closed:
        first = json.loads(path.read_bytes().split(b"\n")[0])
        assert path.name == f"decisions-{first['line']:012d}.jsonl"
    assert assert_whole(output).records == 30


def test_a_segment_begins_with_a_checkpoint_that_says_what_came_before(
    output: Path, make_record: MakeRecord, make_trigger: Callable[..., Any]
) -> None:
    with Journal(output, segment_bytes=3000) as journal:
        trigger = make_trigger(journal, 5)
        journal.accept(trigger)
        while len(journal_files(output)) < 3:
            journal.write(make_record(journal))
        head = journal.open_triggers
    first = json.loads(journal.path.read_bytes().split(b"\n")[0])
    assert head == (trigger,)
    assert (first["event"], first["detail"]["open_triggers"]) == ("checkpoint", [trigger.to_dict()])
    before = [each for each in lines(output) if each["line"] < first["line"]]
    assert sum(first["detail"]["verdicts"].values()) == sum(e["kind"] == "verdict" for e in before)
    assert first["detail"]["anchor"]["line"] == first["line"] - 1
    assert first["detail"]["anchor"]["sha256"] == first["previous"]


def test_open_triggers_are_found_from_the_segment_in_use_alone(
    output: Path, make_record: MakeRecord, make_trigger: Callable[..., Any]
) -> None:
    with Journal(output, segment_bytes=3000) as journal:
        trigger = make_trigger(journal, 5)
        journal.accept(trigger)
        for _ in range(40):
            journal.write(make_record(journal))
    for path in journal_files(output)[:-2]:  # all that opening does not look at
        path.unlink()
    with Journal(output) as journal:
        assert journal.open_triggers == (trigger,)
        assert journal.next_sequence == 42


def test_an_old_segment_is_closed_by_its_age(output: Path, make_record: MakeRecord) -> None:
    with Journal(output, segment_age_s=0.02) as journal:
        for _ in range(3):
            journal.write(make_record(journal))
            sleep(0.03)
    assert len(journal_files(output)) == 4
    assert_whole(output)


def interrupted_rotation(output: Path, make_record: MakeRecord) -> Path:
    """A journal of two segments as it is just after the rename; returns the renamed file."""
    fill(output, make_record, 20, segment_bytes=10**9)
    os.truncate(output / JOURNAL_NAME, (output / JOURNAL_NAME).stat().st_size - 1)  # torn stop
    (output / "decisions.head.json").unlink()
    (output / JOURNAL_NAME).rename(output / "decisions-000000000001.jsonl")
    return output / "decisions-000000000001.jsonl"


@pytest.mark.parametrize("new", [None, b"", b'{"at":"20'], ids=["absent", "empty", "torn"])
def test_a_rotation_that_was_cut_short_is_taken_back(
    output: Path, make_record: MakeRecord, new: bytes | None
) -> None:
    interrupted_rotation(output, make_record)
    if new is not None:
        (output / JOURNAL_NAME).write_bytes(new)
    fill(output, make_record, 3, segment_bytes=10**9)
    assert journal_files(output) == [output / JOURNAL_NAME]
    check = assert_whole(output)
    assert (check.records, check.last_sequence) == (23, 23)


def test_a_tail_that_power_loss_took_from_under_the_next_segment_takes_that_one_with_it(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 30, segment_bytes=15_000)
    before, active = journal_files(output)
    content = active.read_bytes().splitlines(keepends=True)
    active.write_bytes(b"".join(content[:-1]))  # no stop: the run was cut short
    (output / "decisions.head.json").unlink()
    whole = before.read_bytes().splitlines(keepends=True)
    before.write_bytes(b"".join(whole[:-2]) + bytes(len(whole[-2])) + whole[-1])
    with Journal(output, segment_bytes=10**9) as journal:
        assert journal.next_sequence == len(whole) - 2 + 1
        journal.write(make_record(journal))
    assert journal_files(output) == [active]
    assert_whole(output)
    restart = next(each for each in lines(output) if each.get("event") == "restart")
    assert restart["detail"]["set_aside"] == "decisions.torn-1, decisions.torn-2"
    assert (output / "decisions.torn-1").read_bytes() == b"".join(content[:-1])


def test_several_segments_since_the_last_sync_are_taken_back_together(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 40, segment_bytes=3000)
    (output / "decisions.head.json").unlink()
    files = journal_files(output)
    assert len(files) > 8
    whole = files[3].read_bytes()
    files[3].write_bytes(whole[:-10])
    files[5].write_bytes(b"")
    files[-1].unlink()
    with Journal(output, segment_bytes=10**9) as journal:
        last = json.loads(whole.splitlines()[-2])
        assert journal.line == last["line"] + 1  # its restart
        journal.write(make_record(journal))
    assert journal_files(output) == [*files[:3], output / JOURNAL_NAME]
    assert_whole(output)


@pytest.mark.parametrize("what", ["cut", "another"])
def test_a_segment_whose_tail_is_gone_for_another_reason_is_not_gone_on_from(
    output: Path, make_record: MakeRecord, what: str, tmp_path: Path
) -> None:
    fill(output, make_record, 30, segment_bytes=15_000)
    before = journal_files(output)[0]
    if what == "cut":
        before.write_bytes(b"".join(before.read_bytes().splitlines(keepends=True)[:-1]))
    else:
        fill(tmp_path / "other", make_record, 30, "other", segment_bytes=15_000)
        shutil.copy(journal_files(tmp_path / "other")[0], before)
    files = {path: path.read_bytes() for path in journal_files(output)}
    with pytest.raises(StorageError, match=r"its end is damaged .*keep them"):
        Journal(output).open()
    assert {path: path.read_bytes() for path in journal_files(output)} == files


def test_a_folder_in_which_no_segment_can_be_begun_stops_the_journal(
    output: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(path: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuses)
    with Journal(output, segment_bytes=100) as journal:
        journal.write(make_record(journal))
        with pytest.raises(StorageError, match="Read-only file system"):
            journal.write(make_record(journal))
        with pytest.raises(StorageError, match="Read-only file system"):
            journal.check()
    assert assert_whole(output).records == 1


def test_a_disk_that_does_not_sync_holds_up_new_segments_but_no_line(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 300, segment_bytes=500, sync_interval_s=60.0, lag_limit_s=61.0)
    assert len(journal_files(output)) == 65
    assert assert_whole(output).records == 300


def test_no_file_is_left_open(output: Path, make_record: MakeRecord) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    fill(output, make_record, 60, segment_bytes=2000, sync_interval_s=0.001)
    fill(output, make_record, 60, segment_bytes=2000, durable=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert_whole(output)


def test_segments_of_nothing_are_refused(output: Path) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        Journal(output, segment_bytes=0)
