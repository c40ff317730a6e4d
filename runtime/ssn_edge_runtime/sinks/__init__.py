"""Decided parts out: the journal, which is the truth, and what follows it."""

from __future__ import annotations

from ssn_edge_runtime.sinks.audit import AuditReport, audit_log, heads_from
from ssn_edge_runtime.sinks.base import Follower, PictureNames, Sink
from ssn_edge_runtime.sinks.chain import ChainProblem, ChainReport, ProblemKind, verify_chain
from ssn_edge_runtime.sinks.csv_follower import CsvFollower
from ssn_edge_runtime.sinks.device_key import DeviceKey, PublicKey
from ssn_edge_runtime.sinks.evidence import EvidenceKeeper
from ssn_edge_runtime.sinks.evidence_policy import EVIDENCE_FOLDER, EvidencePolicy
from ssn_edge_runtime.sinks.heads import HEAD_NAME, HeadStatement, read_head, read_heads
from ssn_edge_runtime.sinks.housekeeping import Housekeeping
from ssn_edge_runtime.sinks.journal import Journal
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
from ssn_edge_runtime.sinks.retention import RetentionPolicy, plan_retirement
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, journal_files
from ssn_edge_runtime.sinks.sqlite_follower import SqliteFollower
from ssn_edge_runtime.sinks.tail import DivergedError, RetiredError, Tail, TailLine, tail_journal

__all__ = [
    "EVIDENCE_FOLDER",
    "HEAD_NAME",
    "JOURNAL_NAME",
    "PICTURES_FOLDER",
    "AuditReport",
    "ChainProblem",
    "ChainReport",
    "CsvFollower",
    "DeviceKey",
    "DivergedError",
    "EvidenceKeeper",
    "EvidencePolicy",
    "Follower",
    "HeadStatement",
    "Housekeeping",
    "Journal",
    "KeepPolicy",
    "Ledger",
    "Link",
    "OverlayFormat",
    "PictureFollower",
    "PictureNames",
    "ProblemKind",
    "PublicKey",
    "RetentionPolicy",
    "RetiredError",
    "Sink",
    "SqliteFollower",
    "Tail",
    "TailLine",
    "WhenFull",
    "audit_log",
    "draw_overlay",
    "heads_from",
    "journal_files",
    "line_sha256",
    "plan_retirement",
    "read_head",
    "read_heads",
    "tail_journal",
    "verify_chain",
]
