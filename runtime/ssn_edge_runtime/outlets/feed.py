"""From a journal's lines to what a peer is owed, and the place where it goes on after a restart."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.outlets.backlog import Backlog, Gap, Message
from ssn_edge_runtime.sinks.tail import (
    DivergedError,
    RetiredError,
    Tail,
    TailLine,
    first_line_of,
    last_line_of,
    read_line,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where a peer was given everything.

    Args:
        line: Of the journal; 0 before its first.
        sha256: Its hash; of another journal it would differ. Empty for line 0.
    """

    line: int
    sha256: str


class PlaceFile:
    """The place on disk, for one peer; what is no such file stands for none.

    Args:
        path: Of the file.
        peer: Whose place it is; that of another peer is none for this one.
    """

    def __init__(self, path: Path, peer: str) -> None:
        self._path = path
        self._peer = peer

    def read(self) -> Place | None:
        """The place, if there is one."""
        try:
            found = json.loads(self._path.read_bytes())
            place = Place(found["line"], found["sha256"])
            is_ours = found["peer"] == self._peer
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        is_whole = type(place.line) is int and place.line >= 0 and isinstance(place.sha256, str)
        return place if is_ours and is_whole else None

    def write(self, place: Place) -> None:
        """Keep a place.

        Raises:
            StorageError: It cannot be written.
        """
        document = {"peer": self._peer, "line": place.line, "sha256": place.sha256}
        write_whole(self._path, json.dumps(document).encode() + b"\n")


class Feed:
    """Reads a journal into a backlog; a context manager.

    It begins where the peer was left. One that was never served begins at the journal's end: what
    was decided before it was asked for is in the journal.

    Args:
        folder: Of the journal; need not be there yet.
        place: Where the peer is remembered.
        is_wanted: Whether a line makes a message.
    """

    def __init__(
        self,
        folder: Path,
        place: PlaceFile,
        *,
        is_wanted: Callable[[TailLine], bool],
        most_messages: int,
        most_bytes: int,
    ) -> None:
        self._folder = folder
        self._place = place
        self._is_wanted = is_wanted
        last = last_line_of(folder)
        kept = place.read()
        end = Place(0, "") if last is None else Place(last.line, last.sha256)
        if kept is not None and not self._is_in_journal(kept):
            kept = None  # power loss took lines back, or it is another journal
        # Where nothing was kept, the end of now is, before the peer is reached for the first time:
        # what comes until then is owed, also after an end of this process.
        self._is_kept = kept is not None
        self._kept = end if kept is None else kept
        self._tail = Tail(
            folder, after_line=self._kept.line, after_sha256=self._kept.sha256 or None
        )
        self.backlog = Backlog(self._kept.line, most_messages=most_messages, most_bytes=most_bytes)
        self._trouble = ""

    def step(self) -> int:
        """Read the next lines; returns how many they were. Never raises for a journal's trouble."""
        try:
            lines = self._tail.read()
        except RetiredError:
            return self._skip_retired()
        except DivergedError as error:
            return self._begin_anew(error)
        except StorageError as error:
            self._said(error)
            return 0
        for line in lines:
            if self._is_wanted(line):
                self.backlog.add(Message(line.line, line.kind, line.raw))
            else:
                self.backlog.passed(line.line)
        return len(lines)

    def keep(self) -> None:
        """Keep the place on disk if it changed. Never raises: the place before it stands then."""
        line = self.backlog.position
        if (line == self._kept.line and self._is_kept) or not self._folder.is_dir():
            return
        try:
            found = self._kept if line == self._kept.line else None
            if found is None and line == self._tail.line and self._tail.sha256 is not None:
                found = Place(line, self._tail.sha256)
            if found is None and (read := read_line(self._folder, line)) is not None:
                found = Place(line, read.sha256)
            if found is not None:
                self._place.write(found)
                self._kept, self._is_kept = found, True
        except StorageError as error:
            self._said(error)

    def close(self) -> None:
        """Keep the place, and let the journal go."""
        self.keep()
        self._tail.close()

    def __enter__(self) -> Feed:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _is_in_journal(self, place: Place) -> bool:
        first = first_line_of(self._folder)
        if first is None:
            return False
        if place.line < first:
            return True  # retired since: the peer is told what it missed
        found = read_line(self._folder, place.line)
        return found is not None and found.sha256 == place.sha256

    def _skip_retired(self) -> int:
        first = first_line_of(self._folder)
        if first is None or first <= self._tail.line + 1:
            return 0
        count = first - self._tail.line - 1
        self.backlog.lost(Gap(count, self._tail.line + 1, first - 1))
        self._from(first - 1)
        return count

    def _begin_anew(self, error: DivergedError) -> int:
        """Power loss took lines back while this process lived on, or the journal was replaced."""
        self._said(error)
        last = last_line_of(self._folder)
        self._from(0 if last is None else last.line)
        return 0

    def _from(self, line: int) -> None:
        self._tail.close()
        self._tail = Tail(self._folder, after_line=line)

    def _said(self, error: StorageError) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            logger.warning("%s", error)
