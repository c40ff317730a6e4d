"""Shares as text, never rounded to more than is promised."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_EXACT_DECIMALS = 9
"""Of per cent: beyond them is what arithmetic in binary added."""


def at_most(share: float) -> str:
    """Per cent, rounded up."""
    return _percent(share, ROUND_CEILING)


def at_least(share: float) -> str:
    """Per cent, rounded down."""
    return _percent(share, ROUND_FLOOR)


def _percent(share: float, rounding: str) -> str:
    """Three digits of the share or of what is left of it, whichever is less: 0.512, 99.95."""
    percent = Decimal(repr(round(100 * share, _EXACT_DECIMALS)))
    smaller = min(percent, 100 - percent)
    decimals = min(_EXACT_DECIMALS, max(0, 2 - smaller.adjusted())) if smaller > 0 else 0
    rounded = percent.quantize(Decimal(1).scaleb(-decimals), rounding=rounding)
    text = f"{rounded:f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
