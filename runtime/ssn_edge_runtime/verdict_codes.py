"""The verdict as a number, for outlets that carry no text."""

from __future__ import annotations

from enum import IntEnum

from ssn_edge_runtime.decision import Verdict


class VerdictCode(IntEnum):
    """16 bits; any two differ in 8 of them or more, so that no flipped bit turns one into another.

    `PASS` is the only number that may let a part through, whatever else an outlet shows.
    """

    NONE = 0
    """No verdict yet, or none at all: reject."""
    PASS = 0x5AA5
    FAIL = 0xA55A
    UNKNOWN = 0x3CC3


_CODES = {
    Verdict.PASS: VerdictCode.PASS,
    Verdict.FAIL: VerdictCode.FAIL,
    Verdict.UNKNOWN: VerdictCode.UNKNOWN,
}


def verdict_code(verdict: Verdict | None) -> VerdictCode:
    """The number of a verdict; `NONE` where there is none yet."""
    return VerdictCode.NONE if verdict is None else _CODES[verdict]
