"""A few pictures that stand for many: half nearest the threshold, half over all scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def representatives(scores: Sequence[float], threshold: float, count: int) -> list[int]:
    """Choose pictures by their scores.

    In turn, the score nearest the threshold and the one farthest from all that were chosen, of
    those that are left: any beginning of the list is half the one and half the other.

    Args:
        scores: Finite logits.
        threshold: The logit whose neighbourhood matters most.
        count: Pictures wanted.

    Returns:
        Indices into `scores`, `count` of them or all; each once.
    """
    values = np.asarray(scores, dtype=np.float64)
    from_threshold = np.abs(values - threshold)
    from_chosen = np.full(values.shape, np.inf)
    is_left = np.ones(values.shape, dtype=np.bool_)
    chosen: list[int] = []
    while len(chosen) < min(count, values.size):
        if len(chosen) % 2 == 0:
            index = int(np.argmin(np.where(is_left, from_threshold, np.inf)))
        else:
            index = int(np.argmax(np.where(is_left, from_chosen, -1.0)))
        chosen.append(index)
        is_left[index] = False
        from_chosen = np.minimum(from_chosen, np.abs(values - values[index]))
    return chosen
