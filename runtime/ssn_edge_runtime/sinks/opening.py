"""Opening a journal: who may, in which file it goes on, and what it must say of the run before."""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import EventKind, EventRecord, Scalar, parse_utc
from ssn_edge_runtime.sinks.heads import HeadStatement
from ssn_edge_runtime.sinks.links import Link
from ssn_edge_runtime.sinks.recovery import (
    End,
    SetAside,
    find_end,
    set_tail_aside,
    sync_folder,
)
from ssn_edge_runtime.sinks.rotation import take_back_rotations
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, closed_segments

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A journal that is ready to go on.

    Args:
        fd: The file that is appended to, all of it whole lines.
        end: Its end.
        first_line: Number of its first line; of the next line, where it has none.
        begun_s: When it was begun, in seconds of the wall clock.
        asides: What was taken out of it.
    """

    fd: int
    end: End
    first_line: int
    begun_s: float
    asides: tuple[SetAside, ...]


def lock_folder(folder: Path) -> int:
    """Make a journal's folder, and hold it against other runs until the descriptor is closed.

    The folder, not the file in it: that one is renamed.

    Raises:
        StorageError: Another run holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be opened ({error.strerror})") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            raise StorageError(
                f"{folder}: another run is writing it; stop that run or choose another output "
                "folder"
            ) from error
        raise StorageError(f"{folder}: cannot be locked ({error.strerror})") from error
    return fd


def restart_event(
    path: Path, opened: Opened, published: HeadStatement | None
) -> EventRecord | None:
    """What the journal must say about the run before; None if that ended in order.

    Args:
        path: Of the file, for warnings.
        opened: What was found.
        published: The head that lies beside the journal.
    """
    ledger = opened.end.ledger
    for aside in opened.asides:
        logger.warning(
            "%s: the last line was torn, %d bytes of it set aside in %s; the chain goes on",
            path,
            aside.size,
            aside.name,
        )
    missing_line = None
    if published is not None and published.line > ledger.line:
        missing_line = published.line
        logger.warning(
            "%s: ends at line %d, but line %d was published as safe: lines are missing",
            path,
            ledger.line,
            missing_line,
        )
    ended_in_order = ledger.line == 0 or ledger.is_stopped
    if ended_in_order and not opened.asides and missing_line is None:
        return None
    detail: dict[str, Scalar] = {
        "open_triggers": len(ledger.open_triggers),
        "set_aside": ", ".join(each.name for each in opened.asides) or None,
        "set_aside_bytes": sum(each.size for each in opened.asides),
        "set_aside_sha256": ", ".join(each.sha256 for each in opened.asides) or None,
        "published_line": missing_line,
    }
    return EventRecord.now(EventKind.RESTART, detail)


def open_files(folder: Path, *, safe_line: int) -> Opened:
    """Find the file in which a journal goes on, and make its end a whole line.

    Args:
        folder: Of the journal; locked by the caller.
        safe_line: A line that is known to have been synced; 0 if none is.

    Raises:
        DamagedEnd: The end is damaged, and no kill and no loss of power explains it.
        OSError: The disk does not take it.
        StorageError: The folder cannot be read.
    """
    active = folder / JOURNAL_NAME
    asides = take_back_rotations(active, closed_segments(folder), safe_line=safe_line)
    fd = os.open(active, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        end = find_end(fd)
        if end.whole_bytes < os.fstat(fd).st_size:
            asides.append(set_tail_aside(fd, active, end.whole_bytes))
        # A killed process leaves lines in the kernel that nobody syncs any more.
        os.fsync(fd)
        sync_folder(folder)
    except BaseException:
        os.close(fd)
        raise
    if end.first is None:
        return Opened(fd, end, end.ledger.line + 1, time(), tuple(asides))
    return Opened(fd, end, end.first.line, _begun_s(fd, end.first), tuple(asides))


def _begun_s(fd: int, first: Link) -> float:
    """When a segment was begun: what its checkpoint says, or the last change of a first segment."""
    at = first.document.get("at")
    if isinstance(at, str):
        with suppress(ValueError):
            return parse_utc(at).timestamp()
    return os.fstat(fd).st_mtime
