"""The links of a chain: what a journal line says about its place, and its own hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ssn_edge_runtime.record import (
    FIRST_LINE,
    FIRST_PREVIOUS,
    RECORD_SCHEMA,
    EventKind,
    LineKind,
    canonical_json,
)

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Link:
    """One line of a journal.

    Args:
        line: Its number in the chain.
        previous: Hash of the line before.
        sha256: Its own hash.
        kind: What it is.
        event: Which event, if it is one that this version knows.
        document: All of it.
    """

    line: int
    previous: str
    sha256: str
    kind: LineKind
    event: EventKind | None
    document: Mapping[str, object]

    @property
    def is_first(self) -> bool:
        """Whether a chain may begin with it."""
        return self.line == FIRST_LINE and self.previous == FIRST_PREVIOUS

    @property
    def is_checkpoint(self) -> bool:
        """Whether it states what the chain came to."""
        return self.event is EventKind.CHECKPOINT


def line_sha256(line: bytes) -> str:
    """The hash by which the next line names this one; the line end is not part of it."""
    return hashlib.sha256(line).hexdigest()


def link_from_line(line: bytes) -> Link:
    """Read a journal line's place in the chain.

    Args:
        line: One line of a journal without its end.

    Raises:
        ValueError: The line is not one of this schema in canonical form.
    """
    try:
        document = json.loads(line)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    if not isinstance(document, dict) or type(document.get("schema")) is not int:
        raise ValueError("is not a record")
    if document["schema"] != RECORD_SCHEMA:
        raise ValueError(
            f"is of schema {document['schema']}, this version reads schema {RECORD_SCHEMA}"
        )
    number, previous = document.get("line"), document.get("previous")
    if type(number) is not int or type(previous) is not str or not _SHA256.fullmatch(previous):
        raise ValueError("lacks its line number or the hash of the line before")
    try:
        kind = LineKind(str(document.get("kind")))
    except ValueError as error:
        raise ValueError(f"is of no known kind: {document.get('kind')!r}") from error
    if canonical_json(document) != line:
        raise ValueError("is not in canonical form")
    return Link(number, previous, line_sha256(line), kind, _event(kind, document), document)


def _event(kind: LineKind, document: Mapping[str, object]) -> EventKind | None:
    if kind is not LineKind.EVENT:
        return None
    try:
        return EventKind(str(document.get("event")))
    except ValueError:  # of a later version; it is chained like any other
        return None
