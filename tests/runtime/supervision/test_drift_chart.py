"""The drift chart keeps its stated rate, whatever the distribution, and finds what it promises."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.supervision.drift_chart import BETS, Direction, Drift, DriftChart
from ssn_edge_runtime.supervision.drift_reference import (
    LONGEST_STRIDE,
    REFERENCE_PARTS,
    edge_ranks,
    stride_for,
)

STREAMS = 200
Draw = Callable[[random.Random], float]

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda chance: chance.gauss(0, 1),
    "heavy tails": lambda chance: chance.gauss(0, 1) / math.sqrt(chance.gammavariate(1.5, 2 / 3)),
    "skewed": lambda chance: chance.lognormvariate(0, 1),
    "ties": lambda chance: float(round(chance.gauss(0, 1))),
    "two levels": lambda chance: float(chance.random() < 0.1),
}


def poisson_limit(mean: float, share: float = 0.999) -> int:
    """The smallest count that a Poisson count of this mean does not exceed with such a chance."""
    count, term = 0, math.exp(-mean)
    total = term
    while total < share:
        count += 1
        term *= mean / count
        total += term
    return count


def first_alarm(
    draw: Draw, seed: int, *, every: float, parts: int, reference: int = REFERENCE_PARTS
) -> tuple[int, Drift] | None:
    """After how many watched parts it alarms, without a change."""
    chance = random.Random(seed)
    chart = DriftChart(every, reference_parts=reference, seed=seed)
    watched = 0
    while watched < parts:
        watched += chart.is_watching
        found = chart.add(draw(chance), watched)
        if found is not None:
            return watched, found
    return None


def false_alarms(draw: Draw, reference: int, *, every: int, parts: int, streams: int) -> int:
    return sum(
        first_alarm(draw, seed, every=every, parts=parts, reference=reference) is not None
        for seed in range(streams)
    )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("reference", [50, 256, 1000])
def test_false_alarms_keep_the_stated_rate_whatever_the_reference_is(
    name: str, reference: int
) -> None:
    every, parts = 1000, 100
    found = false_alarms(DISTRIBUTIONS[name], reference, every=every, parts=parts, streams=STREAMS)
    assert found <= poisson_limit(STREAMS * parts / every)


@pytest.mark.soak
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("reference", [50, 100, 256, 1000])
@pytest.mark.parametrize("parts", [200, 10_000])
def test_false_alarms_keep_the_stated_rate_over_long_streams(
    name: str, reference: int, parts: int
) -> None:
    every, streams = 10 * parts, 1000
    found = false_alarms(DISTRIBUTIONS[name], reference, every=every, parts=parts, streams=streams)
    assert found <= poisson_limit(streams * parts / every)


def test_a_tenth_less_light_alarms_within_200_parts_at_the_default_rate_and_the_same_light_never(
) -> None:  # fmt: skip
    """The mean level is 110, parts deviate by 5: a tenth is 11 levels, 2.2 deviations."""
    dim_from, delays = 2000, []
    for seed in range(STREAMS):
        chance = random.Random(seed)
        chart = DriftChart(2e7, seed=seed)
        for number in range(dim_from):
            assert chart.add(chance.gauss(110, 5), number) is None
        found = None
        while found is None:
            number += 1
            found = chart.add(0.9 * chance.gauss(110, 5), number)
        delays.append(number - dim_from + 1)
        assert found.direction is Direction.DOWN
        assert found.deviations == pytest.approx(-2.2, abs=1.2)
        assert abs(found.since - dim_from) <= 30
    assert max(delays) <= 200
    assert max(delays) <= 40  # what README.md says


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_shift_right_after_the_learning_is_found_too(name: str) -> None:
    draw = DISTRIBUTIONS[name]
    for seed in range(20):
        chance = random.Random(seed)
        chart = DriftChart(2e7, seed=seed)
        found, number = None, 0
        while found is None and number < REFERENCE_PARTS * LONGEST_STRIDE + 200:
            number += 1
            found = chart.add(draw(chance) + 3 * chart.is_watching, number)
        assert found is not None
        assert found.direction is Direction.UP


def test_light_that_flickers_is_wider() -> None:
    found: list[Drift] = []
    for seed in range(40):
        chance = random.Random(seed)
        chart = DriftChart(2e7, seed=seed)
        number = 0
        while chart.found is None and number < 1000:
            number += 1
            chart.add(chance.gauss(0, 3 if chart.is_watching else 1), number)
        assert chart.found is not None
        found.append(chart.found)
    wider = [each for each in found if each.direction is Direction.WIDER]
    assert len(wider) >= 30  # some begin with several parts on one side
    assert all(1.5 < (each.deviations or 0) < 6 for each in wider)


def test_an_alarm_is_raised_once() -> None:
    chart = DriftChart(1000)
    chance = random.Random(1)
    found = [
        chart.add(chance.gauss(0, 1) + max(0, number - 300) / 50, number) for number in range(2000)
    ]
    assert [each for each in found if each is not None] == [chart.found]


# The algebra


def drifting(seed: int, count: int) -> Iterator[float]:
    chance = random.Random(seed)
    for number in range(count):
        yield round(chance.gauss(0, 1) + max(0, number - 400) / 200, 2)


@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([0.25, 0.5, 2.0, 1024.0]),
    shift=st.integers(-1000, 1000),
)
def test_another_zero_and_another_unit_change_nothing(seed: int, scale: float, shift: int) -> None:
    one, other = DriftChart(1e5), DriftChart(1e5)
    for number, value in enumerate(drifting(seed, 1000)):
        # In hundredths, so that no rounding makes two values one.
        hundredths = round(value * 100)
        found = one.add(hundredths, number)
        again = other.add(scale * (hundredths + shift), number)
        if found is None:
            assert again is None
            continue
        assert again is not None
        assert (again.direction, again.since) == (found.direction, found.since)
        assert again.deviations == pytest.approx(found.deviations)
        return


@given(count=st.integers(8, 3000))
def test_the_bins_of_a_reference_hold_all_its_gaps(count: int) -> None:
    ranks = edge_ranks(count)
    assert ranks == sorted(set(ranks))
    assert ranks[0] >= 1
    assert ranks[-1] <= count
    assert [count + 1 - rank for rank in ranks][::-1] == pytest.approx(ranks, abs=1)


@given(cuts=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20, unique=True))
def test_without_a_change_no_bet_pays_more_than_it_costs(cuts: list[float]) -> None:
    normal = NormalDist()
    scores = [-math.inf, *(normal.inv_cdf(cut) for cut in sorted(cuts)), math.inf]
    for bet in BETS:
        shares = [bet.probability(a, b) for a, b in pairwise(scores)]
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1)  # each is paid out over its bin's own chance


def test_memory_is_constant() -> None:
    chart = DriftChart(1e12)
    chance = random.Random(5)

    def held() -> int:
        lists = (chart._learnt, chart._edges, chart._weights, chart._accounts)
        return sum(sys.getsizeof(each) + len(each) for each in lists)

    sizes = []
    for number in range(5000):
        chart.add(chance.gauss(0, 1), number)
        if chart.is_watching:
            sizes.append(held())
    assert len(set(sizes)) == 1


def test_neighbours_that_resemble_each_other_are_skipped() -> None:
    chance = random.Random(2)
    alone = [(chance.random(), 0.0) for _ in range(256)]
    assert stride_for(alone) == 1
    belt = [(math.sin(number / 10), chance.random()) for number in range(256)]
    assert 10 <= stride_for(belt) <= 16  # a quarter of the period of 63
    ramp = [(float(number), 0.0) for number in range(256)]
    assert stride_for(ramp) == LONGEST_STRIDE


def test_a_belt_whose_frames_go_round_raises_nothing() -> None:
    chart = DriftChart(2e7)
    chance = random.Random(3)
    for number in range(50_000):
        level = 110 + 2 * math.sin(number / 10) + chance.gauss(0, 0.2)
        assert chart.add(level, number) is None
    assert chart.is_watching


def test_a_quantity_that_never_varied_has_no_deviations_and_is_still_watched() -> None:
    chart = DriftChart(2e7)
    for number in range(5000):
        assert chart.add(7.0, number) is None
    found = None
    while found is None:
        number += 1
        found = chart.add(7.5, number)
    assert number < 5020
    assert (found.direction, found.deviations) == (Direction.UP, None)
