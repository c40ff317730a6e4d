"""Decided parts out: the journal, which is the truth, and what follows it."""

from __future__ import annotations

from ssn_edge_runtime.sinks.base import Follower, PictureNames, Sink
from ssn_edge_runtime.sinks.chain import ChainProblem, ChainReport, ProblemKind, verify_chain
from ssn_edge_runtime.sinks.journal import JOURNAL_NAME, Journal
from ssn_edge_runtime.sinks.ledger import Ledger
from ssn_edge_runtime.sinks.links import Link, line_sha256
from ssn_edge_runtime.sinks.overlay import draw_overlay
from ssn_edge_runtime.sinks.pictures import (
    PICTURES_FOLDER,
    KeepPolicy,
    OverlayFormat,
    PictureFollower,
    WhenFull,
)

__all__ = [
    "JOURNAL_NAME",
    "PICTURES_FOLDER",
    "ChainProblem",
    "ChainReport",
    "Follower",
    "Journal",
    "KeepPolicy",
    "Ledger",
    "Link",
    "OverlayFormat",
    "PictureFollower",
    "PictureNames",
    "ProblemKind",
    "Sink",
    "WhenFull",
    "draw_overlay",
    "line_sha256",
    "verify_chain",
]
