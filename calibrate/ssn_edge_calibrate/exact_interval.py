"""A share with its exact interval: what a count of parts says about all of them."""

from __future__ import annotations

import math

CONFIDENCE = 0.95
_HALVINGS = 60


def exact_interval(
    found: int, count: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Between which shares the true one lies, for parts that were drawn at random.

    Exact for every count (each end is wrong with at most half of 1 - confidence), hence wider than
    an approximation.

    Args:
        found: How many of the parts are of the kind in question.
        count: How many parts there are; 0 gives the whole range.
        confidence: Above 0 and below 1.

    Source:
        Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 1934.
    """
    if not 0 <= found <= count or not 0 < confidence < 1:
        raise ValueError(f"{found} of {count} parts at a confidence of {confidence}")
    error = (1 - confidence) / 2
    high = _share_beyond(found, count, error)
    return 1 - _share_beyond(count - found, count, error), high


def _share_beyond(found: int, count: int, error: float) -> float:
    """The share at which as few as `found` of `count` have a chance of `error`."""
    if found == count:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(found, count, middle) > error:
            low = middle
        else:
            high = middle
    return high


def _at_most(most: int, count: int, share: float) -> float:
    """The chance that at most so many of `count` parts are of a kind of this share."""
    if share in (0.0, 1.0):
        return 1.0 if share == 0.0 or most >= count else 0.0
    odds = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(
            math.lgamma(count + 1)
            - math.lgamma(k + 1)
            - math.lgamma(count - k + 1)
            + k * odds[0]
            + (count - k) * odds[1]
        )
        for k in range(most + 1)
    )
