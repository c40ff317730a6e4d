"""Pictures that belong together count once: a bound is about parts that are independent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


def highest_of_groups(scores: npt.NDArray[np.float64], groups: Sequence[str]) -> dict[str, float]:
    """Each group's highest score: that of a good part that must pass in all of its pictures.

    A bound on it bounds the share of single pictures, too, as long as groups have as many.

    Args:
        scores: (n,), infinite ones included.
        groups: Name of each one's group.
    """
    found: dict[str, float] = {}
    for score, group in zip(scores.tolist(), groups, strict=True):
        found[group] = max(score, found.get(group, score))
    return found


def lowest_of_groups(scores: npt.NDArray[np.float64], groups: Sequence[str]) -> dict[str, float]:
    """Each group's lowest score: that of a defect that must be caught in all of its pictures."""
    return {name: -score for name, score in highest_of_groups(-scores, groups).items()}


def first_half(groups: Iterable[str]) -> frozenset[str]:
    """Half of the groups, and one more of an odd number; which, a hash of their names decides."""
    ordered = sorted(set(groups), key=lambda name: (_digest(name), name))
    return frozenset(ordered[::2])


def _digest(name: str) -> bytes:
    return hashlib.sha256(f"half {name}".encode("utf-8", "surrogateescape")).digest()
