"""What a peer is owed: nothing twice, nothing lost in silence, always within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.backlog import Backlog, Gap, Message, Owed

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30)),
        st.tuples(st.just("skip"), st.integers(1, 3)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("settle"), st.integers(0, 5)),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=80,
)


@given(actions=ACTIONS, most=st.integers(1, 8), most_bytes=st.integers(1, 100))
def test_each_message_is_given_once_in_order_or_counted_in_a_gap(
    actions: list[tuple[str, int]], most: int, most_bytes: int
) -> None:
    backlog = Backlog(most_messages=most, most_bytes=most_bytes)
    line, added, settled = 0, 0, []
    way: list[Owed] = []
    position = 0

    def settle(at: int) -> None:
        owed = way.pop(at)
        backlog.settle(owed)
        settled.append(owed)

    for what, number in actions:
        if what == "add":
            line += 1
            added += 1
            backlog.add(Message(line, "verdict", b"x" * number))
        elif what == "skip":
            line += number
            backlog.passed(line)
        elif what == "take":
            if len(way) < 3 and (owed := backlog.take()) is not None:
                way.append(owed)
        elif what == "settle" and way:
            settle(number % len(way))
        elif what == "lose":
            backlog.give_back()
            way.clear()
        # What is on its way stays whatever the bounds; only what waits is dropped.
        in_flight = sum(isinstance(each, Message) for each in way)
        assert len(backlog) <= max(most, in_flight)
        assert backlog.position >= position
        position = backlog.position
        assert all(each.line > position for each in way if isinstance(each, Message))
    while (owed := backlog.take()) is not None:
        way.append(owed)
    while way:
        settle(0)
    assert backlog.is_empty
    assert backlog.position == line
    assert (len(backlog), backlog.bytes) == (0, 0)
    lines = [each.line for each in settled if isinstance(each, Message)]
    gaps = [each for each in settled if isinstance(each, Gap)]
    assert len(set(lines)) == len(lines)
    assert len(lines) + sum(gap.messages for gap in gaps) == added
    assert sum(gap.messages for gap in gaps) == backlog.dropped


@given(sizes=st.lists(st.integers(0, 50), max_size=60), most=st.integers(1, 10))
def test_the_newest_are_kept_and_the_gap_comes_first(sizes: list[int], most: int) -> None:
    backlog = Backlog(most_messages=most, most_bytes=200)
    for line, size in enumerate(sizes, start=1):
        backlog.add(Message(line, "verdict", b"x" * size))
    given_out = []
    while (owed := backlog.take()) is not None:
        given_out.append(owed)
    kept = [each.line for each in given_out if isinstance(each, Message)]
    assert kept == list(range(len(sizes) - len(kept) + 1, len(sizes) + 1))
    dropped = len(sizes) - len(kept)
    gaps = [each for each in given_out if isinstance(each, Gap)]
    assert gaps == ([Gap(dropped, 1, dropped)] if dropped else [])
    assert not gaps or given_out[0] is gaps[0]


def test_what_was_not_acknowledged_is_given_again_in_order() -> None:
    backlog = Backlog()
    for line in (1, 2, 3):
        backlog.add(Message(line, "event", b"{}"))
    first, second = backlog.take(), backlog.take()
    assert first is not None
    assert second is not None
    backlog.settle(second)
    assert backlog.position == 0  # the first is still owed
    backlog.give_back()
    assert [backlog.take(), backlog.take()] == [first, Message(3, "event", b"{}")]


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        Backlog(most_messages=0)
