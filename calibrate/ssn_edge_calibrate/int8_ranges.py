"""How far a tensor's INT8 values shall reach, from what was seen of it.

A histogram of magnitudes serves all methods after one pass over the pictures. Its bins have a width
that is a power of two and merge in pairs when a larger value comes: neither the order of the
pictures nor what came first changes a count. Methods share one convention: a range is symmetric,
and its end is the value of the step 127.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import FloatArray
from ssn_edge_runtime.errors import CalibrationError

_EULER = 0.5772156649015329
"""Euler and Mascheroni's constant: the mean of Gumbel's law."""

Counts = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

BINS = 8192
"""Between 0 and a power of two above the largest magnitude: at least 32 in a step of INT8."""
LEVELS = 127
"""Steps on each side of zero."""
ENTROPY_BINS = 2048
"""As TensorRT's entropy calibrator had: fewer samples a bin would make the divergence noisy."""
MSE_CANDIDATES = 256
FURTHER_PICTURES = 10
"""The return level is for so many times as many pictures as were seen."""
LARGEST_REACH = 2.0
"""A range ends at the largest magnitude seen times this at the most: beyond it steps get coarse."""
SMALLEST_SHARE = 16
"""A range ends at the largest magnitude over this at the least; below it bins are too coarse."""


class RangeMethod(Enum):
    """How a range is chosen from the magnitudes seen."""

    MAX = "max"
    RETURN_LEVEL = "return-level"
    """What a picture's largest magnitude exceeds once in ten times as many pictures as seen."""
    PERCENTILE_99_9 = "percentile-99.9"
    PERCENTILE_99_99 = "percentile-99.99"
    PERCENTILE_99_999 = "percentile-99.999"
    ENTROPY = "entropy"
    MSE = "mse"

    @property
    def share(self) -> float | None:
        """Share of values inside the range, of a percentile."""
        return _SHARES.get(self)


_SHARES: Mapping[RangeMethod, float] = {
    RangeMethod.PERCENTILE_99_9: 0.999,
    RangeMethod.PERCENTILE_99_99: 0.9999,
    RangeMethod.PERCENTILE_99_999: 0.99999,
}


class MagnitudeHistogram:
    """Counts of a tensor's magnitudes, in bins of one width from zero on.

    Attributes:
        counts: (BINS,), exact zeros left out.
        zeros: Values that were exactly zero.
        largest: Largest magnitude, exact; 0 before there is one.
        is_signed: Whether a value below zero was seen.
        bound: What no value can exceed, if that is known; else 0.
    """

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.largest = 0.0
        self.is_signed = False
        self.bound = 0.0
        self._maxima: list[float] = []  # of each picture
        self._top = 0.0  # a power of two above `largest`

    @property
    def width(self) -> float:
        """Of a bin."""
        return self._top / BINS

    @property
    def total(self) -> int:
        """Values seen, zeros among them."""
        return self.zeros + int(self.counts.sum())

    def return_level(self, times: int) -> float:
        """What one in so many times as many pictures reaches beyond.

        By Gumbel's law for the largest of many values, fitted by mean and deviation.

        Source:
            Coles, An Introduction to Statistical Modeling of Extreme Values, section 3.3.
        """
        count = len(self._maxima)
        if not count:
            return 0.0
        # Exact sums: the order of the pictures changes nothing.
        mean = math.fsum(self._maxima) / count
        variance = math.fsum((each - mean) ** 2 for each in self._maxima) / count
        scale = math.sqrt(6 * variance) / math.pi
        return mean + scale * (math.log(times * count) - _EULER)

    def add(self, values: FloatArray) -> None:
        """Count a tensor's values in one picture.

        Raises:
            CalibrationError: One of them is NaN or infinite.
        """
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        largest = float(magnitudes.max(initial=0.0))
        if not math.isfinite(largest):
            raise CalibrationError("a value is NaN or infinite")
        self._grow(largest)
        self.largest = max(self.largest, largest)
        self._maxima.append(largest)
        self.is_signed = self.is_signed or bool((values < 0).any())
        zeros = magnitudes.size - int(np.count_nonzero(magnitudes))
        self.zeros += zeros
        if not largest:
            return
        # By a power of two, so nothing is rounded; in float64, as BINS / top may exceed float32.
        bins = (magnitudes * np.float64(BINS / self._top)).astype(np.int64)
        self.counts += np.bincount(bins, minlength=BINS)
        self.counts[0] -= zeros

    def _grow(self, largest: float) -> None:
        """Let the bins reach beyond a magnitude."""
        wanted = math.ldexp(1.0, math.frexp(largest)[1]) if largest else 0.0
        if not self._top:
            self._top = wanted
        while self._top < wanted:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self._top *= 2


