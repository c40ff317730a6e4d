"""What a line writes, as the kernel counts it, and what it leaves out to write no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import EvidenceKeeper, EvidencePolicy, Journal
from ssn_edge_runtime.sinks import write_budget as module
from ssn_edge_runtime.sinks.write_budget import DAY_S, WriteBudget, written_bytes
from ssn_edge_runtime.sources import Frame

HOUR_S = 3600.0


class Flash:
    """Time and what was written, as a test wants them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.written = 0

    def budget(self, bytes_a_day: int) -> WriteBudget:
        return WriteBudget(bytes_a_day, measure=lambda: self.written, clock=lambda: self.now_s)


def test_a_budget_is_spent_by_what_was_written_and_earned_by_time() -> None:
    flash = Flash()
    budget = flash.budget(24_000)  # 1000 an hour
    assert not budget.is_spent()
    flash.written, flash.now_s = 1500, 2.0
    assert budget.is_spent()
    flash.now_s = 0.45 * HOUR_S
    assert budget.is_spent()
    flash.now_s = 0.55 * HOUR_S
    assert not budget.is_spent()


def test_no_day_writes_more_than_the_budget_and_an_hour_of_it() -> None:
    flash = Flash()
    budget = flash.budget(24_000)
    flash.now_s = 10 * DAY_S  # a long rest saves up an hour alone
    begun_s, begun = flash.now_s, flash.written
    while flash.now_s < begun_s + DAY_S:
        flash.now_s += 60.0
        if not budget.is_spent():
            flash.written += 100
    assert 24_000 <= flash.written - begun <= 25_100


def test_what_was_written_more_than_a_day_ago_is_forgiven() -> None:
    flash = Flash()
    budget = flash.budget(24_000)
    flash.written, flash.now_s = 10**9, 2.0
    assert budget.is_spent()
    flash.now_s = DAY_S + 10.0
    assert not budget.is_spent()


def is_counted(folder: Path) -> bool:
    """Whether this folder's file system is on a disk."""
    before = written_bytes()
    with (folder / "probe").open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())
    return written_bytes() - before >= 100_000


def test_the_kernel_counts_what_children_write_while_they_live_and_after(tmp_path: Path) -> None:
    if not is_counted(tmp_path):
        pytest.skip("the test's folder is not on a disk")
    before = written_bytes()
    code = (
        "import os, sys; file = open(sys.argv[1], 'wb'); file.write(bytes(3_000_000)); "
        "file.flush(); os.fsync(file.fileno()); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "big")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while_alive = written_bytes() - before
        assert child.stdin is not None
        child.stdin.close()
    after = written_bytes() - before
    assert 3_000_000 <= while_alive <= after < 6_000_000


def test_evidence_is_left_out_with_a_count_while_the_budget_is_spent(
    output: Path,
    make_record: Callable[[Journal], DecisionRecord],
    surface: Callable[..., ByteImage],
) -> None:
    flash = Flash()
    policy = EvidencePolicy(10**9, reserve_bytes=0)
    failed = replace(make_record(Journal(output)), verdict=Verdict.FAIL)
    with EvidenceKeeper(output, policy, depth=20, budget=flash.budget(24_000)) as keeper:
        for sequence in range(1, 11):
            flash.now_s += 10.0
            flash.written += 300 if sequence < 7 else 0
            frame = Frame.taken_now(surface(sequence), source="test", index=0)
            keeper.write(
                replace(failed, sequence=sequence),
                frame,
                Decision(Verdict.FAIL, Reason.DEFECT),
            )
    assert (keeper.counts.kept, keeper.counts.over_budget, keeper.shed) == (3, 7, 7)
    event = keeper.take_event()
    assert event is not None
    assert event.detail["over_budget"] == 7


def test_a_budget_that_cannot_be_kept_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        WriteBudget(0)
    monkeypatch.setattr(module, "_PROC", tmp_path)
    with pytest.raises(ConfigError, match="this kernel does not have it"):
        WriteBudget(1000)
