"""What a drift chart compares with: some hundred values of the line, as the edges of bins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

REFERENCE_PARTS = 256
"""Values that the reference is learnt from, where neighbours do not resemble each other."""
STRIDE_REFERENCE_PARTS = 64
"""The same, where only every so many-th value is taken."""
LONGEST_STRIDE = 32
RESEMBLANCE = {1: 0.13, 4: 0.28, 16: 0.6}
"""For so many neighbours on either side, the inflation of their sums' variance from which on they
count as alike. Parts that know nothing of each other reach it in one reference of 25, and are then
watched a little slower; a likeness of 0.2 that went unseen would alarm four times too often."""
Placed = tuple[float, float]
"""A value, and its place by chance among those that equal it: no two of them are the same."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A learnt distribution.

    Args:
        edges: Of the bins, in order.
        weights: Of the bins, one more than edges: how many gaps between learnt values each holds,
            and how many values fell into it since.
        stride: One in so many values is taken.
        centre: Median of what was learnt.
        deviation: Half of what its middle 68 % span.
    """

    edges: tuple[Placed, ...]
    weights: tuple[int, ...]
    stride: int
    centre: float
    deviation: float

    def __post_init__(self) -> None:
        """Refuse what was never learnt.

        Raises:
            ValueError: The numbers do not go together.
        """
        numbers = [self.centre, self.deviation, *(each for edge in self.edges for each in edge)]
        if (
            not self.edges
            or not all(math.isfinite(each) for each in numbers)
            or not all(low < high for low, high in pairwise(self.edges))
            or len(self.weights) != len(self.edges) + 1
            or min(self.weights) < 1
            or not 1 <= self.stride <= LONGEST_STRIDE
            or self.deviation < 0
        ):
            raise ValueError("the numbers of a reference do not go together")


def reference_of(learnt: list[Placed], stride: int) -> Reference:
    """The reference that values are, 8 or more."""
    ordered = sorted(learnt)
    ranks = edge_ranks(len(ordered))
    low, high = (ordered[int(share * len(ordered))][0] for share in (0.1587, 0.8413))
    return Reference(
        edges=tuple(ordered[rank - 1] for rank in ranks),
        weights=tuple(high - low for low, high in pairwise([0, *ranks, len(ordered) + 1])),
        stride=stride,
        centre=ordered[len(ordered) // 2][0],
        deviation=(high - low) / 2,
    )


def edge_ranks(count: int) -> list[int]:
    """Which of so many values in order are the edges of bins: fine in the tails, where bets pay."""
    lower, rank = [], 1
    while rank <= count // 4:
        lower.append(rank)
        rank *= 2
    if lower[-1] < 3 * count // 8:
        lower.append(3 * count // 8)
    return sorted({*lower, (count + 1) // 2, *(count + 1 - each for each in lower)})


def stride_for(placed: list[Placed]) -> int:
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
