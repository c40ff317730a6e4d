"""The two published forms of SuperSimpleNet."""

from __future__ import annotations

from enum import Enum


class Variant(Enum):
    """Which paper's net; they differ in what the classification head sees.

    Source:
        Rolih et al., SuperSimpleNet, ICPR 2024, and its journal extension, JIM 2025.
    """

    JOURNAL = "journal"
    """The classification head sees un-adapted features; masks are dilated and weighted."""
    CONFERENCE = "conference"
    """Both heads see adapted features; no dilation, no weights."""
