"""Opening a journal: which file goes on, and taking back a rotation that was cut short."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

from ssn_edge_runtime.record import parse_utc
from ssn_edge_runtime.sinks.group_sync import LONGEST_SYNC_S
from ssn_edge_runtime.sinks.links import Link, line_sha256
from ssn_edge_runtime.sinks.recovery import (
    DamagedEnd,
    End,
    SetAside,
    find_end,
    free_aside,
    last_line,
    set_tail_aside,
    sync_folder,
)
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, Segment, closed_segments

_UNSYNCED_NS = int(2 * LONGEST_SYNC_S * 1e9)
"""A segment that was written to for longer than this had its predecessor synced by then."""


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


def open_files(folder: Path) -> Opened:
    """Find the file in which a journal goes on, and make its end a whole line.

    A rotation renames the file and begins another one. Where it was cut short before that one had
    its first line, and where power loss took the tail of the renamed file from under it, the
    rotation is taken back: the renamed file goes on, and what was in the other one is set aside.

    Args:
        folder: Of the journal; locked by the caller.

    Raises:
        DamagedEnd: The end is damaged, and no kill and no loss of power explains it.
        OSError: The disk does not take it.
        StorageError: The folder cannot be read.
    """
    active = folder / JOURNAL_NAME
    closed = closed_segments(folder)
    asides: list[SetAside] = []
    if closed:
        before = closed[-1]
        if _is_rotation_unfinished(active, before):
            asides += _take_back_rotation(active, before)
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


def _is_rotation_unfinished(active: Path, before: Segment) -> bool:
    """Whether the segment before must go on, rather than the file after it.

    Raises:
        DamagedEnd: They do not belong together.
    """
    if not active.exists():
        return True
    end = _end(active)
    if end.first is None or end.last is None:
        return True
    fd = os.open(before.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        last = last_line(fd)
        is_young = not end.ledger.is_stopped and _span_ns(end.first, end.last) < _UNSYNCED_NS
        if last is not None and is_young:
            # Not known to be synced: pages in its middle may be missing, too.
            whole = find_end(fd)
            last = whole.last if whole.whole_bytes == os.fstat(fd).st_size else None
    finally:
        os.close(fd)
    if last is not None and last.line + 1 == end.first.line:
        if last.sha256 == end.first.previous:
            return False
        raise DamagedEnd(f"{before.path.name} is not the segment that it was chained to")
    if is_young and (last is None or last.line < end.first.line):
        return True
    raise DamagedEnd(f"the end of {before.path.name} is missing or damaged")


def _take_back_rotation(active: Path, before: Segment) -> list[SetAside]:
    asides = []
    if active.exists() and active.stat().st_size:
        content = active.read_bytes()
        aside = free_aside(active.parent)
        active.rename(aside)
        sync_folder(active.parent)
        asides.append(SetAside(aside.name, len(content), line_sha256(content)))
    before.path.replace(active)
    sync_folder(active.parent)
    return asides


def _end(path: Path) -> End:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return find_end(fd)
    finally:
        os.close(fd)


def _span_ns(first: Link, last: Link) -> int:
    """Time between two lines; endless where they are of different boots of the machine."""
    begin, end = first.document.get("monotonic_ns"), last.document.get("monotonic_ns")
    same_boot = first.document.get("boot_id") == last.document.get("boot_id")
    if not same_boot or not isinstance(begin, int) or not isinstance(end, int):
        return _UNSYNCED_NS
    return end - begin


def _begun_s(fd: int, first: Link) -> float:
    """When a segment was begun: what its checkpoint says, or the last change of a first segment."""
    at = first.document.get("at")
    if isinstance(at, str):
        with suppress(ValueError):
            return parse_utc(at).timestamp()
    return os.fstat(fd).st_mtime
