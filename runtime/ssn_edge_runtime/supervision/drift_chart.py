"""Has a quantity drifted? A chart that learns its reference, and knows how little it learnt.

A control chart that takes the mean and deviation of some hundred parts for the true ones alarms
too often, and one that takes the parts for normally distributed does so for other distributions.
This one looks at ranks only, and its chances are exact for any number of reference parts:

- The first `REFERENCE_PARTS` values, in order, cut the line into bins. Whatever the distribution,
  the next value falls between two neighbours of N with the chance 1 / (N + 1); so a bin of w of
  these gaps has the chance w / (N + 1), and after each further part its bin weighs one more (the
  urn of Polya). Equal values are put in order by chance.
- Each `Bet` pays for a bin what that bin would be more likely if the quantity had shifted. Under
  no change the expected pay is 1. The Shiryaev-Roberts sum ``r = (1 + r) * pay`` then grows by
  exactly 1 a part in expectation, and by Doob's inequality for submartingales the chance that it
  reaches A within n parts is at most n / A (Shin, Ramdas and Rinaldo, "E-detectors", 2023, have
  the same for a wider class). That is the promise: one false alarm in A parts, at most.

The promise is for parts that know nothing of each other. Frames of a running belt do; where
neighbours in the reference resemble each other, only one in so many values is taken (`stride`).
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from statistics import NormalDist

REFERENCE_PARTS = 256
"""Values that the reference is learnt from, where neighbours do not resemble each other."""
STRIDE_REFERENCE_PARTS = 64
"""The same, where only every so many-th value is taken."""
LONGEST_STRIDE = 32
RESEMBLANCE = {1: 0.13, 4: 0.28, 16: 0.6}
"""For so many neighbours on either side, the inflation of their sums' variance from which on they
count as alike. Parts that know nothing of each other reach it in one reference of 25, and are then
watched a little slower; a likeness of 0.2 that went unseen would alarm four times too often."""
SHIFT_SHARE = 0.01
"""Of what the bet on a wider quantity won: a bet on a shift that won as much says it better."""

_NORMAL = NormalDist()
_ROOT_TWO = math.sqrt(2.0)


class Direction(str, Enum):
    """Where a quantity went; each equal to its text."""

    UP = "up"
    DOWN = "down"
    WIDER = "wider"
    """Further from the middle on both sides, such as by a lamp that flickers."""

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


@dataclass(frozen=True, slots=True)
class Bet:
    """What is betted on: the quantity's normal score is not N(0, 1) but this.

    Args:
        direction: For the alarm.
        shift: Mean, in deviations.
        spread: Deviation, 1 or more.
    """

    direction: Direction
    shift: float
    spread: float = 1.0

    def probability(self, low: float, high: float) -> float:
        """Of a normal score from `low` to `high`."""
        scale = self.spread * _ROOT_TWO
        # From the nearer tail: the difference of two numbers close to 1 would lose what matters.
        if low > self.shift:
            return 0.5 * (
                math.erfc((low - self.shift) / scale) - math.erfc((high - self.shift) / scale)
            )
        return 0.5 * (
            math.erfc((self.shift - high) / scale) - math.erfc((self.shift - low) / scale)
        )


BETS = (
    Bet(Direction.UP, 1.0),
    Bet(Direction.UP, 2.0),
    Bet(Direction.DOWN, -1.0),
    Bet(Direction.DOWN, -2.0),
    Bet(Direction.WIDER, 0.0, 2.0),
)
"""A shift of less than half of the smallest bet never pays: it is taken for none."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What a chart found.

    Args:
        direction: Where the quantity went.
        deviations: How far from the reference's median, in its deviations; for `WIDER` the root
            mean square of it. None where the reference has no deviation.
        since: The part since which it has been so, roughly.
    """

    direction: Direction
    deviations: float | None
    since: int


class _Account:
    """The money on one bet, and since when it has been winning."""

    __slots__ = ("bet", "count", "since", "squares", "streak", "sum", "total")

    def __init__(self, bet: Bet) -> None:
        self.bet = bet
        self.total = 0.0  # Shiryaev-Roberts
        self.streak = 0.0  # of the last start that was worth it, as in a CUSUM
        self._begin(0)

    def _begin(self, sequence: int) -> None:
        self.since, self.count, self.sum, self.squares = sequence, 0, 0.0, 0.0

    def add(self, pay: float, value: float, sequence: int) -> None:
        self.total = (1.0 + self.total) * pay
        if self.streak <= 1.0:
            self.streak = 1.0
            self._begin(sequence)
        self.streak *= pay
        self.count += 1
        self.sum += value
        self.squares += value * value


class DriftChart:
    """Watches one quantity for a drift of its distribution. Not for use by several threads.

    Constant memory; a part costs some 10 us, the one that ends the learning a millisecond.

    Args:
        alarm_every: At most one false alarm in so many parts.
        reference_parts: To learn from.
        seed: For the order of equal values.
    """

    def __init__(
        self,
        alarm_every: float,
        *,
        reference_parts: int = REFERENCE_PARTS,
        seed: int = 0,
    ) -> None:
        self._limit = alarm_every * len(BETS)
        self._reference_parts = reference_parts
        self._random = random.Random(seed)
        self._stride = 1
        self._skip = 0
        self._learnt: list[tuple[float, float]] = []  # value and its place among equals
        self._edges: list[tuple[float, float]] = []
        self._weights: list[int] = []
        self._total = 0
        self._centre = 0.0
        self._deviation = 0.0
        self._accounts = [_Account(bet) for bet in BETS]
        self._found: Drift | None = None

    @property
    def is_watching(self) -> bool:
        """Whether the reference is learnt."""
        return bool(self._edges)

    @property
    def found(self) -> Drift | None:
        """The drift that ended the watch."""
        return self._found

    @property
    def stride(self) -> int:
        """Every so many-th value is taken."""
        return self._stride

    @property
    def reference(self) -> tuple[float, float] | None:
        """Median of the reference, and half of what its middle 68 % span; None while learning."""
        return (self._centre, self._deviation) if self.is_watching else None

    def add(self, value: float, sequence: int) -> Drift | None:
        """Take one finite value of one part.

        Args:
            value: The quantity.
            sequence: The part's number.

        Returns:
            The drift, once: with it the watch is over.
        """
        if self._found is not None:
            return None
        if self._skip:
            self._skip -= 1
            return None
        # By chance up to half as many more: nests that take turns are all seen.
        self._skip = self._stride - 1 + self._random.randint(0, self._stride // 2)
        # A place by chance among equal values: no two values of the reference are then the same.
        placed = (value, self._random.random())
        if not self._edges:
            self._learn(placed)
            return None
        bin_index = bisect_left(self._edges, placed)
        below = sum(self._weights[:bin_index])
        weight = self._weights[bin_index]
        low = _normal_score(below, self._total)
        high = _normal_score(below + weight, self._total)
        share = self._total / weight
        standardised = (value - self._centre) / self._deviation if self._deviation else 0.0
        for account in self._accounts:
            account.add(account.bet.probability(low, high) * share, standardised, sequence)
        self._weights[bin_index] += 1
        self._total += 1
        if sum(each.total for each in self._accounts) < self._limit:
            return None
        best = max(self._accounts, key=lambda each: each.total)
        if best.bet.direction is Direction.WIDER:
            shifts = [each for each in self._accounts if each.bet.direction is not Direction.WIDER]
            shift = max(shifts, key=lambda each: each.total)
            best = shift if shift.total > SHIFT_SHARE * best.total else best
        self._found = Drift(best.bet.direction, self._size(best), best.since)
        return self._found

    def _size(self, account: _Account) -> float | None:
        if not self._deviation:
            return None
        if account.bet.direction is Direction.WIDER:
            return math.sqrt(account.squares / account.count)
        return account.sum / account.count

    def _learn(self, placed: tuple[float, float]) -> None:
        self._learnt.append(placed)
        wanted = self._reference_parts
        if self._stride > 1:
            wanted = min(wanted, STRIDE_REFERENCE_PARTS)
        if len(self._learnt) < wanted:
            return
        if self._stride == 1:
            self._stride = stride_for(self._learnt)
            if self._stride > 1:
                # Learnt anew from values that do not know of this choice.
                self._learnt.clear()
                self._skip = self._stride - 1
                return
        ordered = sorted(self._learnt)
        self._learnt.clear()
        ranks = edge_ranks(len(ordered))
        self._edges = [ordered[rank - 1] for rank in ranks]
        ends = [0, *ranks, len(ordered) + 1]
        self._weights = [high - low for low, high in pairwise(ends)]
        self._total = len(ordered) + 1
        self._centre = ordered[len(ordered) // 2][0]
        low, high = (ordered[int(share * len(ordered))][0] for share in (0.1587, 0.8413))
        self._deviation = (high - low) / 2


def edge_ranks(count: int) -> list[int]:
    """Which of so many values in order are the edges of bins: fine in the tails, where bets pay."""
    lower, rank = [], 1
    while rank <= count // 4:
        lower.append(rank)
        rank *= 2
    if lower[-1] < 3 * count // 8:
        lower.append(3 * count // 8)
    return sorted({*lower, (count + 1) // 2, *(count + 1 - each for each in lower)})


def stride_for(placed: list[tuple[float, float]]) -> int:
    """The shortest distance at which values do not resemble each other, by their ranks.

    Nests that take turns, whose values go up and down, resemble nobody on balance.
    """
    count = len(placed)
    order = sorted(range(count), key=placed.__getitem__)
    ranks = [0.0] * count
    for rank, index in enumerate(order):
        ranks[index] = rank - (count - 1) / 2
    variance = sum(each * each for each in ranks) / count

    @cache
    def correlation(lag: int) -> float:
        pairs = zip(ranks, ranks[lag:], strict=False)
        return sum(a * b for a, b in pairs) / (count - lag) / variance

    def inflation(stride: int, lags: int) -> float:
        """By how much sums of neighbours vary more than those of strangers."""
        within = range(1, min(lags, count // 2 // stride) + 1)
        return 2 * sum((1 - lag / (lags + 1)) * correlation(lag * stride) for lag in within)

    longest = min(LONGEST_STRIDE, count // 8)
    for stride in range(1, longest):
        if all(inflation(stride, lags) < limit for lags, limit in RESEMBLANCE.items()):
            return stride
    return max(longest, 1)


def _normal_score(below: int, total: int) -> float:
    if below == 0:
        return -math.inf
    if below == total:
        return math.inf
    return _NORMAL.inv_cdf(below / total)
