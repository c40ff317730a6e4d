"""The file that a journal appends to: each line in one call, and by nobody else."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EEXIST, ENOSPC
from pathlib import Path

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.sinks.recovery import sync_folder


class LineFile:
    """An open segment; whoever syncs it closes it, too.

    Args:
        path: The file.
        fd: The same, open for appending.
        size: In bytes, all of them whole lines.
        is_durable: Sync each line.
    """

    def __init__(self, path: Path, fd: int, size: int, *, is_durable: bool) -> None:
        self.path = path
        self.fd = fd
        self.size = size
        self._is_durable = is_durable

    def append(self, line: bytes) -> None:
        """Write one line and its end.

        Raises:
            OSError: The disk does not take it; half a line is taken back, if the disk lets us.
            StorageError: The file was deleted or changed by something else.
        """
        try:
            self._check()
            if os.write(self.fd, line + b"\n") != len(line) + 1:
                raise OSError(ENOSPC, "the disk is full")
            if self._is_durable:
                os.fsync(self.fd)
        except OSError:
            with suppress(OSError):  # else the next opening sets the torn tail aside
                os.ftruncate(self.fd, self.size)
            raise
        self.size += len(line) + 1

    def begin_next(self, closed_name: str) -> LineFile:
        """Give the file its last name, and begin another under the one it had.

        Killed in between, the next opening takes it back (see `opening`). This file stays open.

        Raises:
            OSError: The disk does not take it.
            StorageError: The file was deleted or changed by something else.
        """
        self._check()
        closed = self.path.with_name(closed_name)
        if closed.exists():
            raise OSError(EEXIST, f"{closed.name} is there already")
        self.path.rename(closed)
        fd = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        if self._is_durable:
            sync_folder(self.path.parent)
        return LineFile(self.path, fd, 0, is_durable=self._is_durable)

    def _check(self) -> None:
        """A deleted file takes lines that nobody will read; a changed one, lines out of chain."""
        status = os.fstat(self.fd)
        if status.st_nlink and status.st_size == self.size:
            return
        what = "written to by something else" if status.st_nlink else "deleted"
        raise StorageError(
            f"{self.path}: was {what} while this run wrote it; nothing more is decided, so that "
            "no decision is lost: keep what is there and start the run again"
        )
