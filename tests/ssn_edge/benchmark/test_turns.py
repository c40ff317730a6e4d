"""Measurements take turns in blocks, and the warm-up does not count."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge.benchmark.turns import ROUNDS, Amount, blocks_of, take_turns


class Script:
    """A measurement that takes no time, and writes down what it was asked."""

    def __init__(self, name: str, log: list[tuple[str, int | None, int]], width: int = 1) -> None:
        self.frames_per_call = width
        self._name = name
        self._log = log

    def block(self, calls: int, *, turn: int | None) -> None:
        self._log.append((self._name, turn, calls))


def ticking(step_s: float) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step_s


@given(calls=st.integers(0, 5000))
def test_the_blocks_are_all_calls_and_as_even_as_can_be(calls: int) -> None:
    blocks = blocks_of(calls)
    assert len(blocks) == ROUNDS
    assert sum(blocks) == calls
    assert max(blocks) - min(blocks) <= 1


def test_few_calls_are_spread_over_all_rounds() -> None:
    assert [number for number, calls in enumerate(blocks_of(3)) if calls] == [3, 7, 11]


def test_every_round_runs_all_and_begins_with_another_one() -> None:
    log: list[tuple[str, int | None, int]] = []
    take_turns([Script(name, log) for name in "abc"], Amount(frames=24, seconds=0))
    counted = [(name, turn) for name, turn, _ in log if turn is not None]
    assert counted == [
        ("abc"[(place + turn) % 3], turn) for turn in range(ROUNDS) for place in range(3)
    ]


def test_each_measurement_has_its_frames_and_a_warm_up_besides() -> None:
    log: list[tuple[str, int | None, int]] = []
    take_turns([Script("one", log), Script("four", log, 4)], Amount(frames=100, seconds=0))
    calls = {name: sum(n for who, turn, n in log if who == name and turn is not None)
             for name in ("one", "four")}  # fmt: skip
    assert calls == {"one": 100, "four": 25}
    warm_up = {name: sum(n for who, turn, n in log if who == name and turn is None)
               for name in ("one", "four")}  # fmt: skip
    assert warm_up == {"one": 10, "four": 3}
    first_counted = next(number for number, entry in enumerate(log) if entry[1] is not None)
    assert all(turn is not None for _, turn, _ in log[first_counted:])


def test_by_time_the_warm_up_tells_how_many_calls_fit() -> None:
    log: list[tuple[str, int | None, int]] = []
    clock = ticking(0.25)
    take_turns([Script("a", log)], Amount(None, 10.0), clock_s=lambda: next(clock))
    assert sum(calls for _, turn, calls in log if turn is None) == 4  # a tenth of the time
    assert sum(calls for _, turn, calls in log if turn is not None) == 40


def test_a_call_that_takes_longer_than_there_is_time_is_still_made_three_times() -> None:
    log: list[tuple[str, int | None, int]] = []
    clock = ticking(60.0)
    take_turns([Script("a", log)], Amount(None, 1.0), clock_s=lambda: next(clock))
    assert sum(calls for _, turn, calls in log if turn is None) == 2
    assert sum(calls for _, turn, calls in log if turn is not None) == 3


def test_progress_goes_up_to_all_blocks() -> None:
    told: list[tuple[str, int, int]] = []
    take_turns(
        [Script("a", []), Script("b", [])],
        Amount(frames=5, seconds=0),
        on_progress=lambda *each: told.append(each),
    )
    assert [each for each in told if each[0] == "measure"] == [
        ("measure", done, 10) for done in range(11)
    ]


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_single_frame_is_enough(frames: int) -> None:
    log: list[tuple[str, int | None, int]] = []
    take_turns([Script("a", log)], Amount(frames=frames, seconds=0))
    assert sum(calls for _, turn, calls in log if turn is not None) == frames
