"""Reading a journal back from its end: what was decided since a moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.sinks.segments import journal_files

LARGEST_READ_BYTES = 128 * 2**20
"""Some 140,000 parts, and a second or two: a start must not take minutes."""
_BLOCK_BYTES = 2**18


def verdicts_since(
    folder: Path, since: datetime, *, limit_bytes: int = LARGEST_READ_BYTES
) -> tuple[list[dict[str, object]], bool]:
    """The verdict lines of a journal that were decided since a moment, newest first.

    Reading back ends at the first that was decided before, so a wall clock that was set back may
    hide some; and a line that is torn or no JSON is passed over: the journal itself looks into it.

    Args:
        folder: Of the journal; need not be there.
        since: With a time zone.
        limit_bytes: Reads no more than this.

    Returns:
        The lines as JSON objects, and whether all of them were read.

    Raises:
        StorageError: The folder cannot be read.
    """
    found: list[dict[str, object]] = []
    if not folder.is_dir():
        return found, True
    earliest = since.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    left = limit_bytes
    for path in reversed(journal_files(folder)):
        for line in _lines_backward(path):
            left -= len(line) + 1
            if left < 0:
                return found, False
            if b'"kind":"verdict"' not in line:
                continue
            try:
                document = json.loads(line)
            except ValueError:
                continue
            decided_at = document.get("decided_at") if isinstance(document, dict) else None
            if not isinstance(decided_at, str):
                continue
            if decided_at < earliest:  # of one form, so that texts sort as moments
                return found, True
            found.append(document)
    return found, True


def _lines_backward(path: Path) -> Iterator[bytes]:
    """Whole lines from the last to the first; what has no end is left out."""
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            rest = b""
            is_end = True
            while position > 0:
                size = min(_BLOCK_BYTES, position)
                position -= size
                file.seek(position)
                first, *lines = (file.read(size) + rest).split(b"\n")
                if is_end and lines:
                    lines.pop()  # empty, or torn
                    is_end = False
                yield from reversed(lines)
                rest = first
            if not is_end:
                yield rest
    except OSError:
        return
