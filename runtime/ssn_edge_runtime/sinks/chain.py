"""Proving that no line of a journal is missing, doubled, moved or changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import LineKind
from ssn_edge_runtime.sinks.ledger import Ledger
from ssn_edge_runtime.sinks.links import Link, line_sha256, link_from_line


class ProblemKind(Enum):
    """What can be wrong with a line of a journal."""

    UNREADABLE = "unreadable"
    """Not a record in canonical form."""
    BEGINNING = "beginning"
    """The journal does not begin with the first line of a chain."""
    LINE = "line"
    """The line's number does not follow the one before: lines are missing, doubled or moved."""
    LINK = "link"
    """The line before is not the one this was chained to: it was changed or replaced."""
    SEQUENCE = "sequence"
    """A part's number is missing, or a part has two decisions."""
    CHECKPOINT = "checkpoint"
    """A checkpoint states something else than the lines before it come to."""
    TORN = "torn"
    """The last line has no end: power or process was lost while it was written."""
    HEAD = "head"
    """A published head is not in the journal: its tail was cut, or it was written anew."""
    TRIGGER = "trigger"
    """A trigger has no decision, or the decision is that of another trigger."""
    SEGMENT = "segment"
    """A file is not the segment that its name says, or does not begin as a segment does."""
    SIGNATURE = "signature"
    """A statement was not signed by the key that was given."""
    EVIDENCE = "evidence"
    """A kept frame is not the one that the line names."""


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """One problem of a journal.

    Args:
        line: Line number in the file, from 1.
        kind: What it is.
        detail: One line for a person.
        file: Name of the file.
    """

    line: int
    kind: ProblemKind
    detail: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What `verify_chain` found.

    Args:
        lines: Number of readable lines.
        records: Number of decisions among them.
        first_sequence: Number of the first decision; None where there is none.
        last_sequence: Number of the last.
        head: Hash of the last whole line, to be compared with a published one.
        problems: In the order of their lines; empty when the chain is whole.
    """

    lines: int
    records: int
    first_sequence: int | None
    last_sequence: int | None
    head: str
    problems: tuple[ChainProblem, ...]

    @property
    def is_whole(self) -> bool:
        """Whether no problem was found; without an expected head, a cut tail is not provable."""
        return not self.problems


class _Report(Protocol):
    """Notes a problem of the line in hand."""

    def __call__(self, kind: ProblemKind, detail: str) -> None: ...


class ChainCheck:
    """Takes the lines of a chain one after the other, over as many files as it has.

    Args:
        beginning: Says what is wrong with a chain that begins with this line, which is not its
            first; None if nothing is.
    """

    def __init__(self, beginning: Callable[[Link], str | None] | None = None) -> None:
        self._beginning = _is_missing if beginning is None else beginning
        self.ledger = Ledger()
        self.lines = 0
        self.records = 0
        self.first_sequence: int | None = None
        self.last_sequence: int | None = None
        self.problems: list[ChainProblem] = []
        self._is_begun = False

    @property
    def head(self) -> str:
        """Hash of the last whole line."""
        return self.ledger.head

    def take(self, raw: bytes, number: int, file: str = "") -> Link | None:
        """Check the next line.

        Args:
            raw: The line with its end, as far as it has one.
            number: Its number in its file, from 1.
            file: Name of the file.

        Returns:
            The line, if it can be read.
        """

        def problem(kind: ProblemKind, detail: str) -> None:
            self.problems.append(ChainProblem(number, kind, detail, file))

        if not raw.endswith(b"\n"):
            problem(ProblemKind.TORN, "the line has no end: torn tail")
            return None
        line = raw[:-1]
        try:
            link = link_from_line(line)
        except ValueError as error:
            problem(ProblemKind.UNREADABLE, str(error))
            self.ledger.head = line_sha256(line)
            self.ledger.line += 1
            self._is_begun = True
            return None
        self.lines += 1
        ledger = self.ledger
        if self._is_begun:
            if link.line != ledger.line + 1:
                problem(ProblemKind.LINE, f"line {link.line} follows line {ledger.line}")
            if link.previous != ledger.head:
                problem(
                    ProblemKind.LINK,
                    "the line before is not the one that this line was chained to",
                )
            self._take_content(link, problem)
        else:
            self._begin(link, problem)
        self._is_begun = True
        self.ledger.follow(link)
        return link

    def _begin(self, link: Link, problem: _Report) -> None:
        if not link.is_first:
            wrong = self._beginning(link)
            if wrong is not None:
                problem(ProblemKind.BEGINNING, wrong)
            if link.is_checkpoint:
                try:
                    self.ledger = Ledger.from_checkpoint(link)
                except ValueError as error:
                    problem(ProblemKind.CHECKPOINT, f"line {link.line} {error}")
                return
            sequence = link.document.get("sequence")
            if isinstance(sequence, int):
                self.ledger.next_sequence = sequence
        self._take_content(link, problem)

    def _take_content(self, link: Link, problem: _Report) -> None:
        ledger = self.ledger
        if link.is_checkpoint:
            if not _agrees(link, ledger):
                problem(
                    ProblemKind.CHECKPOINT,
                    f"line {link.line} states other counts than the lines before it come to",
                )
                self._believe(link)
            return
        sequence = link.document.get("sequence")
        trigger = ledger.open_triggers.get(sequence) if isinstance(sequence, int) else None
        if trigger is not None and link.document.get("trigger_id") not in (
            None,
            trigger.trigger_id,
        ):
            problem(
                ProblemKind.TRIGGER,
                f"sequence {sequence} was accepted for trigger {trigger.trigger_id} and decided "
                f"for {link.document.get('trigger_id')}",
            )
        try:
            ledger.take(link.document)
        except ValueError as error:
            problem(ProblemKind.SEQUENCE, str(error))
            self._skip_to(link)
        if link.kind is LineKind.VERDICT:
            self.records += 1
            if isinstance(sequence, int):
                self.last_sequence = sequence
                self.first_sequence = (
                    sequence if self.first_sequence is None else self.first_sequence
                )

    def _believe(self, link: Link) -> None:
        """Go on from what a checkpoint states, so that one hole is not told again and again."""
        try:
            self.ledger = Ledger.from_checkpoint(link)
        except ValueError:
            return

    def _skip_to(self, link: Link) -> None:
        sequence = link.document.get("sequence")
        if isinstance(sequence, int) and sequence >= self.ledger.next_sequence:
            self.ledger.next_sequence = sequence
            try:
                self.ledger.take(link.document)
            except ValueError:
                return


def _is_missing(link: Link) -> str:
    return f"the journal begins at line {link.line}: what came before is missing"


def _agrees(checkpoint: Link, ledger: Ledger) -> bool:
    detail = checkpoint.document.get("detail")
    if not isinstance(detail, dict):
        return False
    return all(detail.get(name) == value for name, value in ledger.checkpoint_detail().items())


def verify_chain(path: Path, *, head: str | None = None) -> ChainReport:
    """Check one file of a journal from its first line to its last.

    A chain alone proves nothing about its end: a cut tail, a changed last line and a journal that
    was rewritten as a whole look sound. Give the `head` that was published elsewhere. A journal of
    several segments, and one whose beginning was retired, is for `audit`.

    Args:
        path: A ``decisions.jsonl``; may be in use.
        head: Expected hash of the last line, if one is known.

    Raises:
        StorageError: The file cannot be read.
    """
    check = ChainCheck()
    number = 0
    try:
        with path.open("rb") as journal:
            for number, raw in enumerate(journal, start=1):
                check.take(raw, number, path.name)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    if head is not None and head != check.head:
        check.problems.append(
            ChainProblem(
                number,
                ProblemKind.HEAD,
                f"the journal ends with {check.head[:12]}..., not with {head[:12]}...",
                path.name,
            )
        )
    return ChainReport(
        lines=check.lines,
        records=check.records,
        first_sequence=check.first_sequence,
        last_sequence=check.last_sequence,
        head=check.head,
        problems=tuple(check.problems),
    )
