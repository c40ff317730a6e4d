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
from statistics import NormalDist

from ssn_edge_runtime.supervision.drift_reference import (
    REFERENCE_PARTS,
    STRIDE_REFERENCE_PARTS,
    Placed,
    Reference,
    reference_of,
    stride_for,
)

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
        reference: Learnt before; None learns one.
        seed: For the order of equal values.
    """

    def __init__(
        self,
        alarm_every: float,
        *,
        reference_parts: int = REFERENCE_PARTS,
        reference: Reference | None = None,
        seed: int = 0,
    ) -> None:
        self._limit = alarm_every * len(BETS)
        self._reference_parts = reference_parts
        self._random = random.Random(seed)
        self._stride = 1
        self._skip = 0
        self._learnt: list[Placed] = []
        self._edges: tuple[Placed, ...] = ()
        self._weights: list[int] = []
        self._total = 0
        self._centre = 0.0
        self._deviation = 0.0
        self._accounts = [_Account(bet) for bet in BETS]
        self._found: Drift | None = None
        if reference is not None:
            self._begin(reference)
            self._random.seed(
                seed + self._total
            )  # else equal values had the places of those learnt

    @property
    def found(self) -> Drift | None:
        """The drift that ended the watch."""
        return self._found

    @property
    def stride(self) -> int:
        """One in so many values is taken."""
        return self._stride

    @property
    def reference(self) -> Reference | None:
        """As it is now; None while it is learnt."""
        if not self._edges:
            return None
        return Reference(
            self._edges, tuple(self._weights), self._stride, self._centre, self._deviation
        )

    @property
    def is_watching(self) -> bool:
        """Whether a reference is learnt."""
        return bool(self._edges)

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

    def _learn(self, placed: Placed) -> None:
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
        self._begin(reference_of(self._learnt, self._stride))
        self._learnt.clear()

    def _begin(self, reference: Reference) -> None:
        self._edges, self._weights = reference.edges, list(reference.weights)
        self._total = sum(self._weights)
        self._stride = reference.stride
        self._centre, self._deviation = reference.centre, reference.deviation


def _normal_score(below: int, total: int) -> float:
    if below == 0:
        return -math.inf
    if below == total:
        return math.inf
    return _NORMAL.inv_cdf(below / total)
