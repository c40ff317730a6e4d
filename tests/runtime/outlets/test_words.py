"""What an outlet's process says: read in bounded steps, and believed only where it can be."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ssn_edge_runtime.outlets.word_reader import MOST_BYTES, MOST_WORDS, WordReader
from ssn_edge_runtime.outlets.words import (
    LONGEST_CAUSE,
    LONGEST_WORD,
    PeerLosses,
    PeerReport,
    Reporter,
)


@pytest.fixture
def pipe() -> Iterator[tuple[WordReader, int]]:
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.set_blocking(writes, False)
    yield WordReader(reads), writes
    os.close(reads)
    os.close(writes)


def test_words_come_in_order_and_nothing_waits_for_them(pipe: tuple[WordReader, int]) -> None:
    reader, writes = pipe
    assert reader.take() == []
    os.write(writes, b'{"listens": "here"}\n{"peer": ')
    assert reader.take() == [{"listens": "here"}]
    os.write(writes, b"{}}\n")
    assert reader.take() == [{"peer": {}}]
    assert reader.refused == 0


@pytest.mark.parametrize(
    "line", [b"pass", b"[]", b"{}", b'{"a":1,"b":2}', b"[" * 1000, b'{"a":' + b"9" * 900, b"\xff"]
)
def test_what_is_no_word_is_counted_and_the_next_one_is_read(
    pipe: tuple[WordReader, int], line: bytes
) -> None:
    reader, writes = pipe
    os.write(writes, line + b'\n{"listens": "here"}\n')
    assert reader.take() == [{"listens": "here"}]
    assert reader.refused == 1


def test_a_line_without_end_takes_no_memory_and_the_one_behind_it_is_read(
    pipe: tuple[WordReader, int],
) -> None:
    reader, writes = pipe
    for _ in range(200):
        os.write(writes, b"x" * MOST_BYTES)
        assert reader.take() == []
        assert len(reader._rest) <= LONGEST_WORD
    os.write(writes, b'x\n{"listens": "here"}\n')
    assert reader.take() == [{"listens": "here"}]
    assert reader.refused == 1


def test_a_flood_is_read_in_bounded_steps_and_counted(pipe: tuple[WordReader, int]) -> None:
    reader, writes = pipe
    with suppress(BlockingIOError):
        while True:
            os.write(writes, b"{}\n" * 100)
    steps = 0
    while (words := reader.take()) or reader.refused:
        assert len(words) <= MOST_WORDS
        steps, reader.refused = steps + 1, 0
    assert steps >= 8  # a pipe holds 64 KiB


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(max_size=5), inside),
    max_leaves=5,
)
WHOLE = PeerReport(is_lost=True, cause="gone", losses=1).to_dict()


@given(st.sampled_from(sorted(WHOLE)), JSON)
def test_a_report_with_anything_else_in_it_is_none(name: str, value: object) -> None:
    try:
        report = PeerReport.from_dict(WHOLE | {name: value})
    except ValueError:
        return
    assert type(getattr(report, name)) is type(WHOLE[name])


def test_a_report_survives_its_way_and_one_that_says_more_or_less_is_none() -> None:
    report = PeerReport.from_dict(json.loads(json.dumps(WHOLE)))
    assert report.to_dict() == WHOLE
    with pytest.raises(ValueError, match="more than"):
        PeerReport.from_dict(WHOLE | {"is_pass": True})
    with pytest.raises(ValueError, match="losses"):
        PeerReport.from_dict({key: WHOLE[key] for key in WHOLE if key != "losses"})
    with pytest.raises(ValueError, match="losses"):
        PeerReport.from_dict(WHOLE | {"losses": 2**60})


@given(st.text(max_size=2000))
def test_a_cause_is_one_short_line_whatever_it_holds(text: str) -> None:
    cause = PeerReport.from_dict(WHOLE | {"cause": text}).cause
    assert len(cause) <= LONGEST_CAUSE
    assert cause == "" or cause.isprintable()


def test_a_report_fits_into_one_word() -> None:
    most = {name: 2**53 - 1 for name in WHOLE if name not in ("is_lost", "cause")}
    widest = PeerReport(is_lost=False, cause="\N{GRINNING FACE}" * LONGEST_CAUSE, **most)
    said: list[bytes] = []
    Reporter(said.append).show(widest)
    (line,) = said
    assert len(line) <= LONGEST_WORD


def test_a_line_that_does_not_read_is_told_later_and_keeps_nobody_waiting() -> None:
    said: list[int] = []
    now_s, is_full = 0.0, True

    def write(line: bytes) -> None:
        if is_full:
            raise BlockingIOError
        said.append(json.loads(line)["peer"]["losses"])

    reporter, losses = Reporter(write, lambda: now_s), PeerLosses(lambda: now_s)
    reporter.show(losses.report)
    for _ in range(5):
        losses.lost("gone")
        reporter.show(losses.report)
        losses.back()
        reporter.show(losses.report)
    is_full = False
    reporter.show(losses.report)
    reporter.show(losses.report)
    assert said == [5]
    losses.dropped = 1
    reporter.show(losses.report)  # counts alone may wait a second
    assert said == [5]
    now_s = 1.0
    reporter.show(losses.report)
    assert said == [5, 5]
