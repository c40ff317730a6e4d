"""What the journal says before, and when, the disk gives up."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.loop import Judge, run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import Journal, verify_chain

MakeRecord = Callable[..., DecisionRecord]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill_up(journal: Journal, make_record: MakeRecord, *, careful: bool) -> None:
    while True:
        if careful:
            journal.check()
            sleep(0.001)
        journal.write(make_record(journal, detail="x" * 500))


def check_for_ever(journal: Journal) -> None:
    while True:
        journal.check()


def test_a_disk_that_fills_is_told_before_it_is_full_and_loses_nothing_when_it_is(
    small_disk: Path, make_record: MakeRecord
) -> None:
    output = small_disk / "decisions"
    with Journal(output, sync_interval_s=0.005, reserve_bytes=300_000) as journal:
        with pytest.raises(StorageError, match=r"only 0 MiB .* make room"):
            fill_up(journal, make_record, careful=True)
        assert 0 < journal.free_bytes < 300_000
        journal.write(make_record(journal))  # there is still room to say why
        with pytest.raises(StorageError, match=r"No space left|disk is full"):
            fill_up(journal, make_record, careful=False)
        written = journal.next_sequence - 1
        with pytest.raises(StorageError, match=r"No space left|disk is full"):
            journal.check()
    report = verify_chain(journal.path)
    assert report.is_whole
    assert report.last_sequence == written
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    with Journal(output, reserve_bytes=0) as journal:
        assert journal.next_sequence == written + 1
        journal.check()


def test_a_line_on_a_disk_that_fills_ends_with_an_unknown_for_the_part_in_hand(
    small_disk: Path,
    judge: Judge,
    surfaces: Callable[[int], list[ByteImage]],
    scripted: Any,
    records: Callable[[Path], list[dict[str, Any]]],
) -> None:
    output = small_disk / "decisions"
    told: list[str] = []
    with (
        scripted(surfaces(2000), is_live=False) as source,
        Journal(output, sync_interval_s=0.002, reserve_bytes=500_000) as journal,
        pytest.raises(StorageError, match="make room"),
    ):
        run_line(
            source,
            judge,
            journal,
            on_decision=lambda record, decision: told.append(f"{decision.reason}"),
        )
    found = records(output)
    assert [each["reason"] for each in found] == told
    assert set(told[:-1]) == {"none", "defect"}
    assert told[-1] == "storage_error"
    assert found[-1]["verdict"] == "unknown"
    assert verify_chain(output / "decisions.jsonl").is_whole


def test_a_disk_that_does_not_sync_is_told_and_so_is_its_recovery(
    output: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    began = threading.Event()
    fsync = os.fsync

    def slow(fd: int) -> None:
        began.set()
        assert let_go.wait(20.0)
        fsync(fd)

    with Journal(output, sync_interval_s=0.01, lag_limit_s=0.1) as journal:
        journal.check()
        monkeypatch.setattr("os.fsync", slow)
        journal.write(make_record(journal))
        assert began.wait(20.0)
        try:
            while journal.lag_s <= 0.1:
                let_go.wait(0.01)
            with pytest.raises(StorageError, match="the disk is too slow"):
                journal.check()
            journal.write(make_record(journal))  # appending does not wait for the disk
        finally:
            let_go.set()
        while journal.lag_s:
            sleep(0.005)
        journal.check()


def test_a_failed_sync_is_told_by_check(
    output: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fails(fd: int) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    with Journal(output, sync_interval_s=0.005) as journal:
        monkeypatch.setattr("os.fsync", fails)
        journal.write(make_record(journal))
        assert failed.wait(20.0)
        with pytest.raises(StorageError, match="cannot be synced"):
            check_for_ever(journal)


def test_a_closed_journal_says_so_when_it_is_checked(output: Path) -> None:
    journal = Journal(output)
    with pytest.raises(StorageError, match="not open"):
        journal.check()
    assert (journal.lag_s, journal.free_bytes) == (0.0, 0)


@pytest.mark.parametrize("options", [{"lag_limit_s": 0.1}, {"reserve_bytes": -1}])
def test_limits_that_cannot_be_kept_are_refused(output: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the lag must be above the interval"):
        Journal(output, **options)
