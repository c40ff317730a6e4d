"""Reading a journal while it is written, and copying it: each line once, whatever happens."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime.defects import Defect
from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord
from ssn_edge_runtime.sinks import (
    JOURNAL_NAME,
    CsvFollower,
    DivergedError,
    Journal,
    RetiredError,
    SqliteFollower,
    Tail,
    journal_files,
    tail_journal,
)
from ssn_edge_runtime.sinks.follow import FollowerProcess, follow
from ssn_edge_runtime.sinks.tail import read_line

MakeRecord = Callable[..., DecisionRecord]


def fill(output: Path, make_record: MakeRecord, count: int, **options: Any) -> None:
    options.setdefault("segment_bytes", 4000)
    with Journal(output, **options) as journal:
        for _ in range(count):
            journal.write(make_record(journal))


def numbers(output: Path) -> list[int]:
    return [
        json.loads(line)["line"]
        for path in journal_files(output)
        for line in path.read_bytes().splitlines()
    ]


def test_all_lines_of_all_segments_come_once_and_in_order(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 40)
    lines = list(tail_journal(output, follow=False))
    assert [line.line for line in lines] == numbers(output)
    assert len(journal_files(output)) > 4
    assert {line.kind for line in lines} == {"verdict", "event"}


def test_a_tail_begins_at_any_line(output: Path, make_record: MakeRecord) -> None:
    fill(output, make_record, 300, segment_bytes=100_000)
    last = numbers(output)[-1]
    for first in range(1, last + 2):
        found = [line.line for line in tail_journal(output, from_line=first, follow=False)]
        assert found == list(range(first, last + 1))
        line = read_line(output, first)
        assert (line.line if line else None) == (first if first <= last else None)


def test_a_tail_follows_the_writer_over_rotations(output: Path, make_record: MakeRecord) -> None:
    """Reader and writer at the same time; the reader is there before the folder is."""
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        seen.extend(each.line for each in tail_journal(output, stop=stop, poll_s=0.0005))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(4):
            fill(output, make_record, 100)
    finally:
        stop.set()
        reader.join(20.0)
    assert seen == numbers(output)


def test_tails_that_begin_while_segments_are_begun_find_their_line(
    output: Path, make_record: MakeRecord
) -> None:
    stop = threading.Event()

    def write() -> None:
        with Journal(output, segment_bytes=2000) as journal:
            while not stop.wait(0.0005):
                journal.write(make_record(journal))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        line, began = 0, 0
        while began < 200:
            with Tail(output, after_line=line) as reader:
                until = time.monotonic() + 20.0
                while not (lines := reader.read(limit=7)) and time.monotonic() < until:
                    time.sleep(0.0005)  # the writer may wait for the disk, between two segments
            assert [each.line for each in lines] == list(range(line + 1, line + 1 + len(lines)))
            assert lines
            line, began = lines[-1].line, began + 1
    finally:
        stop.set()
        writer.join(20.0)


def test_a_line_that_is_being_written_is_not_read_before_it_is_whole(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 2)
    whole = (output / JOURNAL_NAME).read_bytes()
    (output / JOURNAL_NAME).write_bytes(whole[:-1])
    with Tail(output) as reader:
        assert len(reader.read()) == 2
        assert reader.read() == []
        with (output / JOURNAL_NAME).open("ab") as file:
            file.write(b"\n")
        assert [line.line for line in reader.read()] == [3]


def test_lines_that_were_retired_before_they_were_read_are_an_error(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 40)
    journal_files(output)[0].unlink()
    with pytest.raises(RetiredError, match=r"lines 1 to \d+ were retired before they were read"):
        Tail(output).read()


def test_a_line_that_power_loss_took_back_is_noticed(output: Path, make_record: MakeRecord) -> None:
    fill(output, make_record, 5)
    last = list(tail_journal(output, follow=False))[-1]
    lines = (output / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
    (output / JOURNAL_NAME).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DivergedError, match="was read and is not there"):
        Tail(output, after_line=last.line, after_sha256=last.sha256).read()
    fill(output, make_record, 1)
    with pytest.raises(DivergedError, match="is not the one that was read"):
        Tail(output, after_line=last.line, after_sha256=last.sha256).read()


def test_a_file_that_is_no_journal_is_a_storage_error(output: Path) -> None:
    output.mkdir()
    (output / JOURNAL_NAME).write_bytes(b"hello\nworld\n")
    with pytest.raises(StorageError, match="see ssn-edge audit"):
        list(tail_journal(output, follow=False))


def test_no_file_is_left_open(output: Path, make_record: MakeRecord, tmp_path: Path) -> None:
    fill(output, make_record, 40)
    before = len(list(Path("/proc/self/fd").iterdir()))
    list(tail_journal(output, follow=False))
    for line in (1, 20, 99):
        read_line(output, line)
    copied(output, tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def copied(output: Path, folder: Path) -> Path:
    """The database, up to the journal's end; and a CSV file."""
    stop = threading.Event()
    stop.set()
    with (
        SqliteFollower(output, folder / "line.sqlite") as database,
        CsvFollower(output, folder / "line.csv") as table,
    ):
        follow([database, table], stop)
    return folder / "line.sqlite"


