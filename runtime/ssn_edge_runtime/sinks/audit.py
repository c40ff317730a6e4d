"""The audit of a decision log: is it whole and unaltered, and what can not be proven?"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ssn_edge_runtime.errors import AuditError, ConfigError, DatasetError, StorageError
from ssn_edge_runtime.record import EventKind
from ssn_edge_runtime.sinks.chain import ChainCheck, ChainProblem, ProblemKind
from ssn_edge_runtime.sinks.device_key import PublicKey
from ssn_edge_runtime.sinks.evidence_audit import EvidenceCheck
from ssn_edge_runtime.sinks.heads import (
    HEAD_NAME,
    PUBLIC_KEY_NAME,
    HeadStatement,
    read_head,
    read_heads,
)
from ssn_edge_runtime.sinks.links import Link
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, closed_segments, segment_name

_LOOKS = 10
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    Args:
        folder: The log.
        files: How many segments it has.
        lines: How many readable lines.
        first_line: Number of the first; None in an empty log.
        last_line: Number of the last.
        verdicts: Decisions over the whole chain, retired segments included, by verdict.
        open_triggers: Triggers without a decision, in a log that may be in use.
        head: Hash of the last line.
        problems: In the order of their places; empty when nothing is wrong.
        unproven: What was not proven, one sentence each.
        evidence: Kept frames that were compared and are what the log says; None if none were.
    """

    folder: Path
    files: int
    lines: int
    first_line: int | None
    last_line: int | None
    verdicts: dict[str, int]
    open_triggers: int
    head: str
    problems: tuple[ChainProblem, ...]
    unproven: tuple[str, ...]
    evidence: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def to_dict(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {
            "folder": str(self.folder),
            "is_whole": self.is_whole,
            "files": self.files,
            "lines": self.lines,
            "first_line": self.first_line,
            "last_line": self.last_line,
            "verdicts": self.verdicts,
            "open_triggers": self.open_triggers,
            "head": self.head,
            "problems": [
                {
                    "file": each.file,
                    "line": each.line,
                    "kind": each.kind.value,
                    "detail": each.detail,
                }
                for each in self.problems
            ],
            "unproven": list(self.unproven),
            "evidence": self.evidence,
        }

    def raise_for_problems(self) -> None:
        """Raise if anything is wrong.

        Raises:
            AuditError: Something is.
        """
        if self.problems:
            raise AuditError(
                f"{self.folder}: the log is not whole and unaltered ({len(self.problems)} "
                f"problem{'s' if len(self.problems) > 1 else ''}); keep it as it is, and compare "
                "it with a backup"
            )


def audit_log(
    folder: Path,
    *,
    heads: Sequence[HeadStatement | str] = (),
    key: PublicKey | None = None,
    with_evidence: bool = False,
) -> AuditReport:
    """Check all segments of a decision log, from the first line to the last.

    Args:
        folder: The log; may be in use.
        heads: Statements or hashes that were published elsewhere while the log was written: each
            must be in it.
        key: The device's public key, from elsewhere. Without it the one beside the log is taken,
            and the report says that this proves little.
        with_evidence: Also read each kept frame that is still there, and compare it with the hash
            that the log has of it.

    Raises:
        DatasetError: There is no decision log.
        StorageError: It cannot be read.
        ConfigError: Signatures are to be checked, and ``cryptography`` is not installed.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is no folder; the folder of a decision log is wanted")
    run = _Audit(folder, heads, key, EvidenceCheck(folder) if with_evidence else None)
    try:
        with contextlib.ExitStack() as opened:
            closed, active = _opened(folder, opened)
            names = [each.name for each in closed] + ([] if active is None else [JOURNAL_NAME])
            if not names:
                raise DatasetError(f"{folder}: holds no decision log ({JOURNAL_NAME} is not there)")
            for path in closed:
                with path.open("rb") as file:
                    run.read(path.name, file)
            if active is not None:
                run.read(JOURNAL_NAME, active)
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be read ({error.strerror}); if segments were retired meanwhile, run "
            "it again"
        ) from error
    run.end(names[0])
    check = run.check
    if run.raw_lines and not check.lines:
        raise DatasetError(
            f"{folder}: {names[0]} is no decision log of this version "
            f"(line 1 {check.problems[0].detail})"
        )
    return AuditReport(
        folder=folder,
        files=len(names),
        lines=check.lines,
        first_line=run.first_line,
        last_line=check.ledger.line if check.lines else None,
        verdicts=dict(check.ledger.verdicts),
        open_triggers=len(check.ledger.open_triggers),
        head=check.head,
        problems=tuple(check.problems),
        unproven=tuple(run.unproven),
        evidence=run.compared,
    )


def _opened(folder: Path, opened: contextlib.ExitStack) -> tuple[list[Path], BinaryIO | None]:
    """The closed segments, and the file that is written, as they were at one moment.

    A segment that is closed in between would be missed, or read twice; then look again.
    """
    for _ in range(_LOOKS):
        try:
            active = opened.enter_context((folder / JOURNAL_NAME).open("rb"))
        except FileNotFoundError:
            return [each.path for each in closed_segments(folder)], None
        inode = os.fstat(active.fileno()).st_ino
        closed = [each.path for each in closed_segments(folder)]
        if all(path.stat().st_ino != inode for path in closed):
            return closed, active
    raise StorageError(f"{folder}: changes too fast to be read; stop the line and run it again")


def _rest_of(line: bytes, file: BinaryIO) -> bytes:
    """A last line as it is once whoever writes it has had the time to."""
    for _ in range(_LOOKS):
        time.sleep(0.001)
        line += file.readline()
        if line.endswith(b"\n"):
            break
    return line


def heads_from(text: str) -> list[HeadStatement | str]:
    """The heads that a person names: a file of statements, or the hash of a line.

    Raises:
        ConfigError: Neither of the two.
        StorageError: The file holds no heads.
    """
    path = Path(text)
    if path.is_file():
        return list(read_heads(path))
    if _SHA256.fullmatch(text):
        return [text]
    raise ConfigError(
        f"--head {text}: is no file that is there, and no hash (64 of 0-9 and a-f); a published "
        f"head such as a copy of {HEAD_NAME} is wanted"
    )


class _Audit:
    """One audit, with what it must remember from line to line."""

    def __init__(
        self,
        folder: Path,
        heads: Sequence[HeadStatement | str],
        key: PublicKey | None,
        evidence: EvidenceCheck | None,
    ) -> None:
        self.check = ChainCheck(self._beginning)
        self.unproven: list[str] = []
        self.first_line: int | None = None
        self.raw_lines = 0
        self.compared: int | None = None
        self._evidence = evidence
        self._statements = sorted(
            (each for each in heads if isinstance(each, HeadStatement)), key=lambda each: each.line
        )
        self._hashes = {each for each in heads if isinstance(each, str)}
        self._hash_line: int | None = None
        self._given_key = key
        self._key = key
        self._pending = list(self._statements)
        self._retired_to: int | None = None
        self._is_retirement_noted = False
        self._place = ("", 0)
        # Before the log is read: of a log in use, a later one speaks of lines that came meanwhile.
        own = folder / HEAD_NAME
        self._own_head = read_head(own) if not heads and own.exists() else None
        if key is None and (folder / PUBLIC_KEY_NAME).exists():
            self._key = PublicKey.read(folder / PUBLIC_KEY_NAME)

    def read(self, name: str, file: BinaryIO) -> None:
        """Take one file."""
        for number, line in enumerate(file, start=1):
            raw = line if line.endswith(b"\n") else _rest_of(line, file)
            self.raw_lines += 1
            self._place = (name, number)
            link = self.check.take(raw, number, name)
            if link is not None:
                self._take(link, is_first_of_file=number == 1)

    def end(self, first_name: str) -> None:
        """Say what only the end shows."""
        check = self.check
        for statement in self._pending:
            self._problem(
                ProblemKind.HEAD,
                f"line {statement.line} was published, the log ends at line {check.ledger.line}",
            )
        for sha256 in sorted(self._hashes):
            self._problem(ProblemKind.HEAD, f"no line has the published hash {sha256[:16]}...")
        if check.ledger.is_stopped:
            for trigger in check.ledger.open_triggers.values():
                self._problem(
                    ProblemKind.TRIGGER,
                    f"trigger {trigger.trigger_id} (sequence {trigger.sequence}) has no decision, "
                    "and the run ended in order",
                )
        if self._retired_to is not None and not self._is_retirement_noted:
            check.problems.insert(
                0,
                ChainProblem(
                    1,
                    ProblemKind.BEGINNING,
                    f"lines 1 to {self._retired_to} are missing, and no retirement of them is "
                    "noted",
                    first_name,
                ),
            )
        self._check_signatures()
        self._compare_evidence()
        self._say_what_is_unproven()

    def _take(self, link: Link, *, is_first_of_file: bool) -> None:
        file, number = self._place
        if self._evidence is not None:
            self._evidence.take(link, file, number)
        if self.first_line is None:
            self.first_line = link.line
        elif is_first_of_file and not link.is_checkpoint:
            self._problem(ProblemKind.SEGMENT, "the segment does not begin with a checkpoint")
        if is_first_of_file and file not in (JOURNAL_NAME, segment_name(link.line)):
            self._problem(
                ProblemKind.SEGMENT,
                f"the file begins at line {link.line}, its name says something else",
            )
        while self._pending and self._pending[0].line <= link.line:
            statement = self._pending.pop(0)
            if statement.line < link.line:
                if statement.line < (self.first_line or 1):
                    continue  # retired
                self._problem(
                    ProblemKind.HEAD, f"line {statement.line} was published and is missing"
                )
            elif statement.sha256 != link.sha256:
                self._problem(
                    ProblemKind.HEAD, f"line {link.line} is not the one that was published"
                )
        if link.sha256 in self._hashes:
            self._hashes.discard(link.sha256)
            self._hash_line = link.line
        if link.event is EventKind.RETIREMENT and self._retired_to is not None:
            detail = link.document.get("detail")
            last = detail.get("last_line") if isinstance(detail, dict) else None
            # Beyond it where power was lost before all of those files were deleted.
            if isinstance(last, int) and last >= self._retired_to:
                self._is_retirement_noted = True

    def _beginning(self, link: Link) -> str | None:
        """Whether a log may begin with this line: a checkpoint that the device has signed."""
        missing = f"the log begins at line {link.line}, "
        detail = link.document.get("detail")
        anchor = detail.get("anchor") if link.is_checkpoint and isinstance(detail, dict) else None
        if not isinstance(anchor, dict):
            return missing + "which is no signed checkpoint: what came before is missing"
        try:
            statement = HeadStatement.from_dict(anchor)
        except ValueError:
            return missing + "with a checkpoint that is not sound"
        if (statement.line, statement.sha256) != (link.line - 1, link.previous):
            return missing + "with a checkpoint that speaks of another line"
        if self._key is None or not statement.is_signed_by(self._key):
            return missing + "with a checkpoint that this device's key has not signed"
        self._retired_to = link.line - 1
        return None

    def _check_signatures(self) -> None:
        for statement in self._statements:
            if statement.signature is None:
                self.unproven.append(f"the head of line {statement.line} is not signed")
            elif self._key is None:
                self.unproven.append(
                    f"who signed the head of line {statement.line}: no key was given"
                )
            elif not statement.is_signed_by(self._key):
                self._problem(
                    ProblemKind.SIGNATURE,
                    f"the head of line {statement.line} was not signed by this device's key",
                )

    def _compare_evidence(self) -> None:
        if self._evidence is None:
            return
        self.compared, unknown, problems = self._evidence.compare()
        self.check.problems.extend(problems)
        if unknown:
            self.unproven.append(
                f"what {unknown} of the kept frames show: the log has no hash of them"
            )

    def _say_what_is_unproven(self) -> None:
        last = self.check.ledger.line
        anchored = [each.line for each in self._statements if each not in self._pending]
        if self._hash_line is not None:
            anchored.append(self._hash_line)
        safe = max(anchored, default=0)
        if not self._statements and self._hash_line is None and not self._hashes:
            self.unproven.append(
                "tail not provable: without a published head (--head), lines that were cut from "
                "the end, a changed last line and a log that was written anew cannot be seen"
            )
            self._compare_own_head()
        elif safe < last:
            self.unproven.append(
                f"tail not provable after line {safe}: no published head covers lines "
                f"{safe + 1} to {last}, nor any that may have followed"
            )
        if self._retired_to is not None:
            self.unproven.append(
                f"what lines 1 to {self._retired_to} said: they were retired after a signed "
                "checkpoint"
            )
        if self._given_key is None and self._key is not None:
            self.unproven.append(
                f"whose key it is: {PUBLIC_KEY_NAME} lies beside the log; compare its id "
                f"{self._key.key_id[:16]} with the one you noted, or give --key"
            )

    def _compare_own_head(self) -> None:
        """The head beside the log proves nothing, but an honest loss of lines shows in it."""
        head = self._own_head
        if head is not None and head.line > self.check.ledger.line:
            self._problem(
                ProblemKind.HEAD,
                f"{HEAD_NAME} says that line {head.line} was there, the log ends at line "
                f"{self.check.ledger.line}",
            )

    def _problem(self, kind: ProblemKind, detail: str) -> None:
        file, number = self._place
        self.check.problems.append(ChainProblem(number, kind, detail, file))
