"""Whether scores or rejects drift with something: rank correlation, and rates along an axis."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from ssn_edge_calibrate.bootstrap import drawn_weights, percentiles
from ssn_edge_calibrate.exact_interval import CONFIDENCE
from ssn_edge_calibrate.intervals import Groups, Interval, Rate, group_ids, rate_of
from ssn_edge_calibrate.metrics import Scores

MOST_PARTS = 5
FEWEST_A_PART = 8
"""Pictures; a rate of fewer says nothing."""
FEWEST = 5
"""Independent pictures from which on a rank correlation has an interval."""
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """Spearman's rank correlation with its 95 % interval.

    Args:
        value: -1 to 1.
        interval: Of it.
    """

    value: float
    interval: Interval

    @property
    def is_drift(self) -> bool:
        """Whether the pictures can tell it from none."""
        return 0.0 not in self.interval

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {**asdict(self), "is_drift": self.is_drift}


@dataclass(frozen=True, slots=True)
class RateAt:
    """The share of hits among the pictures of one part of an axis.

    Args:
        low: Smallest place in it.
        high: Largest.
        rate: Of these pictures.
    """

    low: float
    high: float
    rate: Rate

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {"low": self.low, "high": self.high, "rate": self.rate.to_dict()}


def rank_correlation(
    places: Scores, scores: Scores, groups: Groups = None
) -> RankCorrelation | None:
    """How far scores rise with places, whatever the shape of the rise.

    The interval is the hull of a bootstrap that draws groups, and Bonett's and Wright's formula
    with as many pictures as there are groups.

    Args:
        places: One a picture, finite.
        scores: One a picture, finite.
        groups: One a picture; None if every picture is a group of its own.

    Returns:
        None where places or scores are all alike, or there are fewer than `FEWEST` groups.
    """
    x, y = _ranks(places), _ranks(scores)
    count = int(group_ids(groups, x.size).max(initial=-1)) + 1
    if count < FEWEST or not np.ptp(x) or not np.ptp(y):
        return None
    value = float(np.corrcoef(x, y)[0, 1])
    resampled = []
    for weights in drawn_weights(np.zeros(x.size, dtype=np.int64), groups):
        share = weights / weights.sum(axis=1, keepdims=True)
        off_x = x - (share @ x)[:, None]
        off_y = y - (share @ y)[:, None]
        spread = np.sqrt(np.sum(share * off_x**2, axis=1) * np.sum(share * off_y**2, axis=1))
        together = np.sum(share * off_x * off_y, axis=1)
        resampled.append(np.divide(together, spread, out=np.zeros_like(spread), where=spread > 0))
    low, high = percentiles(np.concatenate(resampled))
    angle = math.atanh(max(-1 + 1e-9, min(1 - 1e-9, value)))
    half = _Z * math.sqrt((1 + value**2 / 2) / (count - 3))
    by_formula = Interval(math.tanh(angle - half), math.tanh(angle + half))
    return RankCorrelation(value, Interval(float(low), float(high)).hull(by_formula))


def rates_along(
    places: Scores, hits: Sequence[bool], groups: Sequence[Hashable | None] | None = None
) -> tuple[RateAt, ...]:
    """Rates in up to `MOST_PARTS` parts of an axis, of about as many pictures each.

    Pictures at one place are in one part.

    Args:
        places: One a picture.
        hits: One a picture.
        groups: One a picture; None if every picture is a group of its own.
    """
    x, found = np.asarray(places, dtype=np.float64), np.asarray(hits, dtype=bool)
    if not x.size:
        return ()
    parts = max(1, min(MOST_PARTS, x.size // FEWEST_A_PART))
    borders = np.quantile(x, np.linspace(0, 1, parts + 1)[1:-1])
    part_of = np.searchsorted(borders, x, side="left")
    rates = []
    for part in np.unique(part_of):
        members = np.flatnonzero(part_of == part)
        names = None if groups is None else [groups[place] for place in members.tolist()]
        rates.append(
            RateAt(float(x[members].min()), float(x[members].max()), rate_of(found[members], names))
        )
    return tuple(rates)


def _ranks(values: Scores) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Ranks from 0; a tie has the mean of its ranks."""
    array = np.asarray(values, dtype=np.float64)
    ordered = np.sort(array)
    low, high = np.searchsorted(ordered, array, "left"), np.searchsorted(ordered, array, "right")
    return np.asarray((low + high - 1) / 2, dtype=np.float64)
