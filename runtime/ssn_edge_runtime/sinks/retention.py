"""Retirement: old segments are deleted, once a signed checkpoint stands for them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import EventKind, EventRecord, clock_synchronised, parse_utc
from ssn_edge_runtime.sinks.device_key import PublicKey
from ssn_edge_runtime.sinks.heads import HeadStatement
from ssn_edge_runtime.sinks.recovery import sync_folder
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, Segment, closed_segments

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long segments are kept.

    Args:
        max_age_s: Segments whose last line is older go, unless the clock is known not to be
            synchronised; None keeps them.
        max_bytes: The oldest go while all segments together are larger; None keeps them.
    """

    max_age_s: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        if (self.max_age_s is not None and not self.max_age_s > 0) or (
            self.max_bytes is not None and self.max_bytes < 1
        ):
            raise ConfigError(
                f"segments are kept for {self.max_age_s} s and {self.max_bytes} bytes; both must "
                "be above 0, or not set"
            )


@dataclass(frozen=True, slots=True)
class Retirement:
    """Segments that are to be deleted.

    Note `event` in the journal, wait until it is synced, delete the evidence up to
    `last_sequence`, and then `carry_out`: the log says what is missing before it is missing.

    Args:
        segments: The files, oldest first.
        first_line: Number of their first line.
        last_line: Number of their last line.
        last_sha256: Its hash, which the next segment names as `previous`.
        last_sequence: Number of the last part that was accepted by then.
        size: Of all of them, in bytes.
    """

    segments: tuple[Segment, ...]
    first_line: int
    last_line: int
    last_sha256: str
    last_sequence: int
    size: int

    @property
    def event(self) -> EventRecord:
        """What the journal must say first."""
        return EventRecord.now(
            EventKind.RETIREMENT,
            {
                "first_line": self.first_line,
                "last_line": self.last_line,
                "last_sha256": self.last_sha256,
                "last_sequence": self.last_sequence,
                "segments": len(self.segments),
                "bytes": self.size,
            },
        )

    def carry_out(self) -> None:
        """Delete the segments, oldest first, so that what is left is always one chain.

        Raises:
            StorageError: One cannot be deleted; those after it stay.
        """
        for segment in self.segments:
            try:
                segment.path.unlink(missing_ok=True)
                # One after the other also after a loss of power: no hole in the middle.
                sync_folder(segment.path.parent)
            except OSError as error:
                raise StorageError(
                    f"{segment.path}: cannot be deleted ({error.strerror})"
                ) from error


def plan_retirement(
    folder: Path, policy: RetentionPolicy, key: PublicKey, *, now: datetime | None = None
) -> Retirement | None:
    """Find the segments that are old enough, or too many; None if there are none.

    A segment goes only if the one after it begins with a checkpoint that `key` has signed, which
    carries the triggers that are still open; the segment that is written stays.

    Args:
        folder: Of the journal; may be in use.
        policy: How long segments are kept.
        key: The device's.
        now: UTC.

    Raises:
        StorageError: The folder cannot be read.
    """
    now = datetime.now(timezone.utc) if now is None else now
    # A clock that was never set could make all of the log look old.
    is_clock_trusted = clock_synchronised() is not False
    closed = closed_segments(folder)
    if not closed:
        return None
    following = [*(each.path for each in closed[1:]), folder / JOURNAL_NAME]
    try:
        sizes = [each.path.stat().st_size for each in closed]
        total = sum(sizes) + (folder / JOURNAL_NAME).stat().st_size
        chosen: list[Segment] = []
        anchor: HeadStatement | None = None
        size = 0
        for segment, next_path, segment_size in zip(closed, following, sizes, strict=True):
            document = _first_document(next_path)
            begun = None if document is None else _begun(document)
            is_old = (
                policy.max_age_s is not None
                and is_clock_trusted
                and begun is not None
                and (now - begun).total_seconds() > policy.max_age_s
            )
            is_too_much = policy.max_bytes is not None and total - size > policy.max_bytes
            if not is_old and not is_too_much:
                break
            found = None if document is None else _signed_anchor(document, key)
            if found is None:
                logger.warning(
                    "%s: is not retired, %s does not begin with a checkpoint that this device has "
                    "signed",
                    segment.path,
                    next_path.name,
                )
                break
            chosen.append(segment)
            size += segment_size
            anchor = found
    except FileNotFoundError:  # a segment was begun in this very moment: the next look finds all
        return None
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})") from error
    if anchor is None:
        return None
    return Retirement(
        segments=tuple(chosen),
        first_line=chosen[0].first_line,
        last_line=anchor.line,
        last_sha256=anchor.sha256,
        last_sequence=anchor.sequence,
        size=size,
    )


def _first_document(path: Path) -> Mapping[str, object] | None:
    with path.open("rb") as file:
        line = file.readline()
    try:
        document = json.loads(line)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _begun(document: Mapping[str, object]) -> datetime | None:
    """When the segment was begun, and with it the one before ended."""
    try:
        return parse_utc(str(document.get("at")))
    except ValueError:
        return None


def _signed_anchor(document: Mapping[str, object], key: PublicKey) -> HeadStatement | None:
    detail = document.get("detail")
    anchor = detail.get("anchor") if isinstance(detail, dict) else None
    if not isinstance(anchor, dict):
        return None
    try:
        statement = HeadStatement.from_dict(anchor)
    except ValueError:
        return None
    line, previous = document.get("line"), document.get("previous")
    if (statement.line + 1, statement.sha256) != (line, previous):
        return None
    return statement if statement.is_signed_by(key) else None
