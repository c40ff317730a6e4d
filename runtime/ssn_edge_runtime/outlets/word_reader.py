"""The line's side of what its outlets say: so much is taken at a time, and the rest is counted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ssn_edge_runtime.outlets.words import LONGEST_WORD

MOST_BYTES = 4096
"""That are taken at a look."""
MOST_WORDS = 8
"""That are read at a look; an outlet says one a second, and one more at a loss."""


class WordReader:
    """Reads one outlet's standard output; never waits.

    Args:
        fd: It; does not block.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""
        self._is_too_long = False
        self.refused = 0
        """Lines that were none of an outlet's words, or too many; to be set back."""

    def take(self) -> list[Mapping[str, object]]:
        """What has come since, the oldest first."""
        try:
            data = os.read(self._fd, MOST_BYTES)
        except OSError:  # nothing, or nobody
            return []
        *lines, rest = (self._rest + data).split(b"\n")
        if self._is_too_long and lines:
            del lines[0]  # the end of it
            self._is_too_long = False
        self._rest = rest
        if len(rest) > LONGEST_WORD:
            self.refused += not self._is_too_long
            self._rest, self._is_too_long = b"", True
        self.refused += max(0, len(lines) - MOST_WORDS)
        words = [_word(line) for line in lines[:MOST_WORDS]]
        self.refused += words.count(None)
        return [word for word in words if word is not None]


def _word(line: bytes) -> Mapping[str, object] | None:
    if len(line) > LONGEST_WORD:
        return None
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and len(document) == 1 else None