def ask(database: Path, question: str) -> list[Any]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def test_the_database_holds_decisions_defects_triggers_and_events(
    output: Path, tmp_path: Path, make_record: MakeRecord, make_trigger: Callable[..., Any]
) -> None:
    with Journal(output) as journal:
        journal.accept(make_trigger(journal, 9))
        record = make_record(journal, sequence=1)
        defects = (Defect((1, 2, 3, 4), 4.0, 0.75, 0.5), Defect((5, 6, 7, 8), 3.0, 0.5, 0.25))
        journal.write(replace(record, defects=defects, defect_count=2, part_id="p\udcff\n1"))
        journal.note(EventRecord.now(EventKind.CLOCK_STEP, {"seconds": 2}))
    database = copied(output, tmp_path)
    assert ask(database, "SELECT sequence, verdict, score, infer_ms, line FROM verdicts") == [
        (1, "pass", 0.25, 1.235, 2)
    ]
    assert ask(database, "SELECT number, x0, y1, area_px FROM defects") == [
        (0, 1, 4, 4.0),
        (1, 5, 8, 3.0),
    ]
    assert ask(database, "SELECT sequence, trigger_id, part_id FROM triggers") == [(1, 9, "part 9")]
    assert ask(database, "SELECT event, detail FROM events") == [
        ("clock_step", '{"seconds": 2}'),
        ("stop", "{}"),
    ]
    assert ask(database, "PRAGMA journal_mode") == [("wal",)]
    with (tmp_path / "line.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["sequence"], row["verdict"], row["part_id"]) == ("1", "pass", "p?\\n1")


def test_followers_go_on_from_where_they_were(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    for count in (3, 50, 1):
        fill(output, make_record, count)
        database = copied(output, tmp_path)
    assert ask(database, "SELECT count(*), max(sequence) FROM verdicts") == [(54, 54)]
    assert len((tmp_path / "line.csv").read_text().splitlines()) == 55


def test_followers_are_rebuilt_from_nothing(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 30)
    copied(output, tmp_path)
    (tmp_path / "again").mkdir()
    fill(output, make_record, 10)
    copied(output, tmp_path)
    copied(output, tmp_path / "again")
    for question in ("SELECT * FROM verdicts", "SELECT * FROM events", "SELECT * FROM position"):
        first, second = (
            ask(each / "line.sqlite", question) for each in (tmp_path, tmp_path / "again")
        )
        assert first == second
    assert (tmp_path / "line.csv").read_bytes() == (tmp_path / "again" / "line.csv").read_bytes()


def test_followers_take_back_what_power_loss_took_from_the_journal(
    output: Path, tmp_path: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    fill(output, make_record, 20, segment_bytes=10**9)
    copied(output, tmp_path)
    lines = (output / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
    (output / JOURNAL_NAME).write_bytes(b"".join(lines[:15]))
    fill(output, make_record, 30, segment_bytes=10**9)
    database = copied(output, tmp_path)
    wanted = [
        (line.line, line.sha256)
        for line in tail_journal(output, follow=False)
        if line.kind == "verdict"
    ]
    assert ask(database, "SELECT line, sha256 FROM verdicts ORDER BY line") == wanted
    rows = (tmp_path / "line.csv").read_text().splitlines()[1:]
    assert [tuple(row.split(",")[:2]) for row in rows] == [(str(n), h) for n, h in wanted]
    assert "the database goes back to line 15" in caplog.text


def test_followers_keep_what_was_retired_from_the_journal(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 30)
    copied(output, tmp_path)
    for path in journal_files(output)[:3]:
        path.unlink()
    fill(output, make_record, 5)
    assert ask(copied(output, tmp_path), "SELECT count(*) FROM verdicts") == [(35,)]


def test_a_database_of_another_journal_or_kind_is_left_alone(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 5)
    copied(output, tmp_path)
    (tmp_path / "other").mkdir()
    with Journal(tmp_path / "new") as journal:
        journal.write(make_record(journal, "another"))
    with pytest.raises(StorageError, match="is of another journal"):
        copied(tmp_path / "new", tmp_path)
    assert ask(tmp_path / "line.sqlite", "SELECT count(*) FROM verdicts") == [(5,)]
    other = sqlite3.connect(tmp_path / "theirs.sqlite")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(StorageError, match="another kind or version"):
        SqliteFollower(output, tmp_path / "theirs.sqlite").open()
    (tmp_path / "their.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StorageError, match="has other columns"):
        CsvFollower(output, tmp_path / "their.csv").open()
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(StorageError, match="is another file"):
        CsvFollower(output, tmp_path / "text.txt").open()
    (tmp_path / "noise").write_bytes(os.urandom(5000))
    with pytest.raises(StorageError, match="cannot be used as a database"):
        SqliteFollower(output, tmp_path / "noise").open()


def make_older(database: Path, schema: int) -> None:
    """Turn a database into one as it was before it had some columns."""
    lacking = {1: ("recipe", "zone", "brightness"), 2: ("zone", "brightness")}[schema]
    with sqlite3.connect(database) as older:
        for name in lacking:
            older.execute(f"ALTER TABLE verdicts DROP COLUMN {name}")
        older.execute(f"PRAGMA user_version = {schema}")
    older.close()


def test_recipe_zone_and_brightness_of_each_part_are_copied(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    parts = [("blue", "weld", 12.5), (None, None, None), ("red", None, 99.0)]
    with Journal(output) as journal:
        for recipe, zone, light in parts:
            record = replace(make_record(journal), recipe=recipe, zone=zone, brightness=light)
            journal.write(record)
    database = copied(output, tmp_path)
    assert ask(database, "SELECT recipe, zone, brightness FROM verdicts") == parts
    with (tmp_path / "line.csv").open() as file:
        assert [
            (row["recipe"], row["zone"], row["brightness"]) for row in csv.DictReader(file)
        ] == [("blue", "weld", "12.5"), ("", "", ""), ("red", "", "99.0")]


def test_lines_of_before_there_were_zones_are_copied(
    output: Path, tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_now = DecisionRecord.to_dict

    def as_before(record: DecisionRecord) -> dict[str, object]:
        return {k: v for k, v in as_now(record).items() if k not in ("zone", "brightness")}

    monkeypatch.setattr(DecisionRecord, "to_dict", as_before)
    fill(output, make_record, 3)
    database = copied(output, tmp_path)
    assert ask(database, "SELECT zone, brightness FROM verdicts") == [(None, None)] * 3
    with (tmp_path / "line.csv").open() as file:
        assert [row["zone"] for row in csv.DictReader(file)] == [""] * 3


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize("is_retired", [False, True])
def test_an_older_database_gets_the_columns_it_lacks_from_what_the_journal_still_knows(
    output: Path, tmp_path: Path, make_record: MakeRecord, is_retired: bool, schema: int
) -> None:
    def fill_with_recipes() -> None:
        with Journal(output, segment_bytes=4000) as journal:
            for number in range(20):
                text = f"of {number}"
                journal.write(
                    replace(make_record(journal), recipe=text, zone=text, brightness=number + 0.5)
                )

    fill_with_recipes()
    database = copied(output, tmp_path)
    make_older(database, schema)
    gone = 0
    if is_retired:
        first = journal_files(output)[0]
        gone = sum(b'"kind":"verdict"' in line for line in first.read_bytes().splitlines())
        first.unlink()
    fill_with_recipes()  # not copied yet
    assert copied(output, tmp_path) == database
    found = ask(database, "SELECT recipe, zone, brightness FROM verdicts ORDER BY sequence")
    wanted = [(f"of {n}", f"of {n}", n + 0.5) for n in [*range(20), *range(20)]]
    assert found[gone:] == wanted[gone:]
    lost = [(None if schema == 1 else recipe, None, None) for recipe, _, _ in wanted[:gone]]
    assert found[:gone] == lost
    assert bool(gone) == is_retired
    assert ask(database, "PRAGMA user_version") == [(3,)]


def test_a_database_that_is_locked_is_an_error_and_loses_nothing(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 5)
    with SqliteFollower(output, tmp_path / "line.sqlite") as follower:
        assert follower._database is not None
        follower._database.execute("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(tmp_path / "line.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="cannot be written"):
            follower.step()
        other.execute("ROLLBACK")
        other.close()
        assert follower.step() == 6
    assert ask(tmp_path / "line.sqlite", "SELECT count(*) FROM verdicts") == [(5,)]


def test_a_torn_row_is_written_again(output: Path, tmp_path: Path, make_record: MakeRecord) -> None:
    fill(output, make_record, 5)
    copied(output, tmp_path)
    table = tmp_path / "line.csv"
    whole = table.read_bytes()
    for length in range(0, len(whole), 37):
        table.write_bytes(whole[:length])
        copied(output, tmp_path)
        assert table.read_bytes() == whole


def test_followers_run_in_a_process_beside_the_line_and_end_with_it(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    with FollowerProcess(output, sqlite=tmp_path / "a.sqlite", csv=tmp_path / "a.csv"):
        fill(output, make_record, 60)
    assert ask(tmp_path / "a.sqlite", "SELECT count(*) FROM verdicts") == [(60,)]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 61


def test_a_follower_that_fails_is_told_when_the_line_ends(
    output: Path, tmp_path: Path, make_record: MakeRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("mine\n")
    followers = FollowerProcess(output, csv=tmp_path / "a.csv")
    followers.open()
    fill(output, make_record, 3)
    with pytest.raises(StorageError, match="ended with code 5; the journal has everything"):
        followers.close()
    assert "error: " in capfd.readouterr().err
    followers.close()


def follow_once(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssn_edge_runtime.sinks.follow", str(output), *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_journal_can_be_followed_on_standard_output(
    output: Path, make_record: MakeRecord
) -> None:
    fill(output, make_record, 20)
    answer = follow_once(output, "--stdout", "--from-line", "5", "--once")
    assert answer.returncode == 0
    assert [json.loads(line)["line"] for line in answer.stdout.splitlines()] == numbers(output)[4:]
    assert follow_once(output).returncode == 2


def test_copying_begins_before_there_is_a_journal(output: Path, tmp_path: Path) -> None:
    database = copied(output, tmp_path)
    assert ask(database, "SELECT line FROM position") == [(0,)]


def test_a_row_names_when_it_was_decided(
    output: Path, tmp_path: Path, make_record: MakeRecord
) -> None:
    moment = datetime(2026, 11, 28, 4, 5, 6, tzinfo=timezone.utc)
    with Journal(output) as journal:
        journal.write(replace(make_record(journal), decided_at=moment, deadline_met=False))
    database = copied(output, tmp_path)
    found = ask(database, "SELECT decided_at, deadline_met FROM verdicts")
    assert found == [("2026-11-28T04:05:06.000000Z", 0)]
