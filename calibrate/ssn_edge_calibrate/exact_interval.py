"""A share with its exact interval: what a count of parts says about all of them."""

from __future__ import annotations

from fractions import Fraction

from ssn_edge_calibrate.risk_bounds import share_beyond

CONFIDENCE = 0.95


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
    error = (1 - Fraction(confidence)) / 2
    return 1 - share_beyond(count - found, count, error), share_beyond(found, count, error)
