"""Scores and rejects over brightness or time, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ssn_edge.evaluation.axes import Axis, number_text, ticks
from ssn_edge.evaluation.reliability import Trend, TrendPoint
from ssn_edge_calibrate.trend import RateAt
from ssn_edge_runtime.decision import Verdict

WIDTH, HEIGHT = 540, 400
MOST_DOTS = 600
"""Drawn; of more, a part, evenly picked, and all good parts that were rejected. JSON has all."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 14, 46
_GAP = 34
_RATES_TOP = 290
_ROUNDS_UP = 1.08


def trend_svg(trend: Trend, threshold: float, *, name: str, axis: str, unit: str) -> Markup:
    """Draw each part's score above, and the share of rejected good parts below, on one axis.

    Args:
        trend: What is drawn.
        threshold: The image threshold; scores are drawn less it.
        name: For those who cannot see it.
        axis: What places are.
        unit: What scores are counted in.
    """
    places = [each.place for each in trend.points] or [0.0]
    low, high = min(places), max(places)
    edge = 0.02 * (high - low) or 1.0
    x = Axis(low - edge, high + edge, _LEFT, WIDTH - _RIGHT)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">',
        *_scores_svg(trend.points, threshold, x, unit),
        *_rates_svg(trend.rejects, x),
    ]
    bottom = HEIGHT - _BOTTOM
    for value in ticks(low, high, 8) if high > low else [low]:
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x.place(value)}" y="{bottom + 17}">'
            f"{number_text(value)}</text>"
        )
    parts.append(
        f'<text class="label" text-anchor="middle" x="{(_LEFT + WIDTH - _RIGHT) / 2:g}" '
        f'y="{HEIGHT - 8}">{axis}</text>'
    )
    return Markup("".join([*parts, "</svg>"]))  # numbers and our own words only


def _scores_svg(points: Sequence[TrendPoint], threshold: float, x: Axis, unit: str) -> list[str]:
    scored = [
        (each, each.score - threshold)
        for each in _drawn([p for p in points if p.score is not None])
        if each.score is not None
    ]
    offsets = [0.0, *(offset for _, offset in scored)]
    edge = 0.04 * (max(offsets) - min(offsets)) or 1.0
    bottom = _RATES_TOP - _GAP
    y = Axis(min(offsets) - edge, max(offsets) + edge, bottom, _TOP)
    parts = []
    for value in ticks(y.low, y.high, 6):
        level = y.place(value)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {level}H{WIDTH - _RIGHT}"/>'
            f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{level + 4:g}">'
            f"{number_text(value, signed=True)}</text>"
        )
    for kind, label in (("defective", 1), ("good", 0)):
        placed = [
            f"M{x.place(each.place)} {y.place(offset)}h0"
            for each, offset in scored
            if each.label == label
        ]
        if placed:
            parts.append(f'<path class="dots {kind}" d="{"".join(placed)}"/>')
    level = y.place(0)
    parts.append(
        f'<line class="threshold" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{level}" y2="{level}"/>'
    )
    return [*parts, _side_label(f"score less threshold, {unit}", (_TOP + bottom) / 2)]


def _drawn(points: Sequence[TrendPoint]) -> list[TrendPoint]:
    if len(points) <= MOST_DOTS:
        return list(points)
    picked = {round(place * (len(points) - 1) / (MOST_DOTS - 1)) for place in range(MOST_DOTS)}
    return [
        each
        for place, each in enumerate(points)
        if place in picked or (each.label == 0 and each.verdict is not Verdict.PASS)
    ]


def _rates_svg(rates: Sequence[RateAt], x: Axis) -> list[str]:
    """A step for the share of each part of the axis, with its interval around it."""
    bottom = HEIGHT - _BOTTOM
    highest = max(
        (each.rate.interval.high for each in rates if each.rate.interval is not None), default=1.0
    )
    y = Axis(0, min(1.0, max(0.02, _ROUNDS_UP * highest)), bottom, _RATES_TOP)
    parts = []
    for value in ticks(0, y.high, 3):
        level = y.place(value)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {level}H{WIDTH - _RIGHT}"/>'
            f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{level + 4:g}">'
            f"{number_text(100 * value)}%</text>"
        )
    for each in rates:
        if each.rate.interval is None or each.rate.share is None:
            continue
        left, right = x.place(each.low), x.place(each.high)
        left, right = min(left, right - 4), max(right, left + 4)
        top, low = y.place(each.rate.interval.high), y.place(each.rate.interval.low)
        level = y.place(each.rate.share)
        parts.append(
            f'<rect class="spread" x="{left:g}" y="{top}" width="{right - left:g}" '
            f'height="{low - top:g}"><title>{each.rate.hits} of {each.rate.count} rejected</title>'
            f'</rect><path class="level" d="M{left:g} {level}H{right:g}"/>'
        )
    return [*parts, _side_label("rejected", (_RATES_TOP + bottom) / 2)]


def _side_label(text: str, middle: float) -> str:
    return (
        f'<text class="label" text-anchor="middle" transform="rotate(-90 11 {middle:g})" '
        f'x="11" y="{middle:g}">{text}</text>'
    )
