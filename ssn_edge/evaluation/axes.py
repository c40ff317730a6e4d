"""Axes of the report's drawings: values to SVG units, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear map from values to SVG user units; `start` may lie beyond `end` to turn it round.

    Args:
        low: Value drawn at `start`.
        high: Value drawn at `end`, above `low`.
        start: SVG coordinate of `low`.
        end: SVG coordinate of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The SVG coordinate of a value, to a tenth of a unit."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def round_step(span: float, count: int) -> float:
    """The smallest 1, 2 or 5 times a power of ten that cuts a span into at most `count`."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values from `low` to `high`, about `count` of them."""
    step = round_step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def number_text(value: float, *, signed: bool = False) -> str:
    """A short number for a label, with a true minus sign."""
    text = f"{value:+.6g}" if signed and value else f"{value + 0.0:.6g}"
    return text.replace("-", MINUS)


def line_path(points: Iterable[tuple[float, float]], x: Axis, y: Axis) -> str:
    """SVG path data, without points that fall on one place or on a level or upright line."""
    placed = [(x.place(across), y.place(up)) for across, up in points]
    distinct = [*placed[:1], *(b for a, b in pairwise(placed) if a != b)]
    kept = [
        here
        for before, here, after in zip(
            [None, *distinct], distinct, [*distinct[1:], None], strict=False
        )
        if before is None
        or after is None
        or not (before[0] == here[0] == after[0] or before[1] == here[1] == after[1])
    ]
    return "M" + "L".join(f"{left} {top}" for left, top in kept) if kept else ""
