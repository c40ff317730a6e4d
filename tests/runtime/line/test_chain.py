"""What an audit must find: each record that was cut, changed, missing, doubled or moved."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import FIRST_PREVIOUS, DecisionRecord, canonical_json
from ssn_edge_runtime.sinks import ChainReport, Journal, ProblemKind, line_sha256, verify_chain

COUNT = 12
any_line = st.integers(0, COUNT - 1)
not_the_last = st.integers(0, COUNT - 2)


@pytest.fixture(scope="module")
def lines() -> tuple[bytes, ...]:
    chain = []
    previous = FIRST_PREVIOUS
    for sequence in range(1, COUNT + 1):
        line = canonical_json(
            {
                "schema": 2,
                "kind": "verdict",
                "line": sequence,
                "sequence": sequence,
                "verdict": "pass",
                "previous": previous,
                "score": 0,
            }
        )
        chain.append(line)
        previous = line_sha256(line)
    return tuple(chain)


def verify(lines: Sequence[bytes], *, end: bytes = b"\n", head: str | None = None) -> ChainReport:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decisions.jsonl"
        path.write_bytes(b"\n".join(lines) + end)
        return verify_chain(path, head=head)


def kinds(report: ChainReport, line: int) -> set[ProblemKind]:
    return {problem.kind for problem in report.problems if problem.line == line}


def test_an_untouched_chain_is_whole(lines: tuple[bytes, ...]) -> None:
    assert verify(lines).is_whole


@given(index=st.integers(1, COUNT - 2))
@settings(deadline=None)
def test_a_missing_record_is_found(lines: tuple[bytes, ...], index: int) -> None:
    report = verify([*lines[:index], *lines[index + 1 :]])
    assert kinds(report, index + 1) == {
        ProblemKind.LINE,
        ProblemKind.SEQUENCE,
        ProblemKind.LINK,
    }


def test_a_missing_beginning_is_found(lines: tuple[bytes, ...]) -> None:
    assert kinds(verify(lines[1:]), 1) == {ProblemKind.BEGINNING}


@given(index=any_line, place=any_line)
@settings(deadline=None)
def test_a_doubled_record_is_found(lines: tuple[bytes, ...], index: int, place: int) -> None:
    report = verify([*lines[:place], lines[index], *lines[place:]])
    assert not report.is_whole


@given(index=not_the_last, score=st.integers(1, 9))
@settings(deadline=None)
def test_a_changed_record_is_found(lines: tuple[bytes, ...], index: int, score: int) -> None:
    changed = canonical_json({**json.loads(lines[index]), "score": score})
    report = verify([*lines[:index], changed, *lines[index + 1 :]])
    assert kinds(report, index + 2) == {ProblemKind.LINK}
    assert len(report.problems) == 1


@given(index=any_line, data=st.data())
@settings(deadline=None)
def test_a_changed_byte_is_found_or_changes_the_head(
    lines: tuple[bytes, ...], index: int, data: st.DataObject
) -> None:
    line = bytearray(lines[index])
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    head = verify(lines).head
    report = verify([*lines[:index], bytes(line), *lines[index + 1 :]], head=head)
    assert not report.is_whole


@given(first=any_line, second=any_line)
@settings(deadline=None)
def test_two_exchanged_records_are_found(lines: tuple[bytes, ...], first: int, second: int) -> None:
    moved = list(lines)
    moved[first], moved[second] = moved[second], moved[first]
    assert verify(moved).is_whole == (first == second)


@given(index=any_line, keep=st.data())
@settings(deadline=None)
def test_a_torn_tail_is_found_with_its_line(
    lines: tuple[bytes, ...], index: int, keep: st.DataObject
) -> None:
    torn = lines[index][: keep.draw(st.integers(1, len(lines[index])))]
    report = verify([*lines[:index], torn], end=b"")
    assert [(problem.line, problem.kind) for problem in report.problems] == [
        (index + 1, ProblemKind.TORN)
    ]
    assert report.records == index


@given(index=st.integers(1, COUNT - 1))
@settings(deadline=None)
def test_a_cut_tail_is_found_by_the_published_head_alone(
    lines: tuple[bytes, ...], index: int
) -> None:
    head = verify(lines).head
    assert verify(lines, head=head).is_whole
    assert verify(lines[:index]).is_whole
    report = verify(lines[:index], head=head)
    assert kinds(report, index) == {ProblemKind.HEAD}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{}",
        b'{"schema":1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema":true}',
    ],
)
def test_a_line_that_is_no_record_is_told_with_its_number(
    lines: tuple[bytes, ...], line: bytes
) -> None:
    report = verify([*lines[:4], line, *lines[5:]])
    assert kinds(report, 5) == {ProblemKind.UNREADABLE}


def test_an_empty_journal_is_whole(tmp_path: Path) -> None:
    (tmp_path / "decisions.jsonl").touch()
    report = verify_chain(tmp_path / "decisions.jsonl")
    assert report.is_whole
    assert (report.records, report.head) == (0, FIRST_PREVIOUS)


def test_a_journal_in_use_can_be_verified(
    output: Path, make_record: Callable[[Journal], DecisionRecord]
) -> None:
    with Journal(output) as journal:
        journal.write(make_record(journal))
        assert verify_chain(journal.path, head=journal.head).is_whole


def test_a_missing_journal_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        verify_chain(tmp_path / "decisions.jsonl")
