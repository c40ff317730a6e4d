"""The journal: one chained JSON line for all that happens, on disk before anything is told."""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import (
    DecisionRecord,
    EventKind,
    EventRecord,
    Scalar,
    TriggerRecord,
    canonical_json,
)
from ssn_edge_runtime.sinks.base import Sink
from ssn_edge_runtime.sinks.ledger import Ledger
from ssn_edge_runtime.sinks.links import line_sha256
from ssn_edge_runtime.sinks.recovery import (
    DamagedEnd,
    SetAside,
    find_end,
    set_tail_aside,
    sync_folder,
)
from ssn_edge_runtime.sources.base import Frame

JOURNAL_NAME = "decisions.jsonl"
SYNC_INTERVAL_S = 0.2
CHECKPOINT_EVERY = 1000
_CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


class Journal(Sink):
    """The truth of a run: ``decisions.jsonl`` in an output folder, appended to over all runs.

    Three kinds of lines: accepted triggers, decisions, and events. Each is numbered and chained to
    the line before, and goes to the kernel in one call before the method returns, so that killing
    the process loses nothing that was written. Power loss costs at most the lines of the last sync
    interval (and what the disk itself loses); with `durable`, none. A line that was torn by it is
    set aside on opening, into ``decisions.torn-N``, and the chain goes on from the last whole line.

    Closing writes a `stop` event, unless the last line is one; opening a journal that does not end
    with one writes a `restart` event. Whoever opened it then owes a decision to each of
    `open_triggers`.

    One journal at a time may hold a folder. Not for use by several threads.

    Args:
        folder: Output folder; made if it is not there.
        durable: Sync each line before the method returns.
        sync_interval_s: Otherwise, the longest time a line waits for its sync, in seconds.
        checkpoint_every: Lines after which a checkpoint event says what the chain came to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        sync_interval_s: float = SYNC_INTERVAL_S,
        checkpoint_every: int = CHECKPOINT_EVERY,
    ) -> None:
        if not sync_interval_s > 0:
            raise ConfigError(
                f"the journal's sync interval is {sync_interval_s} s; it must be above 0 "
                "(durable syncs each line)"
            )
        if checkpoint_every < 1:
            raise ConfigError(f"a checkpoint every {checkpoint_every} lines; 1 or more is needed")
        self.path = folder / JOURNAL_NAME
        self._durable = durable
        self._sync_interval_s = sync_interval_s
        self._checkpoint_every = checkpoint_every
        self._fd: int | None = None
        self._size = 0
        self._ledger = Ledger()
        self._since_checkpoint = 0
        self._unsynced = Event()
        self._closing = Event()
        self._syncer: Thread | None = None
        self._failure: StorageError | None = None
        self._is_failure_told = False

    @property
    def next_sequence(self) -> int:
        """The number that the next part will have."""
        return self._ledger.next_sequence

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self._ledger.head

    @property
    def line(self) -> int:
        """The number of the last line; 0 in an empty journal."""
        return self._ledger.line

    @property
    def open_triggers(self) -> tuple[TriggerRecord, ...]:
        """Triggers that were accepted and have no decision yet, oldest first."""
        return tuple(self._ledger.open_triggers.values())

    def open(self) -> None:
        """Open or make the journal, find the end of its chain, note if the last run was cut short.

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
            aside = self._continue_chain(fd)
            sync_folder(self.path.parent)
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
        try:
            self._note_restart(aside)
        except BaseException:
            with suppress(StorageError):
                self.close()
            raise

    def accept(self, trigger: TriggerRecord) -> None:
        """Append an accepted trigger; from now on its part is owed a decision.

        Args:
            trigger: Numbered with `next_sequence`, which this raises by one.

        Raises:
            StorageError: See `write`.
            ValueError: Another number.
        """
        if trigger.sequence != self.next_sequence:
            raise ValueError(
                f"trigger of sequence {trigger.sequence} does not continue the journal: "
                f"{self.next_sequence} is next"
            )
        self._append(trigger.to_dict())
        self._ledger.accept(trigger)

    def write(
        self,
        record: DecisionRecord,
        frame: Frame | None = None,
        decision: Decision | None = None,
    ) -> None:
        """Append one decision; when this returns, killing the process no longer loses it.

        Args:
            record: Of an open trigger, which is closed by it, or numbered with `next_sequence`.
            frame: Not used.
            decision: Not used.

        Raises:
            StorageError: Not open, the line or an earlier sync could not be written, or the file
                was deleted or changed by something else; the journal takes no more lines then.
            ValueError: The record does not continue the journal, or holds NaN or infinity.
        """
        try:
            self._ledger.check_decision(record.sequence)
        except ValueError as error:
            raise ValueError(f"the record does not continue the journal: {error}") from error
        self._append(record.to_dict())
        self._ledger.decide(record.sequence, record.verdict.value)

    def note(self, event: EventRecord) -> None:
        """Append an event.

        Raises:
            StorageError: See `write`.
            ValueError: The detail holds NaN, infinity or what is no JSON.
        """
        self._append(event.to_dict())
        self._ledger.is_stopped = event.event is EventKind.STOP

    def close(self) -> None:
        """Note the end of the run, sync what was written and let the file go.

        Raises:
            StorageError: The end could not be noted, the last lines could not be synced, or an
                earlier sync failed and no other method has said so.
        """
        fd = self._fd
        if fd is None:
            return
        unnoted: StorageError | None = None
        if self._failure is None and self._ledger.line and not self._ledger.is_stopped:
            try:
                self.note(EventRecord.now(EventKind.STOP))
            except StorageError as error:
                unnoted = error
        self._fd = None
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
        if unnoted is not None:
            raise unnoted
        if self._failure is not None and not self._is_failure_told:
            # The sync in between failed after the last write: this one proves nothing.
            self._is_failure_told = True
            raise self._failure

    def _append(self, content: dict[str, object]) -> None:
        """Number, chain and write one line, after the checkpoint that may be due before it."""
        if self._since_checkpoint >= self._checkpoint_every:
            detail = self._ledger.checkpoint_detail()
            # Set first: the checkpoint itself comes through here.
            self._since_checkpoint = 0
            self._append(EventRecord.now(EventKind.CHECKPOINT).to_dict() | {"detail": detail})
            self._since_checkpoint = 0
        if self._fd is None:
            raise StorageError(f"{self.path}: the journal is not open")
        if self._failure is not None:
            self._is_failure_told = True
            raise self._failure
        ledger = self._ledger
        content["line"] = ledger.line + 1
        content["previous"] = ledger.head
        line = canonical_json(content)
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
        ledger.line += 1
        ledger.head = line_sha256(line)
        ledger.is_stopped = False
        self._since_checkpoint += 1
        self._unsynced.set()

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"{self.path}: another run is writing it; stop that run or choose another output "
                "folder"
            ) from error

    def _continue_chain(self, fd: int) -> SetAside | None:
        try:
            end = find_end(fd)
        except DamagedEnd as error:
            raise StorageError(
                f"{self.path}: its end is damaged ({error}) and cannot be continued; move the "
                "file away and keep it, a new one is begun"
            ) from error
        aside = None
        if end.whole_bytes < os.fstat(fd).st_size:
            aside = set_tail_aside(fd, self.path, end.whole_bytes)
            logger.warning(
                "%s: the last line was torn, %d bytes of it set aside in %s; the chain goes on",
                self.path,
                aside.size,
                aside.name,
            )
        self._size, self._ledger = end.whole_bytes, end.ledger
        self._since_checkpoint = end.since_checkpoint
        return aside

    def _note_restart(self, aside: SetAside | None) -> None:
        if aside is None and (self._ledger.line == 0 or self._ledger.is_stopped):
            return
        detail: dict[str, Scalar] = {
            "open_triggers": len(self._ledger.open_triggers),
            "set_aside": None if aside is None else aside.name,
            "set_aside_bytes": 0 if aside is None else aside.size,
            "set_aside_sha256": None if aside is None else aside.sha256,
        }
        self.note(EventRecord.now(EventKind.RESTART, detail))

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
