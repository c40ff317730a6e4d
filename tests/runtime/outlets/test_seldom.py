"""Warnings that repeat: the first at once, and then one a minute with the number of the others."""

from __future__ import annotations

import logging

import hypothesis.strategies as st
from hypothesis import given

from ssn_edge_runtime.outlets.seldom import MOST_KEYS, SeldomFilter


class Log:
    """A logger of its own with the filter, and what came through."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lines: list[str] = []
        self._filter = SeldomFilter(60.0, lambda: self.now_s)

    def warn(self, text: str, *arguments: object) -> None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, text, arguments, None)
        if self._filter.filter(record):
            self.lines.append(record.getMessage())


def test_a_kind_of_message_comes_once_a_minute_and_says_how_many_were_left_out() -> None:
    log = Log()
    for count in range(1, 201):
        log.warn("the PLC is lost (%d times so far)", count)
        log.warn("the PLC is back")
        log.now_s += 1.0
    assert log.lines[:2] == ["the PLC is lost (1 times so far)", "the PLC is back"]
    assert log.lines[2:4] == [
        "the PLC is lost (61 times so far) (59 like it were left out)",
        "the PLC is back (59 like it were left out)",
    ]
    assert len(log.lines) == 2 * 4


def test_a_per_cent_sign_in_a_message_stays_one() -> None:
    log = Log()
    for _ in range(2):
        log.warn("%s: 5 %% of it", "broker")
    log.now_s = 60.0
    log.warn("%s: 5 %% of it", "100%")
    assert log.lines == ["broker: 5 % of it", "100%: 5 % of it (1 like it were left out)"]


def test_kinds_without_end_take_no_memory_without_end() -> None:
    log = Log()
    for number in range(10 * MOST_KEYS):
        log.warn(f"kind {number}")
    assert len(log._filter._kinds) <= MOST_KEYS


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50)), max_size=100))
def test_what_comes_through_accounts_for_all_that_came_before_it(
    steps: list[tuple[str, float]],
) -> None:
    log = Log()
    for text, later_s in steps:
        log.now_s += later_s
        log.warn(text)
    log.now_s += 61.0
    for text in "abc":
        log.warn(text)
        lines = [line for line in log.lines if line.startswith(text)]
        left_out = sum(int(line.split("(")[1].split()[0]) for line in lines if "(" in line)
        assert len(lines) + left_out == 1 + sum(each == text for each, _ in steps)
