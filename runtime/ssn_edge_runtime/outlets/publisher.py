"""A journal's messages to one peer: lost peers come back at a paced, jittered rhythm.

One thread does it all, in a process of its own; nothing here can delay a verdict.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from threading import Event
from time import monotonic
from typing import Protocol

from ssn_edge_runtime.outlets.backlog import MOST_BYTES, MOST_MESSAGES, Gap, Message, Owed
from ssn_edge_runtime.outlets.feed import Feed, PlaceFile
from ssn_edge_runtime.outlets.peer import Peer, PeerError
from ssn_edge_runtime.outlets.process import DRAIN_S
from ssn_edge_runtime.outlets.seldom import log_seldom
from ssn_edge_runtime.outlets.words import PeerLosses, PeerReport, Reporter, tell
from ssn_edge_runtime.record import EventKind, LineKind, canonical_json, utc_text
from ssn_edge_runtime.sinks.tail import POLL_S, TailLine
from ssn_edge_runtime.sources.reopening import ReopenBudget

KEEP_EVERY_S = 1.0
PACE = ReopenBudget(attempts=1, pause_s=1.0, longest_pause_s=30.0, jitter=0.5)
"""Pauses before an attempt; there is no last one, for verdicts flow without the peer."""
NOTE_SCHEMA = 1

logger = logging.getLogger(__name__)


class Transport(Protocol):
    """One peer's protocol. Whatever fails raises `PeerError`; all calls come from one thread."""

    window: int
    """How many messages may be on their way at once."""
    is_there_once_connected: bool
    """Whether `connect` shows that the peer is there; else only what it takes does."""
    refused: int
    """Messages that the peer did not take and will not take."""

    def connect(self) -> None:
        """Reach the peer, anew."""
        ...

    def send(self, kind: str, payload: bytes, token: Owed) -> None:
        """Send one message; `turn` gives its token back once the peer has it."""
        ...

    def turn(self, timeout_s: float) -> Iterable[Owed]:
        """Do what is due, for so long at most; what the peer has since."""
        ...

    def close(self, *, is_orderly: bool) -> None:
        """Let the peer go; a second call does nothing."""
        ...


class Publisher:
    """Gives a feed's messages to a peer.

    Args:
        name: The peer, for messages.
        feed: What it is owed.
        transport: How it is given.
        pace: Pauses between attempts.
        random: Where their jitter comes from.
        clock: Seconds, monotonic.
        report: Says to the line what becomes of the peer.
    """

    def __init__(
        self,
        name: str,
        feed: Feed,
        transport: Transport,
        *,
        pace: ReopenBudget = PACE,
        random: Random | None = None,
        clock: Callable[[], float] = monotonic,
        report: Callable[[PeerReport | None], None] = lambda report: None,
    ) -> None:
        self._name = name
        self._feed = feed
        self._transport = transport
        self._pace = pace
        self._random = Random() if random is None else random
        self._clock = clock
        self._is_connected = False
        self._attempts = 0
        self._next_s = 0.0
        self._kept_s = clock()
        self._losses = PeerLosses(clock)
        self._report = report

    def run(self, stop: Event) -> None:
        """Publish until told to stop, and then what is left, for `DRAIN_S` at most."""
        until_s: float | None = None
        while True:
            if stop.is_set() and until_s is None:
                until_s = self._clock() + DRAIN_S
            count = self._feed.step()
            self._publish(stop if until_s is None else None, 0.0 if count else POLL_S)
            self._losses.dropped = self._feed.backlog.dropped
            self._losses.to_line = self._feed.backlog.dropped_to_line
            self._losses.refused = self._transport.refused
            self._report(self._losses.report)
            if self._clock() - self._kept_s >= KEEP_EVERY_S:
                self._kept_s = self._clock()
                self._feed.keep()
            if until_s is not None:
                is_done = count == 0 and self._feed.backlog.is_empty
                if is_done or not self._is_connected or self._clock() > until_s:
                    break
        self._transport.close(is_orderly=True)
        self._feed.keep()

    def _publish(self, stop: Event | None, timeout_s: float) -> None:
        if not self._is_connected:
            wait_s = self._next_s - self._clock()
            if wait_s > 0:
                if stop is not None:
                    stop.wait(min(wait_s, timeout_s))
                return
        try:
            if not self._is_connected:
                self._transport.connect()
                self._is_connected = True
                if self._transport.is_there_once_connected:
                    self._is_there()
            while self._feed.backlog.in_flight < self._transport.window:
                owed = self._feed.backlog.take()
                if owed is None:
                    break
                self._transport.send(*_said(owed), owed)
            # More may wait than the window holds: then whatever comes back is to be looked at.
            for settled in self._transport.turn(timeout_s):
                self._attempts = 0
                self._is_there()
                self._feed.backlog.settle(settled)
        except PeerError as error:
            self._lost(error)

    def _is_there(self) -> None:
        if self._losses.is_lost:
            logger.warning("%s: is back", self._name)
        self._losses.back(waiting=len(self._feed.backlog))

    def _lost(self, error: PeerError) -> None:
        self._transport.close(is_orderly=False)
        self._is_connected = False
        self._feed.backlog.give_back()
        self._attempts += 1
        pause_s = self._pace.pause_before(self._attempts, self._random.random())
        self._next_s = self._clock() + pause_s
        if self._losses.lost(str(error)):
            logger.warning("%s: %s; it is tried again, and messages wait", self._name, error)


