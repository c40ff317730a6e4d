"""Whether the verdicts hold over brightness and over time: scores and rejects along an axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssn_edge.evaluation.evaluate import Evaluation, JudgedItem
from ssn_edge_calibrate.trend import RankCorrelation, RateAt, rank_correlation, rates_along
from ssn_edge_runtime.decision import Verdict


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One judged picture on an axis.

    Args:
        place: On the axis.
        score: By the scoring rule; None without a judgement.
        label: 0 normal, 1 anomalous.
        verdict: What the line would have been told.
    """

    place: float
    score: float | None
    label: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Trend:
    """Scores and rejects along one axis.

    Args:
        points: All pictures that have a place on it.
        correlation: Rank correlation of good parts' scores with their places; None where there are
            too few, or all are alike.
        rejects: The share of good parts that were rejected, in parts of the axis.
    """

    points: tuple[TrendPoint, ...]
    correlation: RankCorrelation | None
    rejects: tuple[RateAt, ...]

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {
            "points": [[p.place, p.score, p.label, p.verdict.value] for p in self.points],
            "correlation": None if self.correlation is None else self.correlation.to_dict(),
            "rejects": [each.to_dict() for each in self.rejects],
        }


@dataclass(frozen=True, slots=True)
class Reliability:
    """The two axes.

    Args:
        brightness: Mean grey level of the judged region, 0 to 255.
        order: Place among the good parts in the order of their names, from 1: cameras number their
            pictures, and a data set states no times.
    """

    brightness: Trend
    order: Trend

    def to_dict(self) -> dict[str, object]:
        """Both by name, ready for JSON."""
        return {"brightness": self.brightness.to_dict(), "order": self.order.to_dict()}


def reliability_of(evaluation: Evaluation) -> Reliability:
    """How scores and rejects of an evaluation lie over brightness and order."""
    normals = [each for each in evaluation.judged if not each.item.is_anomalous]
    ordered = sorted(normals, key=_name_key)
    place_of = {id(each): float(place) for place, each in enumerate(ordered, start=1)}
    return Reliability(
        brightness=_trend(evaluation.judged, lambda each: each.brightness),
        order=_trend(ordered, lambda each: place_of[id(each)]),
    )


def _trend(judged: Sequence[JudgedItem], place: Callable[[JudgedItem], float]) -> Trend:
    points = tuple(
        TrendPoint(place(each), each.decision.raw_score, each.item.label, each.decision.verdict)
        for each in judged
    )
    normals = [each for each in judged if not each.item.is_anomalous]
    scored = [
        (place(each), each.decision.raw_score, each.item.group)
        for each in normals
        if each.decision.raw_score is not None
    ]
    return Trend(
        points,
        rank_correlation(
            [at for at, _, _ in scored],
            [score for _, score, _ in scored],
            [group for _, _, group in scored],
        ),
        rates_along(
            [place(each) for each in normals],
            [each.decision.verdict is not Verdict.PASS for each in normals],
            [each.item.group for each in normals],
        ),
    )


def _name_key(each: JudgedItem) -> tuple[list[tuple[int, int, str]], str]:
    """By file name, numbers by their value: 2 comes before 10."""
    parts = re.split(r"(\d+)", each.item.image.name)
    return (
        [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part],
        each.item.image.as_posix(),
    )
