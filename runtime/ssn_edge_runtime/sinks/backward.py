"""Reading a journal from its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ssn_edge_runtime.sinks.segments import journal_files

_BLOCK_BYTES = 2**18


def lines_backward(folder: Path) -> Iterator[bytes]:
    """A journal's whole lines from the last to the first, over all segments, without their ends.

    What has no end is left out, and so is a file that cannot be read: the journal itself looks
    into both.

    Args:
        folder: Of the journal; need not be there.

    Raises:
        StorageError: The folder cannot be read.
    """
    if folder.is_dir():
        for path in reversed(journal_files(folder)):
            yield from _of_file(path)


def _of_file(path: Path) -> Iterator[bytes]:
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
