"""From times to what may be said of them: percentiles, and ratios with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Percentiles:
    """A distribution; None where there are too few values to tell.

    Args:
        count: How many values.
        p50: The median.
        p95: Told from 20 values on.
        p99: Told from 100 values on.
        max: The largest.
    """

    count: int
    p50: float
    p95: float | None
    p99: float | None
    max: float

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return {
            "count": self.count,
            "p50": self.p50,
            "p95": self.p95,
            "p99": self.p99,
            "max": self.max,
        }


def percentiles(values: Sequence[float]) -> Percentiles:
    """Of at least one value; a percentile that no value lies beyond is left out."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))

    def quantile(share: float) -> float | None:
        # Rounded: 1 - 0.95 is a little more than 0.05.
        enough = round(len(ordered) * (1 - share), 9) >= 1
        return float(np.quantile(ordered, share)) if enough else None

    return Percentiles(
        count=len(ordered),
        p50=float(np.median(ordered)),
        p95=quantile(0.95),
        p99=quantile(0.99),
        max=float(ordered[-1]),
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one thing is as another.

    Args:
        median: Over the rounds.
        low: Lower end of the interval that holds the true median with `CONFIDENCE`; None for fewer
            than six rounds, which cannot bound it.
        high: Its upper end.
        rounds: Pairs that were compared.
    """

    median: float
    low: float | None
    high: float | None
    rounds: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return {"median": self.median, "low": self.low, "high": self.high, "rounds": self.rounds}


def ratio_of(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The ratio of the first of each pair to the second, taken pair by pair.

    The interval is the sign test's: it assumes nothing of the distribution, and a machine that
    drifts moves both values of a pair alike.
    """
    ratios = sorted(first / second for first, second in pairs)
    left_out = _left_out_at_each_end(len(ratios))
    return Ratio(
        median=float(np.median(ratios)),
        low=None if left_out is None else ratios[left_out],
        high=None if left_out is None else ratios[-1 - left_out],
        rounds=len(ratios),
    )


def _left_out_at_each_end(count: int) -> int | None:
    """How many of the least, and of the largest, lie outside the interval of the median."""
    below, left_out = 0.0, None
    for k in range(count):
        below += math.comb(count, k) / 2**count  # chance that at most k lie below the median
        if 2 * below > 1 - CONFIDENCE:
            break
        left_out = k
    return left_out
