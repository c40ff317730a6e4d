"""Seven numbers of several runs: their mean and their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Values = tuple[float | None, ...]
"""One number for each metric, in per cent; None where the data give it no meaning."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Mean and deviation for each metric.

    Args:
        mean: In per cent.
        std: Sample deviation (n - 1) over runs; None for a single run.
    """

    mean: Values
    std: Values


def mean_of(rows: Sequence[Values]) -> Values:
    """The mean of each column; None where any of its values is."""
    return tuple(_mean(column) for column in zip(*rows, strict=True))


def figures_of(runs: Sequence[Values]) -> Figures:
    """Mean and sample deviation of each column over runs, at least one."""
    return Figures(mean_of(runs), tuple(_std(column) for column in zip(*runs, strict=True)))


def _mean(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return statistics.fmean(known) if len(known) == len(column) else None


def _std(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return statistics.stdev(known) if len(known) == len(column) and len(known) > 1 else None