def range_of(histogram: MagnitudeHistogram, method: RangeMethod) -> float:
    """The largest magnitude that INT8 shall represent.

    Returns:
        At most the largest magnitude seen; of the return level, the bound where there is one, else
        at most twice the largest magnitude. 0 if nothing but zeros was seen.
    """
    largest = histogram.largest
    if not largest or method is RangeMethod.MAX:
        return largest
    if method is RangeMethod.RETURN_LEVEL:
        if histogram.bound:
            return max(histogram.bound, largest)
        level = histogram.return_level(FURTHER_PICTURES)
        return min(max(level, largest), LARGEST_REACH * largest)
    if method.share is not None:
        found = _percentile(histogram, method.share)
    else:
        choose: Mapping[RangeMethod, Callable[[MagnitudeHistogram], float]] = {
            RangeMethod.ENTROPY: _least_divergence,
            RangeMethod.MSE: _least_squares,
        }
        found = choose[method](histogram)
    return min(max(found, histogram.largest / SMALLEST_SHARE), histogram.largest)


def _percentile(histogram: MagnitudeHistogram, share: float) -> float:
    """The upper edge of the first bin up to which this share of all values lies."""
    cumulated = histogram.zeros + np.cumsum(histogram.counts)
    # A share such as 0.999 is a little off in binary; ranks are whole numbers.
    rank = math.ceil(round(share * histogram.total, 6))
    return float(np.searchsorted(cumulated, rank) + 1) * histogram.width


def _least_squares(histogram: MagnitudeHistogram) -> float:
    """The end of the range with the smallest mean square error of rounding and clipping."""
    seen = np.flatnonzero(histogram.counts)
    middles: Weights = (seen.astype(np.float64) + 0.5) * histogram.width
    weights: Weights = histogram.counts[seen].astype(np.float64)
    ends = np.linspace(1 / SMALLEST_SHARE, 1.0, MSE_CANDIDATES) * histogram.largest
    errors = []
    for end in ends:
        step = end / LEVELS
        rounded = np.minimum(np.rint(middles / step), LEVELS) * step
        errors.append(float(weights @ (middles - rounded) ** 2))
    return float(ends[int(np.argmin(errors))])


def _least_divergence(histogram: MagnitudeHistogram) -> float:
    """The end of the range whose quantised distribution is nearest to the one that was seen.

    Nearest by Kullback-Leibler divergence, the rule of TensorRT's entropy calibrator: what is
    clipped counts at the end of the range; a level's mass is spread over those of its bins that are
    not empty.
    """
    counts: Weights = histogram.counts.reshape(ENTROPY_BINS, -1).sum(axis=1).astype(np.float64)
    last = int(np.flatnonzero(counts)[-1]) + 1
    best, best_divergence = last, math.inf
    for end in range(min(LEVELS + 1, last), last + 1):
        divergence = _divergence(counts, end)
        if divergence < best_divergence:
            best, best_divergence = end, divergence
    return best * histogram.width * (BINS // ENTROPY_BINS)


def _divergence(counts: Weights, end: int) -> float:
    """Of the counts, clipped to the first `end` bins, from their quantised form."""
    seen = counts[:end].copy()
    kept = counts[:end]
    seen[-1] += counts[end:].sum()
    levels = min(LEVELS + 1, end)
    starts = (np.arange(levels) * end) // levels
    filled = (seen > 0).astype(np.float64)
    mass = np.add.reduceat(kept, starts)
    bins = np.add.reduceat(filled, starts)
    spread = np.divide(mass, bins, out=np.zeros(levels), where=bins > 0)
    quantised = np.repeat(spread, np.diff([*starts, end])) * filled
    if not quantised.sum():
        return math.inf
    wanted = seen / seen.sum()
    given = quantised / quantised.sum()
    present = wanted > 0
    # A bin of the one and not of the other has no finite divergence; a tiny mass stands in.
    given = np.maximum(given[present], 1e-12)
    return float(np.sum(wanted[present] * np.log(wanted[present] / given)))
