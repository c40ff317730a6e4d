"""What a finite number of parts can promise about the next ones: one-sided bounds, exactly.

Parts are taken as drawn independently of one law, which may be any: no bound here assumes a shape.
``error`` is the chance that a promise does not hold, 1 - confidence; `error_of` makes it of a
confidence as it is written, so that 95 % is a twentieth and not a little more.

Source:
    Wilks, Determination of sample sizes for setting tolerance limits, 1941 (order statistics);
    Tukey, Non-parametric estimation II and III, 1947 and 1948 (blocks, ties); Clopper and Pearson,
    1934; Massart, The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality, 1990.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.errors import ConfigError

LARGEST_COUNT = 10_000_000
"""Of parts: beyond it a promise is out of any line's reach."""
_DOUBTFUL = 1e-7
"""Relative; rounding moves a tail by less, so only within it whole numbers must decide."""
_ROUNDING = 1e-9
"""What a tail may be too small by, where no whole numbers decide."""
_LARGEST_EXACT_COUNT = 20_000
"""Whole numbers beyond it take minutes. There, what is within `_DOUBTFUL` counts as too much."""


def error_of(confidence: float, promises: int = 1) -> Fraction:
    """The chance that one of several joint promises may fail by: (1 - confidence) / promises.

    Raises:
        ConfigError: The confidence is not at least 0.5 and below 1.
    """
    if not 0.5 <= confidence < 1:
        raise ConfigError(
            f"a confidence of {confidence} is none; at least 0.5 and below 1 is wanted, such as 95%"
        )
    return (1 - _as_written(confidence)) / promises


def tail(most: int, count: int, share: float) -> float:
    """The chance that at most `most` of `count` parts are of a kind that makes up `share`."""
    if most < 0:
        return 0.0
    if most >= count or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    return float(np.exp(np.logaddexp.reduce(_log_chances(most, count, share))))


def allowed_above(count: int, share: float, error: Fraction, *, thresholds: int = 1) -> int | None:
    """How many of `count` parts may lie above what is to bound a share of all parts.

    A threshold put above all but so many of the parts is exceeded by at most `share` of all parts,
    with a chance of at least 1 - error. It is one of the order statistics, so the share beyond it
    follows a beta law, and the largest rank that holds is the binomial's.

    Several thresholds, each put above parts that the ones before let pass, bound the share that
    exceeds any of them: each costs one part (Tukey's blocks), and the chance is not split.

    Args:
        count: Parts.
        share: At most so many of all parts, above 0 and below 1.
        error: See `error_of`.
        thresholds: How many are fitted to the same parts.

    Returns:
        None where `count` is too small for any.
    """
    _check_share(share)
    spent = thresholds - 1
    if count <= spent or not _is_within(spent, count, share, error):
        return None
    low, high = spent, count  # within; not within
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_within(middle, count, share, error) else (low, middle)
    return low - spent


def wanted_count(share: float, error: Fraction, *, above: int = 0, thresholds: int = 1) -> int:
    """The fewest parts that carry a promise, if so many of them lie above the threshold.

    Raises:
        ConfigError: More than `LARGEST_COUNT`.
    """
    _check_share(share)
    most = above + thresholds - 1
    low, high = most, most + 1  # not within; maybe
    while not _is_within(most, high, share, error):
        low, high = high, 2 * high
        if high > LARGEST_COUNT:
            raise ConfigError(
                f"a share of {share:g} would need more than {LARGEST_COUNT} parts; ask for less"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_within(most, middle, share, error) else (middle, high)
    return high


def share_beyond(above: int, count: int, error: Fraction) -> float:
    """The largest share that is still believable where `above` of `count` parts were seen beyond.

    For a threshold that these parts did not choose (Clopper and Pearson). With `above` + 1 in place
    of `above`, it is the smallest share that a threshold by rank can promise.

    Returns:
        At most 1; the true share lies above it with a chance of at most `error`.
    """
    if not 0 <= above <= count:
        raise ValueError(f"{above} of {count} parts")
    if above == count:
        return 1.0
    low, high, limit = 0.0, 1.0, float(error) * (1 - _ROUNDING)  # not within; within
    while True:
        middle = low + (high - low) / 2
        if not low < middle < high:
            return high
        if tail(above, count, middle) <= limit:
            high = middle
        else:
            low = middle


def share_beyond_any(above: int, count: int, error: Fraction) -> float:
    """The same where the threshold was chosen on these very parts, in whatever way.

    It holds for all thresholds at once: the smaller of two bands, each with half of `error`. One is
    Dvoretzky, Kiefer and Wolfowitz's. The other takes each rank by itself with its part of the
    error, and is much closer where few parts lie beyond.
    """
    if not 0 <= above <= count:
        raise ValueError(f"{above} of {count} parts")
    if above == count:
        return 1.0
    half = error / 2
    band = above / count + math.sqrt(math.log(1 / half) / (2 * count))
    return min(1.0, band, share_beyond(above, count, half / count))


def _is_within(most: int, count: int, share: float, error: Fraction) -> bool:
    """Whether at most `most` of `count` have a chance of at most `error`; whole numbers decide."""
    if most >= count:
        return False
    chance, limit = tail(most, count, share), float(error)
    if abs(chance - limit) > _DOUBTFUL * limit:
        return chance < limit
    if count > _LARGEST_EXACT_COUNT:
        return False
    beyond = _as_written(share)
    hit, miss = beyond.numerator, beyond.denominator - beyond.numerator
    total = sum(math.comb(count, k) * hit**k * miss ** (count - k) for k in range(most + 1))
    return bool(total * error.denominator <= error.numerator * beyond.denominator**count)


def _log_chances(most: int, count: int, share: float) -> npt.NDArray[np.float64]:
    """Logarithms of the chances of 0 to `most` of `count`."""
    step = np.arange(1, most + 1, dtype=np.float64)
    ratios = np.log((count - step + 1) / step) + (math.log(share) - math.log1p(-share))
    return count * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(ratios)])


def _as_written(number: float) -> Fraction:
    """0.01 as a hundredth; in binary it is a little more."""
    return Fraction(repr(float(number)))


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ConfigError(
            f"a share of {share} is promised, it must lie above 0 and below 1; write 0.01 for one "
            "part in a hundred"
        )
