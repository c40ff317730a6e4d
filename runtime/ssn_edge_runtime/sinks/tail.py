"""Reading a journal while it is written: what live pages, outlets and databases follow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import FIRST_LINE, FIRST_PREVIOUS
from ssn_edge_runtime.sinks.backward import lines_backward
from ssn_edge_runtime.sinks.links import line_sha256
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, Segment, closed_segments, segment_name

POLL_S = 0.1
_BLOCK_BYTES = 2**20
_SCAN_BYTES = 2**16


class DivergedError(StorageError):
    """The journal no longer holds the line that a follower read last: power loss took it back."""


class RetiredError(StorageError):
    """The lines that a follower would read next were deleted before it came to them."""


@dataclass(frozen=True, slots=True)
class TailLine:
    """One whole line of a journal.

    Args:
        line: Its number.
        sha256: Its hash.
        raw: Its bytes, without the line end.
        document: The same, parsed.
    """

    line: int
    sha256: str
    raw: bytes
    document: Mapping[str, object]

    @property
    def kind(self) -> str:
        """``verdict``, ``trigger`` or ``event``."""
        return str(self.document.get("kind"))


class Tail:
    """Reads a journal's whole lines, each once, over all segments; a context manager.

    Takes nothing away from the journal and never waits for it. Survives rotation, and the
    journal's process being killed and started again.

    Args:
        folder: Of the journal; need not be there yet.
        after_line: Number of the line that was read last; 0 to begin at the first.
        after_sha256: Its hash, if `read` is to notice that power loss took it back.
    """

    def __init__(
        self, folder: Path, *, after_line: int = 0, after_sha256: str | None = None
    ) -> None:
        self._folder = folder
        self.line = after_line
        self.sha256 = FIRST_PREVIOUS if after_line == 0 else after_sha256
        self._is_checked = after_line == 0 or after_sha256 is None
        self._fd: int | None = None
        self._inode = 0
        self._offset = 0

    def read(self, limit: int = 1000) -> list[TailLine]:
        """The next whole lines; none where there are none yet.

        Raises:
            DivergedError: The line that was read last is no longer there.
            RetiredError: The next line was deleted.
            StorageError: The journal cannot be read.
        """
        try:
            if self._fd is None and not self._open_at(self.line):
                return []
            lines = self._read_file(limit)
            while not lines and self._open_next():
                lines = self._read_file(limit)
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be read ({error.strerror})") from error
        return lines

    def close(self) -> None:
        """Let the file go; a second call does nothing."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Tail:
        """Return itself; files are opened when they are read."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _read_file(self, limit: int) -> list[TailLine]:
        assert self._fd is not None
        length = _BLOCK_BYTES
        while True:
            data = os.pread(self._fd, length, self._offset)
            # A last line without its end is one that is being written, or was torn.
            whole = data.rfind(b"\n") + 1
            if whole or len(data) < length:
                break
            length *= 4
        lines: list[TailLine] = []
        for raw in data[:whole].split(b"\n")[:-1][:limit]:
            line = _parsed(raw, self._folder)
            if line.line != self.line + 1 or (
                self.sha256 is not None and line.document.get("previous") != self.sha256
            ):
                raise DivergedError(
                    f"{self._folder}: line {line.line} does not follow line {self.line} as it was "
                    "read"
                )
            self.line, self.sha256 = line.line, line.sha256
            self._offset += len(raw) + 1
            lines.append(line)
        return lines

    def _open_at(self, line: int) -> bool:
        """Open the file in which the next line is or will be; False where there is none yet."""
        files = self._files()
        if not files:
            return False
        self._check_last()
        if files[0].first_line > line + 1:
            raise RetiredError(
                f"{self._folder}: begins at line {files[0].first_line}; lines {line + 1} to "
                f"{files[0].first_line - 1} were retired before they were read"
            )
        segment = [each for each in files if each.first_line <= line + 1][-1]
        return self._open(segment, line + 1)

    def _open(self, segment: Segment, line: int) -> bool:
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # renamed in this moment; the next look finds it
            return False
        try:
            if _first_line_number(fd, self._folder) != segment.first_line:
                os.close(fd)
                return False
            offset = _offset_of(fd, line, self._folder)
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        self.close()
        self._fd, self._offset, self._inode = fd, offset, os.fstat(fd).st_ino
        return True

    def _open_next(self) -> bool:
        """Go on to the file that begins with the next line, if there is one."""
        first = self.line + 1
        for path in (self._folder / segment_name(first), self._folder / JOURNAL_NAME):
            with suppress(FileNotFoundError):
                if path.stat().st_ino != self._inode and self._open(Segment(first, path), first):
                    return True
        return False

    def _files(self) -> list[Segment]:
        """All files that have a line, oldest first."""
        if not self._folder.is_dir():
            return []
        # In this order: a file that is closed in between is found twice then, not missed.
        first = self._first_of_active()
        files = closed_segments(self._folder)
        if first is None or any(each.first_line == first for each in files):
            return files
        return [*files, Segment(first, self._folder / JOURNAL_NAME)]

    def _first_of_active(self) -> int | None:
        try:
            fd = os.open(self._folder / JOURNAL_NAME, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _first_line_number(fd, self._folder)
        finally:
            os.close(fd)

    def _check_last(self) -> None:
        """Whether the line that was read last, before this object was made, is still there."""
        if self._is_checked:
            return
        for _ in range(3):  # a file that is renamed in this very moment is found at the next look
            files = self._files()
            if files and files[0].first_line > self.line:
                break  # retired up to there, which `_open_at` looks at
            found = _line_at(self._folder, self.line, files)
            if found is not None:
                if found.sha256 != self.sha256:
                    raise DivergedError(
                        f"{self._folder}: line {self.line} is not the one that was read"
                    )
                break
        else:
            raise DivergedError(f"{self._folder}: line {self.line} was read and is not there")
        self._is_checked = True


def read_line(folder: Path, line: int) -> TailLine | None:
    """One line of a journal by its number; None where it is not there.

    Raises:
        StorageError: The journal cannot be read.
    """
    tail = Tail(folder)
    return _line_at(folder, line, tail._files())


def last_line_of(folder: Path) -> TailLine | None:
    """The last whole line that a journal has now; None where it has none.

    Raises:
        StorageError: The journal cannot be read.
    """
    for raw in lines_backward(folder):
        return _parsed(raw, folder)
    return None


def first_line_of(folder: Path) -> int | None:
    """Number of the first line that a journal still has; None where it has none."""
    files = Tail(folder)._files()
    return files[0].first_line if files else None


def tail_journal(
    folder: Path,
    *,
    from_line: int = FIRST_LINE,
    follow: bool = True,
    stop: Event | None = None,
    poll_s: float = POLL_S,
) -> Iterator[TailLine]:
    """Go through the lines of a journal, and then wait for more.

    Args:
        folder: Of the journal; need not be there yet.
        from_line: Number of the first line wanted.
        follow: Wait for more at the end; else end there.
        stop: Ends the waiting; what was written until then is still given.
        poll_s: Time between two looks, in seconds.

    Raises:
        RetiredError: Lines from there on were deleted.
        StorageError: The journal cannot be read, or was changed while it was.
    """
    stop = Event() if stop is None else stop
    with Tail(folder, after_line=from_line - 1) as reader:
        if from_line > FIRST_LINE:
            reader.sha256 = None
        while True:
            is_last = stop.is_set() or not follow
            lines = reader.read()
            yield from lines
            if lines:
                continue
            if is_last:
                return
            stop.wait(poll_s)


def _parsed(raw: bytes, folder: Path) -> TailLine:
    try:
        document = json.loads(raw)
        number = document["line"]
        if type(number) is not int:
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StorageError(
            f"{folder}: holds a line that is none of a journal; see ssn-edge audit"
        ) from error
    return TailLine(number, line_sha256(raw), raw, document)


def _line_from(fd: int, offset: int) -> bytes | None:
    """The whole line at an offset, without its end; None where it has none."""
    length = 2**14
    while True:
        data = os.pread(fd, length, offset)
        line, end, _ = data.partition(b"\n")
        if end:
            return line
        if len(data) < length:
            return None
        length *= 4


def _first_line_number(fd: int, folder: Path) -> int | None:
    raw = _line_from(fd, 0)
    return None if raw is None else _parsed(raw, folder).line


def _offset_of(fd: int, line: int, folder: Path) -> int:
    """Where a line begins, or would begin after the last whole one; by bisection.

    The lines of a file are numbered without gaps, so the number at any place tells which way to go.
    """
    low, high = 0, os.fstat(fd).st_size
    while high - low > _SCAN_BYTES:  # a line at or before the wanted one begins at `low`
        middle = (low + high) // 2
        begin = _begin_after(fd, middle, high)
        if begin is None:
            break
        raw = _line_from(fd, begin)
        if raw is not None and _parsed(raw, folder).line <= line:
            low = begin
        else:
            high = middle
    while (raw := _line_from(fd, low)) is not None and _parsed(raw, folder).line < line:
        low += len(raw) + 1
    return low


def _begin_after(fd: int, offset: int, limit: int) -> int | None:
    """Where the first line that begins after an offset begins; None where there is none."""
    while offset < limit:
        data = os.pread(fd, min(2**14, limit - offset), offset)
        place = data.find(b"\n")
        if place >= 0:
            return offset + place + 1 if offset + place + 1 < limit else None
        if not data:
            return None
        offset += len(data)
    return None


def _line_at(folder: Path, line: int, files: list[Segment]) -> TailLine | None:
    candidates = [each for each in files if each.first_line <= line]
    if not candidates:
        return None
    try:
        fd = os.open(candidates[-1].path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        raw = _line_from(fd, _offset_of(fd, line, folder))
        found = None if raw is None else _parsed(raw, folder)
        return found if found is not None and found.line == line else None
    finally:
        os.close(fd)
