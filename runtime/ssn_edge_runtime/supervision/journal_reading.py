"""Reading a journal back from its end: what was decided since a moment."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.sinks.backward import lines_backward

LARGEST_READ_BYTES = 128 * 2**20
"""Some 140,000 parts, and a second or two: a start must not take minutes."""


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
    earliest = since.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    left = limit_bytes
    for line in lines_backward(folder):
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
