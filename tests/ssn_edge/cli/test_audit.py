"""`ssn-edge audit`: what it prints and how it ends."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import HEAD_NAME, JOURNAL_NAME, DeviceKey, Journal
from tests.end_to_end.chain import ssn_edge


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log under ``decisions``, and beside it what was noted elsewhere: head and key."""
    folder = tmp_path / "decisions"
    key = DeviceKey.open(tmp_path / "device.key")
    with Journal(folder, key=key) as journal:
        for sequence in range(1, 6):
            journal.write(
                DecisionRecord(
                    sequence=sequence,
                    source="test",
                    decided_at=datetime.now(timezone.utc),
                    verdict=Verdict.PASS,
                    reason=Reason.NONE,
                    timings_ms={},
                    monotonic_ns=sequence,
                )
            )
    (tmp_path / "noted.json").write_bytes((folder / HEAD_NAME).read_bytes())
    return folder


def test_a_whole_log_ends_with_0_and_says_what_is_not_proven(log: Path) -> None:
    outcome = ssn_edge("audit", log, cwd=log.parent)
    assert outcome.code == 0
    assert "6 lines in 1 files (1 to 6)" in outcome.out
    assert "decisions: 5 pass, 0 fail, 0 unknown" in outcome.out
    assert "not proven: tail not provable" in outcome.out
    assert outcome.out.endswith("whole\n")


def test_with_head_and_key_nothing_is_left_unproven(log: Path) -> None:
    outcome = ssn_edge(
        "audit", "--head", "noted.json", "--key", "device.key.pub", "--json", cwd=log.parent
    )
    assert outcome.code == 0
    document = outcome.json()
    assert document["is_whole"] is True
    assert document["unproven"] == []


def test_a_cut_log_ends_with_4_and_says_where(log: Path) -> None:
    lines = (log / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
    (log / JOURNAL_NAME).write_bytes(b"".join(lines[:2] + lines[3:-1]))
    outcome = ssn_edge("audit", log, "--head", "noted.json", cwd=log.parent)
    assert outcome.code == 4
    assert "decisions.jsonl:3: line 4 follows line 2" in outcome.out
    assert "line 6 was published, the log ends at line 5" in outcome.out
    assert outcome.err.startswith("error: ")
    assert "not whole and unaltered" in outcome.err
    document = ssn_edge("audit", log, "--json", cwd=log.parent).json()
    assert document["problems"][0] == {
        "file": "decisions.jsonl",
        "line": 3,
        "kind": "line",
        "detail": "line 4 follows line 2",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 3, "is no folder"),
        (["."], 3, "holds no decision log"),
        (["decisions", "--head", "abc"], 2, "is no file that is there, and no hash"),
        (["decisions", "--key", "device.key"], 2, "is no public key"),
    ],
)
def test_what_cannot_be_audited_is_told_in_one_line(
    log: Path, arguments: list[str], code: int, words: str
) -> None:
    outcome = ssn_edge("audit", *arguments, cwd=log.parent)
    assert outcome.code == code
    assert words in outcome.err
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
