"""The journal: one JSON line for each part, chained, on disk before anything else is told."""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Event, Thread

from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import FIRST_PREVIOUS, FIRST_SEQUENCE, DecisionRecord
from ssn_edge_runtime.sinks.base import Sink
from ssn_edge_runtime.sinks.chain import line_sha256, link_from_line
from ssn_edge_runtime.sources.base import Frame

JOURNAL_NAME = "decisions.jsonl"
SYNC_INTERVAL_S = 0.2
LARGEST_LINE_BYTES = 64 * 2**20
"""A file without a line end in so many bytes was not written by a journal."""
_CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


class Journal(Sink):
    """The truth of a run: ``decisions.jsonl`` in an output folder, appended to over all runs.

    Each line goes to the kernel in one call before `write` returns, so that killing the process
    loses nothing that was written. Power loss costs at most the lines of the last sync interval
    (and what the disk itself loses); with `durable`, none. A line that was torn by it is set aside
    on opening, into ``decisions.torn-N``, and the chain goes on from the last whole line.

    One journal at a time may hold a folder. Not for use by several threads.

    Args:
        folder: Output folder; made if it is not there.
        durable: Sync each line before `write` returns.
        sync_interval_s: Otherwise, the longest time a line waits for its sync, in seconds.
    """

    def __init__(
        self, folder: Path, *, durable: bool = False, sync_interval_s: float = SYNC_INTERVAL_S
    ) -> None:
        if not sync_interval_s > 0:
            raise ConfigError(
                f"the journal's sync interval is {sync_interval_s} s; it must be above 0 "
                "(durable syncs each line)"
            )
        self.path = folder / JOURNAL_NAME
        self._durable = durable
        self._sync_interval_s = sync_interval_s
        self._fd: int | None = None
        self._size = 0
        self._next_sequence = FIRST_SEQUENCE
        self._head = FIRST_PREVIOUS
        self._unsynced = Event()
        self._closing = Event()
        self._syncer: Thread | None = None
        self._failure: StorageError | None = None
        self._is_failure_told = False

    @property
    def next_sequence(self) -> int:
        """The number that the next record must have."""
        return self._next_sequence

    @property
    def head(self) -> str:
        """The hash of the last line, which the next record must name as `previous`."""
        return self._head

    def open(self) -> None:
        """Open or make the journal, and find the end of its chain.

        Raises:
            StorageError: Another run holds it, it cannot be written, or its last line is damaged.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be opened ({error.strerror})") from error
        try:
            self._lock(fd)
            self._continue_chain(fd)
            _sync_folder(self.path.parent)
        except OSError as error:
            os.close(fd)
            raise StorageError(f"{self.path}: cannot be used ({error.strerror})") from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._failure = None
        self._is_failure_told = False
        self._closing.clear()
        if not self._durable:
            self._syncer = Thread(
                target=self._sync_now_and_then, args=(fd,), name="ssn-edge-journal", daemon=True
            )
            self._syncer.start()

    def write(
        self,
        record: DecisionRecord,
        frame: Frame | None = None,
        decision: Decision | None = None,
    ) -> None:
        """Append one record; when this returns, killing the process no longer loses it.

        Args:
            record: Numbered with `next_sequence` and chained to `head`.
            frame: Not used.
            decision: Not used.

        Raises:
            StorageError: Not open, the line or an earlier sync could not be written, or the file
                was deleted or changed by something else; the journal takes no more records then.
            ValueError: The record does not continue the chain, or holds NaN or infinity.
        """
        if self._fd is None:
            raise StorageError(f"{self.path}: the journal is not open")
        if self._failure is not None:
            self._is_failure_told = True
            raise self._failure
        if record.sequence != self._next_sequence or record.previous != self._head:
            raise ValueError(
                f"record {record.sequence} does not continue the chain: sequence "
                f"{self._next_sequence} after {self._head[:12]}... is next"
            )
        line = record.to_json_line()
        try:
            self._check_file(self._fd)
            written = os.write(self._fd, line + b"\n")
            if written == len(line) + 1 and self._durable:
                os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error) from error
        if written != len(line) + 1:
            raise self._failed(None)
        self._size += written
        self._next_sequence += 1
        self._head = line_sha256(line)
        self._unsynced.set()

    def close(self) -> None:
        """Sync what was written and let the file go.

        Raises:
            StorageError: The last lines could not be synced, or an earlier sync failed and no
                `write` has said so.
        """
        fd, self._fd = self._fd, None
        if fd is None:
            return
        self._closing.set()
        if self._syncer is not None:
            self._syncer.join(_CLOSE_TIMEOUT_S)
            if self._syncer.is_alive():
                raise StorageError(
                    f"{self.path}: the disk has not answered for {_CLOSE_TIMEOUT_S:.0f} s; the "
                    "last decisions may not be on it"
                )
            self._syncer = None
        already_failed = self._failure is not None
        try:
            os.fsync(fd)
        except OSError as error:
            if not already_failed:
                raise StorageError(f"{self.path}: cannot be synced ({error.strerror})") from error
        finally:
            os.close(fd)
        if self._failure is not None and not self._is_failure_told:
            # The sync in between failed after the last write: this one proves nothing.
            self._is_failure_told = True
            raise self._failure

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"{self.path}: another run is writing it; stop that run or choose another output "
                "folder"
            ) from error

    def _continue_chain(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        lines, whole_bytes = _last_lines(fd, size)
        if whole_bytes < 0:
            raise StorageError(f"{self.path}: is not a decision journal; move it away")
        sequence, head = FIRST_SEQUENCE, FIRST_PREVIOUS
        if lines:
            try:
                links = [link_from_line(line) for line in lines]
            except ValueError as error:
                raise self._damaged(f"a line {error}") from error
            last = links[-1]
            follows = links[0].is_followed_by(last) if len(links) == 2 else last.is_first
            if not follows:
                raise self._damaged(f"record {last.sequence} does not follow the line before it")
            sequence, head = last.sequence + 1, last.sha256
        if whole_bytes < size:
            self._set_torn_tail_aside(fd, whole_bytes, size)
        self._size, self._next_sequence, self._head = whole_bytes, sequence, head

    def _damaged(self, what: str) -> StorageError:
        return StorageError(
            f"{self.path}: its end is damaged ({what}) and cannot be continued; move the file "
            "away and keep it, a new one is begun"
        )

    def _set_torn_tail_aside(self, fd: int, start: int, size: int) -> None:
        tail = os.pread(fd, size - start, start)
        for number in count(1):
            aside = self.path.with_name(f"decisions.torn-{number}")
            try:
                with aside.open("xb") as file:
                    file.write(tail)
                    file.flush()
                    os.fsync(file.fileno())
                break
            except FileExistsError:
                continue
        os.ftruncate(fd, start)
        os.fsync(fd)
        logger.warning(
            "%s: the last line was torn, %d bytes of it set aside in %s; the chain goes on",
            self.path,
            len(tail),
            aside.name,
        )

    def _failed(self, error: OSError | None) -> StorageError:
        """Take back half a line, if the disk lets us, and refuse all that comes after."""
        why = "the disk is full" if error is None else error.strerror
        self._failure = StorageError(f"{self.path}: decisions can no longer be written ({why})")
        self._is_failure_told = True
        if self._fd is not None:
            with suppress(OSError):  # else the next opening sets the torn tail aside
                os.ftruncate(self._fd, self._size)
        return self._failure

    def _check_file(self, fd: int) -> None:
        """A deleted file takes lines that nobody will read; a changed one, lines out of chain."""
        status = os.fstat(fd)
        if status.st_nlink and status.st_size == self._size:
            return
        what = "written to by something else" if status.st_nlink else "deleted"
        self._failure = StorageError(
            f"{self.path}: was {what} while this run wrote it; nothing more is decided, so that "
            "no decision is lost: keep what is there and start the run again"
        )
        self._is_failure_told = True
        raise self._failure

    def _sync_now_and_then(self, fd: int) -> None:
        while not self._closing.wait(self._sync_interval_s):
            if not self._unsynced.is_set():
                continue
            self._unsynced.clear()
            try:
                os.fsync(fd)
            except OSError as error:
                # A second fsync would succeed and prove nothing: the pages are already dropped.
                self._failure = StorageError(
                    f"{self.path}: cannot be synced ({error.strerror}); the last decisions may be "
                    "lost"
                )
                return


def _last_lines(fd: int, size: int) -> tuple[list[bytes], int]:
    """The last two whole lines (or fewer), and where the last whole line ends, -1 if nowhere."""
    length = min(size, 2**16)
    while True:
        data = os.pread(fd, length, size - length)
        ends = data.count(b"\n")
        if ends > 2 or length == size:
            break
        if length > LARGEST_LINE_BYTES:
            return [], -1
        length = min(size, 4 * length)
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].split(b"\n")[:-1]
    return lines[-2:], size - length + whole


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
