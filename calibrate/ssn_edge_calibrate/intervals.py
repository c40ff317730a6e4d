"""How far a measured share may be from the true one, also where pictures belong together.

An interval holds the true value in at least `CONFIDENCE` of all samples. Pictures of one group (the
same part shot several times) tell less than as many single ones; `effective_count` says how much.

Source:
    Korn and Graubard, Confidence intervals for proportions with small expected number of positive
    counts, 1998; Wilson, 1927; Newcombe, Confidence intervals for an effect size measure based on
    the Mann-Whitney statistic, part 2, 2006 (method 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.exact_interval import CONFIDENCE, exact_interval

Groups: TypeAlias = Sequence[Hashable | None] | None
"""One name a picture, equal for pictures that belong together; None is a group of its own."""

_Floats: TypeAlias = npt.NDArray[np.float64]
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a share lies with a confidence of `CONFIDENCE`; both ends belong to it."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= value <= self.high

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def to_dict(self) -> dict[str, float]:
        """Both ends by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of pictures (or regions) with its interval.

    Args:
        hits: Those that count.
        count: All.
        effective_count: Independent pictures that would tell as much; `count` without groups.
        interval: Of the share; None of nothing.
    """

    hits: int
    count: int
    effective_count: float
    interval: Interval | None

    @property
    def share(self) -> float | None:
        """Hits of all; None of nothing."""
        return self.hits / self.count if self.count else None

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {**asdict(self), "share": self.share}


def rate_of(hits: Sequence[bool] | npt.NDArray[np.bool_], groups: Groups = None) -> Rate:
    """A share with its exact interval; with groups, that of as many independent pictures.

    Args:
        hits: One a picture.
        groups: One a picture; None if every picture is a group of its own.

    Raises:
        ValueError: Not one group a picture.
    """
    values = np.asarray(hits, dtype=np.float64)
    found, count = int(values.sum()), values.size
    if not count:
        return Rate(0, 0, 0.0, None)
    independent = effective_count(values, groups)
    # Of part of a picture nothing is exact: rounded to the side that makes the interval wider.
    trials = max(1, math.floor(independent + 1e-9))
    mean = found / count
    few, many = math.floor(mean * trials + 1e-9), math.ceil(mean * trials - 1e-9)
    return Rate(
        found,
        count,
        independent,
        Interval(exact_interval(few, trials)[0], exact_interval(many, trials)[1]),
    )


def score_interval(share: float, count: float) -> Interval:
    """Wilson's interval of a mean of values from 0 to 1; it is never empty, also at 0 and 1."""
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = (
        _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    )
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def auroc_interval(area: float, normal: float, anomalous: float) -> Interval:
    """Newcombe's interval of the area under a ROC curve; it is never empty, also at 1.

    Args:
        area: As measured.
        normal: Independent normal pictures.
        anomalous: Independent anomalous pictures.
    """
    more = (normal + anomalous) / 2 - 1

    def is_believable(true: float) -> bool:
        spread = 1 + max(0.0, more) * ((1 - true) / (2 - true) + true / (1 + true))
        variance = true * (1 - true) * spread / (normal * anomalous)
        return abs(true - area) <= _Z * math.sqrt(max(0.0, variance))

    return Interval(
        _border(area, 0.0, is_believable),
        _border(area, 1.0, is_believable),
    )


def effective_count(values: _Floats, groups: Groups = None) -> float:
    """How many independent pictures would tell as much of the values' mean as these grouped ones.

    Their number over the design effect: the mean's variance between groups to that of single
    pictures. Never more than there are. Where the values are all alike nothing shows whether groups
    agree by themselves, and each group counts once (large groups for more than they tell, so
    fewer than there are groups: Kish's number).

    Args:
        values: (n,), at least one.
        groups: One a value; None if every picture is a group of its own.

    Raises:
        ValueError: Not one group a value.
    """
    count = values.size
    if groups is None or not count:
        return float(count)
    ids = group_ids(groups, count)
    sizes = np.bincount(ids)
    fewest = float(count**2 / np.sum(sizes.astype(np.float64) ** 2))
    off = values - values.mean()
    if not off.any() or sizes.size == 1:
        return fewest
    single = float(np.sum(off**2)) / (count - 1)
    grouped = float(np.sum(np.bincount(ids, weights=off) ** 2)) / count
    grouped *= sizes.size / (sizes.size - 1)
    return min(float(count), max(fewest, count * single / grouped)) if grouped else float(count)


def group_ids(groups: Groups, count: int) -> npt.NDArray[np.int64]:
    """The groups as numbers from 0, (count,); every None is a number of its own.

    Raises:
        ValueError: Not one group a picture.
    """
    if groups is None:
        return np.arange(count, dtype=np.int64)
    if len(groups) != count:
        raise ValueError(f"{len(groups)} groups and {count} pictures: one of each a picture")
    numbers: dict[Hashable, int] = {}
    return np.array(
        [
            numbers.setdefault(("alone", place) if name is None else ("group", name), len(numbers))
            for place, name in enumerate(groups)
        ],
        dtype=np.int64,
    )


def _border(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Where, from `inside` to `outside`, something ends to hold; to the last bits."""
    if holds(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return outside
