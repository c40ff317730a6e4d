"""Learning curves of a report, as inline SVG: loss and its terms, separation, learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup

from ssn_edge.evaluation.axes import Axis, line_path, number_text, ticks
from ssn_edge.evaluation.training_curves import TrainingCurves

Line = Sequence[float | None]

_NAMES = {
    "l1_normal": "L1, normal",
    "l1_anomalous": "L1, anomalous",
    "focal": "focal, map",
    "classification": "focal, score",
    "loss": "sum",
}
"""Columns that are drawn as losses, with their names for people; the last one lies on top."""
_WIDE, _NARROW = (540, 330), (300, 300)
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 16, 12, 46


@dataclass(frozen=True, slots=True)
class TrainingCharts:
    """The drawings of a training.

    Args:
        source: Where the numbers are from.
        legend: Name and style of each loss.
        losses: SVG.
        separation: SVG, or None if it is not known.
        learning_rate: SVG, or None if it is not known.
    """

    source: str
    legend: tuple[tuple[str, str], ...]
    losses: Markup
    separation: Markup | None
    learning_rate: Markup | None


def training_charts(curves: TrainingCurves) -> TrainingCharts:
    """Draw learning curves."""
    drawn = [name for name in _NAMES if name in curves.losses]
    separation = learning_rate = None
    known = [value for value in curves.separation if value is not None]
    if known:
        low = 0.5 if min(known) >= 0.5 else 0.0
        separation = _chart(
            "Separation", {"separation": curves.separation}, curves, (low, 1.0), _NARROW
        )
    if curves.learning_rate:
        top = 1.1 * max(curves.learning_rate)
        learning_rate = _chart(
            "Learning rate", {"learning-rate": curves.learning_rate}, curves, (0.0, top), _NARROW
        )
    lines = {_style(name): curves.losses[name] for name in drawn}
    return TrainingCharts(
        source=curves.source,
        legend=tuple((_NAMES[name], _style(name)) for name in reversed(drawn)),
        losses=_chart("Loss", lines, curves, (0.0, _loss_top(curves.losses["loss"])), _WIDE),
        separation=separation,
        learning_rate=learning_rate,
    )


def _style(column: str) -> str:
    """The class that gives a line its colour."""
    return column.replace("_", "-")


def _loss_top(losses: Sequence[float]) -> float:
    """Where the loss axis ends: a short spike leaves it, or the rest would be flat."""
    highest, usual = max(losses), float(np.percentile(losses, 95))
    return 1.05 * highest if highest <= 2 * usual else 1.5 * usual


def _chart(
    name: str,
    lines: Mapping[str, Line],
    curves: TrainingCurves,
    limits: tuple[float, float],
    size: tuple[int, int],
) -> Markup:
    """Lines over steps or epochs, with axes; what lies beyond the limits is drawn at them."""
    width, height = size
    low, high = limits if limits[0] < limits[1] else (limits[0], limits[0] + 1)
    x = Axis(0, curves.at[-1], _LEFT, width - _RIGHT)
    y = Axis(low, high, height - _BOTTOM, _TOP)
    bottom = y.start
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">']
    for value in ticks(low, high, 5):
        place = y.place(value)
        parts.append(
            f'<path class="grid" d="M{x.start:g} {place}H{x.end:g}"/>'
            f'<text class="tick" text-anchor="end" x="{x.start - 6:g}" y="{place + 4:g}">'
            f"{number_text(value)}</text>"
        )
    for value in ticks(0, curves.at[-1], 8 if width > 400 else 4):
        place = x.place(value)
        parts.append(
            f'<line class="axis" x1="{place}" x2="{place}" y1="{bottom:g}" y2="{bottom + 4:g}"/>'
            f'<text class="tick" text-anchor="middle" x="{place}" y="{bottom + 17:g}">'
            f"{number_text(value)}</text>"
        )
    parts.append(
        f'<line class="axis" x1="{x.start:g}" x2="{x.end:g}" y1="{bottom:g}" y2="{bottom:g}"/>'
        f'<text class="label" text-anchor="middle" x="{(x.start + x.end) / 2:g}" '
        f'y="{height - 8}">{curves.unit}</text>'
    )
    for style, line in lines.items():
        path = " ".join(line_path(run, x, y) for run in _unbroken(curves.at, line, low, high))
        parts.append(f'<path class="line {style}" d="{path}"/>')
    return Markup("".join([*parts, "</svg>"]))  # numbers and our own words only


def _unbroken(
    at: Sequence[float], line: Line, low: float, high: float
) -> Iterator[list[tuple[float, float]]]:
    """The stretches of a line without a gap."""
    for is_known, run in groupby(zip(at, line, strict=True), key=lambda each: each[1] is not None):
        if is_known:
            yield [(across, min(max(up, low), high)) for across, up in run if up is not None]
