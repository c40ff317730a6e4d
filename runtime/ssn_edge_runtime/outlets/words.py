"""What a process beside a line says to it: short JSON lines on standard output, and nothing waits.

It is not trusted: who reads takes so many bytes at a time, and only numbers that can be.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from time import monotonic

LONGEST_WORD = 1024
"""Bytes of one line; what is longer is none."""
LONGEST_CAUSE = 160
MOST_COUNTED = 1 << 53
SAID_EVERY_S = 1.0
"""Counts alone are said no more often; a loss and its end at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """What an outlet knows of its peer; the counts are since its process began.

    Each report holds all of it, so that one that is lost on the way is made good by the next.

    Args:
        is_lost: Whether the peer is away now.
        cause: Of the last loss.
        losses: How often it went.
        away_ms: For how long, in the losses that are over.
        waiting: Messages that waited for it when it came back last.
        dropped: Messages that found no room, or whose lines were retired.
        refused: Messages that it does not want.
        to_line: Of the journal: the last that was dropped; 0 for none.
    """

    is_lost: bool = False
    cause: str = ""
    losses: int = 0
    away_ms: int = 0
    waiting: int = 0
    dropped: int = 0
    refused: int = 0
    to_line: int = 0

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> PeerReport:
        """Read what another process said.

        Raises:
            ValueError: It is no report.
        """
        is_lost, cause = document.get("is_lost"), document.get("cause")
        if not isinstance(is_lost, bool) or not isinstance(cause, str):
            raise ValueError("is no report of a peer")
        counts = {}
        for each in fields(cls):
            if each.name in ("is_lost", "cause"):
                continue
            count = document.get(each.name)
            if type(count) is not int or not 0 <= count < MOST_COUNTED:
                raise ValueError(f"says no {each.name}")
            counts[each.name] = count
        if len(document) != len(counts) + 2:
            raise ValueError("says more than a report does")
        return cls(is_lost=is_lost, cause=plain_cause(cause), **counts)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class PeerLosses:
    """Counts what becomes of one peer.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lost_s: float | None = None
        self._is_known = False
        self._cause = ""
        self.losses = self._away_ms = self._waiting = 0
        self.dropped = self.refused = self.to_line = 0
        """See `PeerReport`; to be set."""

    @property
    def is_lost(self) -> bool:
        """Whether the peer is away."""
        return self._lost_s is not None

    def lost(self, cause: str) -> bool:
        """The peer is away; said again and again, it is one loss. Whether that is news."""
        cause = plain_cause(cause)
        is_news = self._lost_s is None or cause != self._cause
        self._is_known, self._cause = True, cause
        if self._lost_s is None:
            self._lost_s = self._clock()
            self.losses += 1
        return is_news

    def back(self, waiting: int = 0) -> None:
        """The peer is there, and so many messages waited for it."""
        self._is_known = True
        if self._lost_s is not None:
            self._away_ms += max(0, round((self._clock() - self._lost_s) * 1e3))
            self._waiting = waiting
            self._lost_s = None

    @property
    def report(self) -> PeerReport | None:
        """What is known; None while it is not even known whether there is a peer."""
        if not self._is_known and not self.dropped and not self.refused:
            return None
        return PeerReport(
            is_lost=self.is_lost,
            cause=self._cause,
            losses=self.losses,
            away_ms=self._away_ms,
            waiting=self._waiting,
            dropped=self.dropped,
            refused=self.refused,
            to_line=self.to_line,
        )


class Reporter:
    """Says reports to the line; a line that does not read is told later, and not waited for.

    Args:
        write: Takes a line whole, or raises `OSError`.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        write: Callable[[bytes], object] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._write = _write_out if write is None else write
        self._clock = clock
        self._said: PeerReport | None = None
        self._said_s = float("-inf")

    def show(self, report: PeerReport | None) -> None:
        """Say a report if it is another one than before."""
        if report is None or report == self._said:
            return
        is_turn = self._said is None or report.is_lost != self._said.is_lost
        now_s = self._clock()
        if not is_turn and now_s - self._said_s < SAID_EVERY_S:
            return
        line = json.dumps({"peer": report.to_dict()}, ensure_ascii=False).encode() + b"\n"
        try:
            self._write(line)
        except OSError:
            return  # no room, or nobody there: it is said again at the next look
        self._said, self._said_s = report, now_s


def tell(**document: str) -> None:
    """``listens=...`` once the process is up, ``error=...`` if it cannot."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def plain_cause(text: str) -> str:
    """A cause as it may be written down: one line, printable, not long."""
    plain = "".join(each if each.isprintable() else " " for each in text[: 4 * LONGEST_CAUSE])
    return " ".join(plain.split())[:LONGEST_CAUSE]


def _write_out(line: bytes) -> None:
    os.set_blocking(1, False)
    os.write(1, line)  # of less than PIPE_BUF bytes: whole, or not at all
