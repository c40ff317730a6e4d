"""Logits as numbers that people can read."""

from __future__ import annotations

import math


def normalised_score(logit: float, threshold: float) -> float:
    """A logit as a number in [0, 1] with 0.5 at the threshold; monotone, for people to read.

    Decisions are made on logits: the sigmoid saturates and ties.
    """
    difference = logit - threshold
    if not -700.0 <= difference <= 700.0:  # beyond it the exponential overflows
        difference = max(-700.0, min(700.0, difference))
    return 1.0 / (1.0 + math.exp(-difference))
