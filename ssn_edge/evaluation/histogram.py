"""The score histogram of a report, as inline SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from ssn_edge.evaluation.axes import Axis, number_text, round_step, ticks

WIDTH, HEIGHT = 540, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 34, 46
_GAP = 30
_ROW = (HEIGHT - _TOP - _BOTTOM - _GAP) / 2
MOST_BINS = 40


def histogram_svg(
    normal_scores: Sequence[float],
    anomalous_scores: Sequence[float],
    threshold: float,
    *,
    unit: str = "logits",
    what: str = "score",
    sides: tuple[str, str] = ("pass", "fail"),
) -> Markup:
    """Draw where good and defective parts score, one row each over a common axis.

    The axis is score minus threshold, and 0 is an edge between two bins: no bar holds parts of both
    sides. The rows have scales of their own, so that few defects show beside many good parts.

    Args:
        normal_scores: Scores of good parts, finite.
        anomalous_scores: Scores of defective parts, finite.
        threshold: The image threshold; a score at it lies on the failing side.
        unit: What scores are counted in.
        what: What the scores are.
        sides: What becomes of a part below and from the threshold on.
    """
    rows = (
        ("good", "Good parts", [score - threshold for score in normal_scores]),
        ("defective", "Defective parts", [score - threshold for score in anomalous_scores]),
    )
    everything = [0.0, *rows[0][2], *rows[1][2]]
    span = max(max(everything) - min(everything), 1e-3)
    step = round_step(span, MOST_BINS)
    low = math.floor(min(everything) / step) - 1
    high = math.floor(max(everything) / step) + 2
    x = Axis(low * step, high * step, _LEFT, WIDTH - _RIGHT)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Histogram of {what} minus threshold, good and defective parts">'
    ]
    for index, (kind, title, offsets) in enumerate(rows):
        top = _TOP + index * (_ROW + _GAP)
        parts += _row_svg(kind, title, offsets, x, step, top)
    parts += _frame_svg(x, f"{what} minus threshold, in {unit}", sides)
    return Markup("".join([*parts, "</svg>"]))  # numbers and our own words only


def _row_svg(
    kind: str, title: str, offsets: list[float], x: Axis, step: float, top: float
) -> list[str]:
    """One row: its title, count axis and bars."""
    counts = Counter(math.floor(offset / step) for offset in offsets)
    highest = max(counts.values(), default=1)
    bottom = top + _ROW
    y = Axis(0, highest, bottom, top + 14)
    parts = [
        f'<text class="row-title {kind}" x="{_LEFT}" y="{top + 4:g}">'
        f"{title} ({len(offsets)})</text>",
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom:g}" y2="{bottom:g}"/>',
    ]
    for count in sorted({0, highest}):
        parts.append(
            f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y.place(count) + 4:g}">'
            f"{count}</text>"
        )
    for number, count in sorted(counts.items()):
        left, right = x.place(number * step), x.place((number + 1) * step)
        height = max(2.0, bottom - y.place(count))  # one part among thousands still shows
        limits = f"{_offset(number * step)} to {_offset((number + 1) * step)}"
        parts.append(
            f'<rect class="bar {kind}" x="{left + 0.5:g}" y="{bottom - height:g}" '
            f'width="{max(1.0, right - left - 1):g}" height="{height:g}">'
            f"<title>{count} at {limits}</title></rect>"
        )
    return parts


def _frame_svg(x: Axis, label: str, sides: tuple[str, str]) -> list[str]:
    """The common score axis and the threshold's line."""
    bottom = HEIGHT - _BOTTOM
    middle = x.place(0)
    parts = [
        f'<line class="threshold" x1="{middle}" x2="{middle}" y1="{_TOP - 22}" y2="{bottom}"/>',
        f'<text class="side" text-anchor="end" x="{middle - 7:g}" y="{_TOP - 14}">'
        f"{sides[0]}</text>",
        f'<text class="side" x="{middle + 7:g}" y="{_TOP - 14}">{sides[1]}</text>',
    ]
    for value in ticks(x.low, x.high, 8):
        place = x.place(value)
        # The last one would be cut by the drawing's edge.
        anchor, at = ("end", WIDTH) if place > WIDTH - 2 * _RIGHT else ("middle", place)
        parts.append(
            f'<line class="axis" x1="{place}" x2="{place}" y1="{bottom}" y2="{bottom + 4}"/>'
            f'<text class="tick" text-anchor="{anchor}" x="{at:g}" y="{bottom + 17}">'
            f"{_offset(value)}</text>"
        )
    parts.append(
        f'<text class="label" text-anchor="middle" x="{(_LEFT + WIDTH - _RIGHT) / 2:g}" '
        f'y="{HEIGHT - 8}">{label}</text>'
    )
    return parts


def _offset(value: float) -> str:
    """A distance from the threshold for a label."""
    return number_text(value, signed=True)
