"""The chain of a journal: reading its links, and proving that none is missing or changed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import FIRST_PREVIOUS, FIRST_SEQUENCE, canonical_json

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Link:
    """What a record says about its place in the chain, and its own hash."""

    sequence: int
    previous: str
    sha256: str

    def is_followed_by(self, other: Link) -> bool:
        """Whether the other record is the next of the same chain."""
        return other.sequence == self.sequence + 1 and other.previous == self.sha256

    @property
    def is_first(self) -> bool:
        """Whether a chain may begin with it."""
        return self.sequence == FIRST_SEQUENCE and self.previous == FIRST_PREVIOUS


class ProblemKind(Enum):
    """What can be wrong with a line of a journal."""

    UNREADABLE = "unreadable"
    """Not a record in canonical form."""
    BEGINNING = "beginning"
    """The journal does not begin with the first record of a chain."""
    SEQUENCE = "sequence"
    """The number does not follow the one before: records are missing, doubled or moved."""
    LINK = "link"
    """The record before is not the one this was chained to: it was changed or replaced."""
    TORN = "torn"
    """The last line has no end: power or process was lost while it was written."""
    HEAD = "head"
    """The journal does not end with the expected record: its tail was cut or changed."""


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """One problem of a journal.

    Args:
        line: Line number, from 1.
        kind: What it is.
        detail: One line for a person.
    """

    line: int
    kind: ProblemKind
    detail: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What `verify_chain` found.

    Args:
        records: Number of readable records.
        first_sequence: Number of the first of them; None in an empty journal.
        last_sequence: Number of the last of them.
        head: Hash of the last whole line, to be compared with a published one.
        problems: In the order of their lines; empty when the chain is whole.
    """

    records: int
    first_sequence: int | None
    last_sequence: int | None
    head: str
    problems: tuple[ChainProblem, ...]

    @property
    def is_whole(self) -> bool:
        """Whether no problem was found; without an expected head, a cut tail is not provable."""
        return not self.problems


def line_sha256(line: bytes) -> str:
    """The hash by which the next record names this line; the line end is not part of it."""
    return hashlib.sha256(line).hexdigest()


def link_from_line(line: bytes) -> Link:
    """Read a record's place in the chain.

    Args:
        line: One line of a journal without its end.

    Raises:
        ValueError: The line is not a record in canonical form.
    """
    try:
        document = json.loads(line)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    if not isinstance(document, dict) or type(document.get("schema")) is not int:
        raise ValueError("is not a record")
    sequence, previous = document.get("sequence"), document.get("previous")
    if type(sequence) is not int or type(previous) is not str or not _SHA256.fullmatch(previous):
        raise ValueError("lacks its sequence number or the hash of the record before")
    if canonical_json(document) != line:
        raise ValueError("is not in canonical form")
    return Link(sequence, previous, line_sha256(line))


def verify_chain(path: Path, *, head: str | None = None) -> ChainReport:
    """Check a journal from its first line to its last.

    A chain alone proves nothing about its end: a cut tail, a changed last record and a journal
    that was rewritten as a whole look sound. Give the `head` that was published elsewhere.

    Args:
        path: A ``decisions.jsonl``; may be in use.
        head: Expected hash of the last line, if one is known.

    Raises:
        StorageError: The file cannot be read.
    """
    problems: list[ChainProblem] = []
    links: list[Link] = []  # first and last only
    records = 0
    number = 0
    last_sha256 = FIRST_PREVIOUS
    try:
        with path.open("rb") as journal:
            for number, raw in enumerate(journal, start=1):
                if not raw.endswith(b"\n"):
                    problems.append(
                        ChainProblem(number, ProblemKind.TORN, "the line has no end: torn tail")
                    )
                    break
                line = raw[:-1]
                try:
                    link = link_from_line(line)
                except ValueError as error:
                    problems.append(ChainProblem(number, ProblemKind.UNREADABLE, str(error)))
                    last_sha256 = line_sha256(line)
                    continue
                before = links[-1] if links else None
                problems.extend(_problems(number, link, before, last_sha256))
                links = [links[0] if links else link, link]
                last_sha256 = link.sha256
                records += 1
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    if head is not None and head != last_sha256:
        problems.append(
            ChainProblem(
                number,
                ProblemKind.HEAD,
                f"the journal ends with {last_sha256[:12]}..., not with {head[:12]}...",
            )
        )
    return ChainReport(
        records=records,
        first_sequence=links[0].sequence if links else None,
        last_sequence=links[-1].sequence if links else None,
        head=last_sha256,
        problems=tuple(problems),
    )


def _problems(
    number: int, link: Link, before: Link | None, previous_sha256: str
) -> list[ChainProblem]:
    if number == 1:
        if link.is_first:
            return []
        detail = f"the journal begins at sequence {link.sequence}: what came before is missing"
        return [ChainProblem(number, ProblemKind.BEGINNING, detail)]
    problems = []
    if before is not None and link.sequence != before.sequence + 1:
        detail = f"sequence {link.sequence} follows {before.sequence}"
        problems.append(ChainProblem(number, ProblemKind.SEQUENCE, detail))
    if link.previous != previous_sha256:
        detail = f"line {number - 1} is not the record that this one was chained to"
        problems.append(ChainProblem(number, ProblemKind.LINK, detail))
    return problems
