"""The files of a journal: closed segments, oldest first, and the one that is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import StorageError

JOURNAL_NAME = "decisions.jsonl"
"""The segment that is written, or was written last."""
_SEGMENT = re.compile(r"decisions-(\d{12,})\.jsonl")


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A closed segment.

    Args:
        first_line: Number of its first line in the chain, as its name says.
        path: The file.
    """

    first_line: int
    path: Path


def segment_name(first_line: int) -> str:
    """What a segment is renamed to when the next one is begun."""
    return f"decisions-{first_line:012d}.jsonl"


def closed_segments(folder: Path) -> list[Segment]:
    """The closed segments of a journal, oldest first.

    Raises:
        StorageError: The folder cannot be read.
    """
    try:
        found = [
            Segment(int(match[1]), path)
            for path in folder.iterdir()
            if (match := _SEGMENT.fullmatch(path.name))
        ]
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted(found)


def journal_files(folder: Path) -> list[Path]:
    """All files of a journal in the order of their lines; the last one may be in use.

    Raises:
        StorageError: The folder cannot be read.
    """
    files = [segment.path for segment in closed_segments(folder)]
    active = folder / JOURNAL_NAME
    return [*files, active] if active.exists() else files
