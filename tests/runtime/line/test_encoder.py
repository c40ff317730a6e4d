"""Counts of an encoder as rules: a pass is given where its part is, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.encoder import (
    COUNTER_BITS,
    MOST_WAITING,
    CountedPasses,
    EncoderRules,
    Outcome,
)

MS = 1_000_000
RULES = EncoderRules(delay_counts=1000, window_counts=100, silent_ns=50 * MS)


def moving(rules: EncoderRules = RULES, *, start: int = 0, until_ms: int = 10) -> CountedPasses:
    """A belt of 10 counts a millisecond that was read each millisecond."""
    passes = CountedPasses(rules)
    for ms in range(until_ms + 1):
        passes.read(start + 10 * ms, ms * MS)
    return passes


def run_on(
    passes: CountedPasses, *, start: int = 0, from_ms: int = 11, to_ms: int = 200
) -> list[tuple[int, Outcome]]:
    found = []
    for ms in range(from_ms, to_ms):
        passes.read(start + 10 * ms, ms * MS)
        found += [(ms, outcome) for outcome in passes.settle(ms * MS)]
    return found


@pytest.mark.parametrize("start", [0, 2**32 - 55, 2**31 - 55, 2**32 - 555])
def test_a_pass_is_given_when_the_count_since_its_exposure_is_reached_also_over_the_wrap(
    start: int,
) -> None:
    passes = moving(start=start)
    passes.wait(7, 5 * MS + MS // 2)  # at count 55, between two readings
    ((ms, outcome),) = run_on(passes, start=start)
    assert ms == 106  # the first reading at or beyond 1055
    assert outcome == Outcome(7, 115 * MS + MS // 2)  # where 1155 is, at 10 counts a millisecond
    assert passes.is_empty


def test_several_parts_in_flight_are_given_each_at_its_own_count() -> None:
    passes = moving()
    for part in range(4):
        passes.wait(part, part * 2 * MS)
    assert [(ms, each.sequence) for ms, each in run_on(passes)] == [
        (100, 0), (102, 1), (104, 2), (106, 3),
    ]  # fmt: skip


def test_a_belt_that_stands_gives_no_signal_and_goes_on_when_it_moves_again() -> None:
    passes = moving()
    passes.wait(1, 0)
    for ms in range(11, 500):  # read, and standing; trembling by a count
        passes.read(100 - ms % 2, ms * MS)
        assert passes.settle(ms * MS) == []
    assert passes.stands(500 * MS)
    found = []
    for ms in range(500, 700):
        passes.read(100 + 10 * (ms - 499), ms * MS)
        found += passes.settle(ms * MS)
    assert [each.sequence for each in found] == [1]
    assert found[0].until_ns is not None


def test_a_part_that_is_judged_while_it_stands_at_the_ejector_waits_for_the_belt() -> None:
    passes = moving(until_ms=105)
    for ms in range(106, 150):
        passes.read(1050, ms * MS)
    passes.wait(1, 0)
    assert passes.settle(150 * MS) == []
    passes.read(1055, 151 * MS)
    (outcome,) = passes.settle(151 * MS)
    assert outcome.until_ns is not None


@pytest.mark.parametrize(
    ("count", "at_ms", "why"),
    [
        (97, 11, "ran backwards"),
        (-50, 11, "ran backwards"),
        (201, 11, "jumped by 101"),
        (100 + 2**31 - 1, 11, "jumped"),
        (100 + 2**31, 11, "ran backwards"),
        (100, 61, "silent for 51 ms"),
    ],
)
def test_what_makes_the_place_of_parts_uncertain_withholds_all_that_wait(
    count: int, at_ms: int, why: str
) -> None:
    passes = moving()
    passes.wait(1, 0)
    passes.wait(2, 9 * MS)
    passes.read(count, at_ms * MS)
    outcomes = passes.settle(at_ms * MS)
    assert [(each.sequence, each.until_ns) for each in outcomes] == [(1, None), (2, None)]
    assert all(why in each.why for each in outcomes)
    passes.wait(3, 10 * MS)  # judged after that, exposed before
    (late,) = passes.settle(at_ms * MS)
    assert late.until_ns is None
    assert "reaches back" in late.why


@pytest.mark.parametrize("count", [98, 100, 110, 200])
def test_a_count_within_slack_and_window_is_motion(count: int) -> None:
    passes = moving()
    passes.wait(1, 0)
    passes.read(count, 11 * MS)
    assert passes.settle(11 * MS) == []
    assert not passes.is_empty


def test_an_encoder_that_falls_silent_while_a_pass_waits_withholds_it_at_its_limit() -> None:
    passes = moving()
    passes.wait(1, 0)
    assert passes.next_ns() == 60 * MS + 1
    assert passes.settle(60 * MS) == []
    (outcome,) = passes.settle(60 * MS + 1)
    assert (outcome.until_ns, "silent" in outcome.why) == (None, True)
    assert passes.next_ns() is None


def test_without_any_reading_no_pass_is_given() -> None:
    passes = CountedPasses(RULES)
    passes.wait(1, 0)
    assert [each.until_ns for each in passes.settle(1)] == [None]


def test_a_verdict_that_comes_after_its_part_went_by_gives_none() -> None:
    passes = moving(until_ms=111)
    passes.wait(1, MS)  # the window ends at 1110
    (outcome,) = passes.settle(111 * MS)
    assert (outcome.until_ns, outcome.why) == (None, "its part had passed the ejector")


def test_a_belt_that_stands_beyond_a_part_s_window_will_not_bring_it() -> None:
    passes = moving(until_ms=120)
    for ms in range(121, 150):
        passes.read(1200, ms * MS)
    passes.wait(1, 0)
    assert [each.until_ns for each in passes.settle(149 * MS)] == [None]


def test_a_reading_that_is_old_news_gives_none_for_a_part_that_has_gone_on_since() -> None:
    passes = moving(until_ms=105)
    passes.wait(1, 0)
    (outcome,) = passes.settle(111 * MS)  # at 1110 by its speed: nobody looked in between
    assert outcome.until_ns is None


def test_readings_out_of_order_are_none() -> None:
    passes = moving()
    passes.read(0, 10 * MS)
    passes.read(5000, 5 * MS)
    passes.wait(1, 0)
    assert len(run_on(passes)) == 1


def test_the_passes_that_wait_are_bounded() -> None:
    passes = moving()
    for part in range(MOST_WAITING + 3):
        passes.wait(part, 0)
    assert [each.sequence for each in passes.settle(10 * MS)] == [
        MOST_WAITING, MOST_WAITING + 1, MOST_WAITING + 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [{"delay_counts": -1}, {"window_counts": 2}, {"window_counts": 2**31}, {"silent_ns": 0}],
)
def test_rules_that_no_belt_could_meet_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        replace(RULES, **wrong)  # type: ignore[arg-type]


@dataclass
class Belt:
    """A true belt, in steps of a millisecond, and what its encoder was read to say."""

    steps: list[int]
    start: int
    broken_ms: int | None = None
    true: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        for step in self.steps:
            self.true.append(self.true[-1] + step)

    def count(self, ms: int, offset: int = 0) -> int:
        return (self.start + self.true[ms] + offset) % 2**COUNTER_BITS

    def between(self, low_ms: int, high_ms: int) -> tuple[int, int]:
        return self.true[low_ms], self.true[high_ms]


@settings(max_examples=300, deadline=None)
@given(
    speeds=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), min_size=3, max_size=12),
    start=st.integers(0, 2**COUNTER_BITS - 1),
    every=st.integers(1, 3),
    parts=st.lists(
        st.tuples(st.integers(0, 250), st.integers(1, 80)), min_size=1, max_size=8, unique=True
    ),
    fault=st.none()
    | st.tuples(st.integers(1, 250), st.sampled_from([-3, -500, 101, 5000, 2**31, 0])),
)
def test_whatever_the_belt_does_a_signal_is_given_at_its_part_s_place_or_not_at_all(
    speeds: list[tuple[int, int]],
    start: int,
    every: int,
    parts: list[tuple[int, int]],
    fault: tuple[int, int] | None,
) -> None:
    steps = [speed for length, speed in speeds for _ in range(length)]
    belt = Belt(steps, start)
    rules = replace(RULES, delay_counts=400)
    passes = CountedPasses(rules)
    exposed = {number: ms for number, (ms, _) in enumerate(parts) if ms < len(steps)}
    judged = {number: exposed[number] + parts[number][1] for number in exposed}
    outcomes: dict[int, tuple[int, Outcome]] = {}
    offset, read, broken_ms = 0, [0], None
    for ms in range(len(steps) + 1):
        is_lost = fault is not None and fault[1] == 0 and fault[0] <= ms < fault[0] + 60
        if fault is not None and broken_ms is None and ms >= fault[0] and ms % every == 0:
            # The count is wrong from here on, by what no belt does between two readings; or no
            # count comes for longer than the limit.
            offset, broken_ms = (fault[1] and fault[1] - (belt.true[ms] - belt.true[read[-1]])), ms
        if ms % every == 0 and not is_lost:
            passes.read(belt.count(ms, offset), ms * MS)
            read.append(ms)
        for number in exposed:
            if judged[number] == ms:
                passes.wait(number, exposed[number] * MS)
        for outcome in passes.settle(ms * MS):
            assert outcome.sequence not in outcomes, "told twice"
            outcomes[outcome.sequence] = ms, outcome
    for number, (ms, outcome) in outcomes.items():
        if outcome.until_ns is None:
            assert outcome.why
            continue
        assert outcome.until_ns > ms * MS
        low, high = belt.between(
            max(0, exposed[number] - every), min(len(steps), exposed[number] + every)
        )
        # Interpolated between two readings, so at most the belt's way between them beside it.
        assert belt.true[ms] >= low + rules.delay_counts
        assert belt.true[ms] < high + rules.delay_counts + rules.window_counts
        if broken_ms is not None:
            assert not (exposed[number] < broken_ms <= ms), "given over a break"