def publisher_options(parser: argparse.ArgumentParser, what: str) -> None:
    """The options that every publisher has."""
    parser.add_argument("--folder", type=Path, required=True, help="folder of the journal")
    parser.add_argument("--ca", type=Path, help=f"certificates that the {what} is checked against")
    parser.add_argument(
        "--cert", type=Path, help=f"certificate and private key (PEM) that the {what} is shown"
    )
    parser.add_argument("--most-messages", type=int, default=MOST_MESSAGES, help="that wait")
    parser.add_argument("--most-bytes", type=int, default=MOST_BYTES, help="that wait")


def publish(
    peer: Peer,
    transport: Transport,
    options: argparse.Namespace,
    stop: Event,
    *,
    place_name: str,
    is_wanted: Callable[[TailLine], bool],
) -> None:
    """Be a publisher's process, until it is told to stop.

    Args:
        peer: Who is told.
        transport: How.
        options: Of `publisher_options`.
        stop: Ends it.
        place_name: File in the journal's folder that remembers how far the peer was told.
        is_wanted: Whether a line makes a message.
    """
    with Feed(
        options.folder,
        PlaceFile(options.folder / place_name, str(peer)),
        is_wanted=is_wanted,
        most_messages=options.most_messages,
        most_bytes=options.most_bytes,
    ) as feed:
        tell(listens=str(peer))
        log_seldom()
        Publisher(str(peer), feed, transport, report=Reporter().show).run(stop)


def is_event_for_peers(line: TailLine) -> bool:
    """Whether a line is an event that peers are told.

    What some peer was not given is none: to one that takes nothing it would be the next of these,
    without end. Each is told of its own gaps.
    """
    is_event = line.kind == LineKind.EVENT.value
    return is_event and line.document.get("event") != EventKind.UNDELIVERED.value


def gap_note(gap: Gap) -> Mapping[str, object]:
    """What tells a peer that messages are missing."""
    return {
        "schema": NOTE_SCHEMA,
        "kind": "event",
        "event": "outlet_dropped",
        "detail": {
            "messages": gap.messages,
            "first_line": gap.first_line,
            "last_line": gap.last_line,
        },
        "at": utc_text(datetime.now(timezone.utc)),
    }


def _said(owed: Owed) -> tuple[str, bytes]:
    if isinstance(owed, Message):
        return owed.kind, owed.payload
    return "event", canonical_json(gap_note(owed))
