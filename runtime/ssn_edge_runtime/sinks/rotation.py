"""Taking back rotations that were cut short.

A rotation renames the file that is written after its first line, and begins another one. A kill may
leave that one without a line. Power may take the tail of the renamed file while the new one has
lines already, and more than one rotation may have come since the last sync.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ssn_edge_runtime.sinks.group_sync import LONGEST_SYNC_S
from ssn_edge_runtime.sinks.links import Link, line_sha256
from ssn_edge_runtime.sinks.recovery import (
    DamagedEnd,
    End,
    SetAside,
    find_end,
    free_aside,
    last_line,
    sync_folder,
)
from ssn_edge_runtime.sinks.segments import Segment

_UNSYNCED_NS = int(2 * LONGEST_SYNC_S * 1e9)
"""A segment that was begun so long before the last line had its predecessor synced by then."""


def take_back_rotations(
    active: Path, closed: Sequence[Segment], *, safe_line: int
) -> list[SetAside]:
    """Make the last segment that power or a kill left in order the one that is written.

    What came after it is set aside: it is chained to lines that are no longer there.

    Args:
        active: The file that is written; need not be there.
        closed: The closed segments, oldest first.
        safe_line: A line that is known to have been synced; 0 if none is.

    Returns:
        What was set aside, newest first.

    Raises:
        DamagedEnd: Lines are missing or changed that had been synced.
        OSError: The disk does not take it.
    """
    asides: list[SetAside] = []
    for before in list(reversed(closed))[: _unfinished(active, closed, safe_line)]:
        if active.exists() and active.stat().st_size:
            content = active.read_bytes()
            aside = free_aside(active.parent)
            active.rename(aside)
            sync_folder(active.parent)
            asides.append(SetAside(aside.name, len(content), line_sha256(content)))
        before.path.replace(active)
        sync_folder(active.parent)
    return asides


def _unfinished(active: Path, closed: Sequence[Segment], safe_line: int) -> int:
    """How many rotations are to be taken back."""
    newer = _end(active) if active.exists() else None
    newest_line = None if newer is None else newer.last
    count = 0
    for number, before in enumerate(reversed(closed), start=1):
        if newer is None or newer.first is None:
            count = number
            newer = _end(before.path)
        else:
            is_safe = safe_line >= newer.first.line - 1 or _is_old(newer.first, newest_line)
            if is_safe:
                # Only its last line is looked at: a segment is large, and the audit reads it all.
                if not _is_followed(before, _last(before.path), newer.first):
                    raise DamagedEnd(f"the end of {before.path.name} is missing or damaged")
                break
            end = _end(before.path)
            is_whole = end.whole_bytes == before.path.stat().st_size
            if not is_whole or not _is_followed(before, end.last, newer.first):
                count = number
            newer = end
        newest_line = newer.last if newest_line is None else newest_line
    return count


def _is_followed(before: Segment, last: Link | None, first: Link) -> bool:
    """Whether a segment's last line is the one that the next segment begins after.

    Raises:
        DamagedEnd: It is there, and another one.
    """
    if last is None or last.line + 1 < first.line:
        return False
    if last.line + 1 == first.line and last.sha256 == first.previous:
        return True
    raise DamagedEnd(f"{before.path.name} is not the segment that the next one was chained to")


def _end(path: Path) -> End:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)  # what a killed process left in the kernel, nobody syncs any more
        return find_end(fd)
    finally:
        os.close(fd)


def _last(path: Path) -> Link | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return last_line(fd)
    finally:
        os.close(fd)


def _is_old(first: Link, newest: Link | None) -> bool:
    """Whether a segment was begun so long before the newest line that it must have been synced."""
    if newest is None:
        return False
    begin, end = first.document.get("monotonic_ns"), newest.document.get("monotonic_ns")
    if first.document.get("boot_id") != newest.document.get("boot_id"):
        return True  # and it was synced when the journal was opened in between
    if not isinstance(begin, int) or not isinstance(end, int):
        return True
    return end - begin >= _UNSYNCED_NS
