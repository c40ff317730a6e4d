"""Logits as numbers that people can read: the only place where a score becomes one."""

from __future__ import annotations

import math

SIGMOID_REACH = 8.0
"""Logits from the threshold to where the sigmoid is followed; beyond, it would soon be flat."""
_JUST_BELOW_HALF = math.nextafter(0.5, 0.0)
_REST = 1.0 / (1.0 + math.exp(SIGMOID_REACH))
"""What the sigmoid is from its end there."""


def normalised_score(logit: float, threshold: float) -> float:
    """A logit as a number above 0 and below 1, at least 0.5 exactly where it fails.

    The sigmoid of the distance from the threshold, up to 8 logits of it. Beyond, a tail that leaves
    it without a kink and falls as one over the distance: the sigmoid itself is 1 from 37 logits on,
    and a part far above the threshold could not be told from one further still. Strictly monotone
    for logits within 10 000 of zero that are a step of float32 apart (2 ** -24 of the distance, and
    at least 1e-9).

    Decisions are made on logits.

    Args:
        logit: Finite or infinite.
        threshold: Finite.
    """
    distance = logit - threshold
    far = abs(distance)
    if far <= SIGMOID_REACH:
        rest = 1.0 / (1.0 + math.exp(far))
    else:
        rest = _REST / (1.0 + (far - SIGMOID_REACH) * (1.0 - _REST))
    if distance < 0.0:
        # A logit just below the threshold passes: rounding must not show it at the threshold.
        return min(rest, _JUST_BELOW_HALF)
    return 1.0 - rest
