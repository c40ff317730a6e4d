"""Numbers of a report as people read them."""

from __future__ import annotations

from math import ceil, floor

from ssn_edge.evaluation.axes import MINUS
from ssn_edge_calibrate.intervals import Interval

_NBSP = "\N{NO-BREAK SPACE}"


def metric_text(value: float | None) -> str:
    """A metric with four digits; never rounded up to a perfect one."""
    if value is None:
        return "not defined"
    return f"{value:.4f}" if value >= 1 else f"{min(value, 0.9999):.4f}"


def logit_text(value: float) -> str:
    """A signed logit with two digits."""
    return f"{value:+.2f}".replace("-", MINUS)


def share_text(part: int, whole: int) -> str:
    """A share in percent; only all is 100 %, only none is 0 %."""
    if not whole:
        return "no pictures"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"< 0.1{_NBSP}%"
    if 99.9 < percent < 100:
        return f"> 99.9{_NBSP}%"
    return f"{percent:.1f}".removesuffix(".0") + f"{_NBSP}%"


def interval_text(interval: Interval | None) -> str:
    """An interval of a metric, both ends with three digits; empty for none."""
    if interval is None:
        return ""
    low, high = (f"{value:.3f}".replace("-", MINUS) for value in (interval.low, interval.high))
    return f"{low} to {high}"


def percent_text(interval: Interval | None) -> str:
    """An interval of a share, in percent; empty for none."""
    if interval is None:
        return ""
    # Outwards, so that no end says more than was found.
    low, high = floor(1000 * interval.low + 1e-9) / 10, ceil(1000 * interval.high - 1e-9) / 10
    return f"{low:.1f}".removesuffix(".0") + " to " + f"{high:.1f}".removesuffix(".0") + f"{_NBSP}%"
