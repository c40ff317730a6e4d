"""Finding the end of a journal: its last whole line, and what is open there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ssn_edge_runtime.sinks.ledger import Ledger
from ssn_edge_runtime.sinks.links import Link, line_sha256, link_from_line

LARGEST_READ_BACK_BYTES = 256 * 2**20
"""A file without a checkpoint or its beginning in so many bytes was not written by a journal."""
_FIRST_READ_BYTES = 2**16
_SCAN_BYTES = 2**20
_CHECKPOINT = b'"event":"checkpoint","kind":"event","line":'
"""As canonical JSON spells it, keys sorted; a text inside a line has its quotes escaped."""


class DamagedEnd(Exception):
    """The end of a file is no end of a journal, and no loss of power explains it."""


@dataclass(frozen=True, slots=True)
class End:
    """Where a journal goes on.

    Args:
        ledger: What its whole lines come to.
        whole_bytes: Where the last whole line ends; what comes after is torn.
        first: The file's first line; None where it has no whole line.
        last: The last whole line.
        since_checkpoint: Lines from the last checkpoint on, or from the beginning of the file.
    """

    ledger: Ledger
    whole_bytes: int
    first: Link | None
    last: Link | None
    since_checkpoint: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A torn tail that was taken out of a journal.

    Args:
        name: The file it lies in now.
        size: Its length in bytes.
        sha256: Its hash.
    """

    name: str
    size: int
    sha256: str


def find_end(fd: int) -> End:
    """Find the last whole line, and check the lines from the last checkpoint on.

    A line that power loss tore has no end, or holds pages that were never written, which read as
    zeros: it and all that comes after it are torn. Reads back to the last checkpoint only.

    Args:
        fd: The open file.

    Raises:
        DamagedEnd: A whole line there is none of this chain.
        OSError: The file cannot be read.
    """
    size = os.fstat(fd).st_size
    whole = _last_end(fd, _first_zero(fd, size))
    if whole == 0:
        return End(Ledger(), 0, None, None, 0)
    first = _first_line(fd, whole)
    lines = _from_last_checkpoint(fd, whole)
    return End(_ledger_of(lines), whole, first, _link(lines[-1]), len(lines))


def last_line(fd: int) -> Link | None:
    """The last line of a closed segment; None where its end is no whole line.

    Raises:
        OSError: The file cannot be read.
    """
    size = os.fstat(fd).st_size
    try:
        end = _last_end(fd, size)
        if end < size or end == 0:
            return None
        begin = _last_end(fd, end - 1)
        return link_from_line(os.pread(fd, end - 1 - begin, begin))
    except (DamagedEnd, ValueError):
        return None


def set_tail_aside(fd: int, path: Path, start: int) -> SetAside:
    """Move what comes after `start` into a file of its own, and cut it off.

    Args:
        fd: The open journal, for reading and writing.
        path: Its path.
        start: Where the last whole line ends.

    Raises:
        OSError: The disk does not take it; the tail is still where it was.
    """
    tail = os.pread(fd, os.fstat(fd).st_size - start, start)
    aside = _write_aside(path.parent, tail)
    sync_folder(path.parent)
    os.ftruncate(fd, start)
    os.fsync(fd)
    return SetAside(aside.name, len(tail), line_sha256(tail))


def sync_folder(folder: Path) -> None:
    """Make names in a folder survive power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_aside(folder: Path) -> Path:
    """A path that is free for what is set aside."""
    paths = (folder / f"decisions.torn-{number}" for number in count(1))
    return next(path for path in paths if not path.exists())


def _write_aside(folder: Path, tail: bytes) -> Path:
    path = free_aside(folder)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        rest = memoryview(tail)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    return path


def _first_zero(fd: int, size: int) -> int:
    """Offset of the first byte that is zero; the size where there is none."""
    for start in range(0, size, _SCAN_BYTES):
        place = os.pread(fd, _SCAN_BYTES, start).find(b"\0")
        if place >= 0:
            return start + place
    return size


def _last_end(fd: int, limit: int) -> int:
    """Where the last whole line before an offset ends; 0 if nowhere."""
    end = limit
    while end > 0:
        start = max(0, end - _FIRST_READ_BYTES)
        place = os.pread(fd, end - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        if limit - start > LARGEST_READ_BACK_BYTES:
            raise DamagedEnd("it has no lines")
        end = start
    return 0


def _first_line(fd: int, whole: int) -> Link:
    length = _FIRST_READ_BYTES
    while True:
        data = os.pread(fd, min(length, whole), 0)
        line, end, _ = data.partition(b"\n")
        if end:
            return _link(line)
        length *= 4


def _from_last_checkpoint(fd: int, whole: int) -> list[bytes]:
    """The whole lines from the last checkpoint on, or all where there is none."""
    length = _FIRST_READ_BYTES
    while True:
        start = max(0, whole - length)
        data = os.pread(fd, whole - start, start)
        place = data.rfind(_CHECKPOINT)
        begin = 0 if place < 0 else data.rfind(b"\n", 0, place) + 1
        # A line that begins before what was read is not whole.
        if start == 0 or begin > 0:
            return data[begin:].split(b"\n")[:-1]
        if length > LARGEST_READ_BACK_BYTES:
            raise DamagedEnd("there is no checkpoint")
        length *= 4


def _ledger_of(lines: list[bytes]) -> Ledger:
    first = _link(lines[0])
    try:
        if first.is_checkpoint:
            ledger = Ledger.from_checkpoint(first)
        elif first.is_first:
            ledger = Ledger()
            ledger.take(first.document)
        else:
            raise DamagedEnd(f"it begins at line {first.line}")
        ledger.follow(first)
        for line in lines[1:]:
            link = _link(line)
            if link.line != ledger.line + 1 or link.previous != ledger.head:
                raise DamagedEnd(f"line {link.line} does not follow the line before it")
            ledger.take(link.document)
            ledger.follow(link)
    except ValueError as error:
        raise DamagedEnd(f"after line {ledger.line}: {error}") from error
    return ledger


def _link(line: bytes) -> Link:
    try:
        return link_from_line(line)
    except ValueError as error:
        raise DamagedEnd(f"a line {error}") from error
