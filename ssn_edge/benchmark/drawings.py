"""Bars and spreads of times and rates, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ssn_edge.benchmark.percentiles import Percentiles
from ssn_edge.evaluation.axes import Axis, number_text, ticks

WIDTH = 660
ROW = 46
"""Height of a row: a line of text and a bar below it."""
BAR = 16
AXIS = 26
_TICKS = 6
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar.

    Args:
        kind: Its class in the style sheet.
        value: Its length.
        text: Shown where a pointer rests on it.
    """

    kind: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a bar chart.

    Args:
        label: On its left.
        parts: From left to right; none for what was not measured.
        note: On its right.
    """

    label: str
    parts: tuple[Part, ...]
    note: str

    @property
    def length(self) -> float:
        """Of all parts."""
        return sum(part.value for part in self.parts)


def bars_svg(bars: Sequence[Bar], *, unit: str, title: str) -> str:
    """A chart of bars that begin at zero.

    Args:
        bars: From top to bottom.
        unit: Below the axis.
        title: For who cannot see it.
    """
    axis = _axis(max((bar.length for bar in bars), default=0.0))
    drawn: list[str] = []
    for number, bar in enumerate(bars):
        top = number * ROW
        drawn += _texts(bar.label, bar.note, top)
        start = 0.0
        for part in bar.parts:
            left, right = axis.place(start), axis.place(start + part.value)
            start += part.value
            drawn.append(
                f'<rect class="{part.kind}" x="{left:g}" y="{top + 20}" '
                f'width="{max(right - left, 0):g}" height="{BAR}">'
                f"<title>{escape(part.text)}</title></rect>"
            )
    return _svg(drawn, axis, len(bars), unit, title)


@dataclass(frozen=True, slots=True)
class Spread:
    """A row of a chart of distributions.

    Args:
        label: On its left.
        found: The distribution; None for what was not measured.
        note: On its right.
    """

    label: str
    found: Percentiles | None
    note: str


def spreads_svg(spreads: Sequence[Spread], *, unit: str, title: str) -> str:
    """A chart of medians with a line to p95 and a thinner one to p99; the largest is a text.

    Args:
        spreads: From top to bottom.
        unit: Below the axis.
        title: For who cannot see it.
    """
    axis = _axis(max((_far_end(each.found) for each in spreads if each.found), default=0.0))
    drawn: list[str] = []
    for number, spread in enumerate(spreads):
        top = number * ROW
        drawn += _texts(spread.label, spread.note, top)
        if spread.found is None:
            continue
        middle, median = top + 20 + BAR / 2, axis.place(spread.found.p50)
        for kind, value in (("thin", spread.found.p99), ("thick", spread.found.p95)):
            if value is not None:
                drawn.append(
                    f'<line class="{kind}" x1="{median:g}" x2="{axis.place(value):g}" '
                    f'y1="{middle:g}" y2="{middle:g}"/>'
                )
        drawn.append(f'<circle class="median" cx="{median:g}" cy="{middle:g}" r="5"/>')
    return _svg(drawn, axis, len(spreads), unit, title)


def _far_end(found: Percentiles) -> float:
    return max(value for value in (found.p50, found.p95, found.p99) if value is not None)


def _axis(high: float) -> Axis:
    return Axis(0.0, max(high, _LEAST) * 1.02, 0.0, WIDTH)


def _texts(label: str, note: str, top: int) -> Iterator[str]:
    yield f'<text class="side" x="0" y="{top + 14}">{escape(label)}</text>'
    yield f'<text x="{WIDTH}" y="{top + 14}" text-anchor="end">{escape(note)}</text>'


def _svg(drawn: Sequence[str], axis: Axis, rows: int, unit: str, title: str) -> str:
    bottom = rows * ROW
    grid = []
    for value in ticks(axis.low, axis.high, _TICKS):
        x = axis.place(value)
        anchor = "start" if x == 0 else "middle"
        text = f"{number_text(value)} {unit}" if value == 0 else number_text(value)
        grid.append(f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="0" y2="{bottom}"/>')
        grid.append(f'<text x="{x:g}" y="{bottom + 16}" text-anchor="{anchor}">{text}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {bottom + AXIS}" role="img" aria-label="{escape(title)}">'
        f"{''.join(grid)}{''.join(drawn)}</svg>"
    )
