"""The journal: one chained JSON line for all that happens, on disk before anything is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time

from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.record import (
    DecisionRecord,
    EventKind,
    EventRecord,
    TriggerRecord,
    canonical_json,
)
from ssn_edge_runtime.sinks.base import Sink
from ssn_edge_runtime.sinks.decided_triggers import DecidedTrigger, decided_triggers
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.sinks.group_sync import LONGEST_SYNC_S, GroupSync, Position
from ssn_edge_runtime.sinks.heads import HEAD_EVERY, HeadPublisher, HeadStatement, OnHead
from ssn_edge_runtime.sinks.ledger import Ledger
from ssn_edge_runtime.sinks.line_file import LineFile
from ssn_edge_runtime.sinks.links import line_sha256
from ssn_edge_runtime.sinks.opening import Opened, lock_folder, open_files, restart_event
from ssn_edge_runtime.sinks.recovery import DamagedEnd
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, segment_name
from ssn_edge_runtime.sources.base import Frame

SYNC_INTERVAL_S = 0.2
CHECKPOINT_EVERY = 1000
SEGMENT_BYTES = 64 * 2**20
SEGMENT_AGE_S = 24 * 3600.0
LAG_LIMIT_S = 5.0
RESERVE_BYTES = 64 * 2**20


class Journal(Sink):
    """The truth of a run: segments of JSON lines in an output folder, appended to over all runs.

    Three kinds of lines: accepted triggers, decisions, and events. Each is numbered and chained to
    the line before, and goes to the kernel in one call before the method returns, so that killing
    the process loses nothing that was written. Power loss costs at most the lines of the last sync
    interval (and what the disk itself loses); with `durable`, none. A line that was torn by it is
    set aside on opening, into ``decisions.torn-N``, and the chain goes on from the last whole line.

    ``decisions.jsonl`` is written. Once it is large or old enough it is renamed after its first
    line, and the next segment begins with a checkpoint that is chained to it, and signed if there
    is a key.

    Closing writes a `stop` event, unless the last line is one; opening a journal that does not end
    with one writes a `restart` event. Whoever opened it then owes a decision to each of
    `open_triggers`.

    One journal at a time may hold a folder. Not for use by several threads, but for `check`,
    `lag_s`, `synced_line` and `free_bytes`.

    Args:
        folder: Output folder; made if it is not there.
        durable: Sync each line before the method returns.
        sync_interval_s: Otherwise, the longest time a line waits for its sync, in seconds.
        checkpoint_every: Lines after which a checkpoint event says what the chain came to.
        segment_bytes: A segment that has reached this size is closed.
        segment_age_s: So is one that was begun so long ago, by the wall clock.
        lag_limit_s: `check` refuses when the oldest line has waited longer for its sync.
        reserve_bytes: `check` refuses when less of the disk is free.
        key: Signs heads and checkpoints.
        head_every: Lines from one published head to the next.
        on_head: Takes each head; see `HeadPublisher`.
        is_line: Whether it is a line's, which decides open triggers. Else they stay open, and
            closing notes no `stop` over them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        sync_interval_s: float = SYNC_INTERVAL_S,
        checkpoint_every: int = CHECKPOINT_EVERY,
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = SEGMENT_AGE_S,
        lag_limit_s: float = LAG_LIMIT_S,
        reserve_bytes: int = RESERVE_BYTES,
        key: DeviceKey | None = None,
        head_every: int = HEAD_EVERY,
        on_head: OnHead | None = None,
        is_line: bool = True,
    ) -> None:
        if not sync_interval_s > 0:
            raise ConfigError(
                f"the journal's sync interval is {sync_interval_s} s; it must be above 0 "
                "(durable syncs each line)"
            )
        if min(checkpoint_every, segment_bytes, head_every) < 1 or not segment_age_s > 0:
            raise ConfigError(
                f"a checkpoint every {checkpoint_every} lines, a head every {head_every}, segments "
                f"of {segment_bytes} bytes and {segment_age_s} s: all must be above 0"
            )
        if not lag_limit_s > sync_interval_s or reserve_bytes < 0:
            raise ConfigError(
                f"a lag of {lag_limit_s} s with a sync every {sync_interval_s} s, "
                f"{reserve_bytes} bytes in reserve: the lag must be above the interval, and the "
                "reserve 0 or more"
            )
        self.path = folder / JOURNAL_NAME
        self._folder = folder
        self._durable = durable
        self._sync_interval_s = sync_interval_s
        self._checkpoint_every = checkpoint_every
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._lag_limit_s = lag_limit_s
        self._reserve_bytes = reserve_bytes
        self._key = key
        self._is_line = is_line
        self._heads = HeadPublisher(folder, key, every=head_every, on_head=on_head)
        self._lock_fd = -1
        self._file: LineFile | None = None
        self._first_line = 1
        self._begun_s = 0.0
        self._ledger = Ledger()
        self._since_checkpoint = 0
        self._sync: GroupSync | None = None
        self._failure: StorageError | None = None

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

    def decided_triggers(self, count: int) -> tuple[DecidedTrigger, ...]:
        """The triggers that were decided last, also by earlier runs, oldest first.

        Raises:
            StorageError: The folder cannot be read.
        """
        return decided_triggers(self._folder, count)

    @property
    def synced_line(self) -> int:
        """Number of the last line that is safe from power loss; 0 where that is not known yet."""
        return 0 if self._sync is None else self._sync.safe_line

    @property
    def lag_s(self) -> float:
        """Seconds that the oldest line has waited for its sync; 0 where all are synced."""
        return 0.0 if self._sync is None else self._sync.lag_s

    @property
    def free_bytes(self) -> int:
        """Free bytes of the disk at the last sync; 0 where the journal is not open."""
        return 0 if self._sync is None else self._sync.free_bytes

    def check(self) -> None:
        """Refuse to go on while there is still room to say so.

        Lines can still be written after this has raised, until the disk is full: write
        `unknown(storage_error)` for what is in hand, then stop.

        Raises:
            StorageError: Not open, a sync failed, the syncs lag behind, or the disk is nearly full.
        """
        self._check_open()
        if self.lag_s > self._lag_limit_s:
            raise StorageError(
                f"{self.path}: the disk is too slow, a line has waited {self.lag_s:.1f} s for its "
                f"sync ({self._lag_limit_s:g} s are allowed)"
            )
        if self.free_bytes < self._reserve_bytes:
            raise StorageError(
                f"{self.path}: only {self.free_bytes / 2**20:.0f} MiB of the disk are free, "
                f"{self._reserve_bytes / 2**20:.0f} MiB are kept in reserve; make room"
            )

    def open(self) -> None:
        """Open or make the journal, find the end of its chain, note if the last run was cut short.

        Raises:
            StorageError: Another run holds it, it cannot be written, or its last line is damaged.
        """
        lock = lock_folder(self._folder)
        try:
            opened = self._opened()
        except BaseException:
            self._heads.close()
            os.close(lock)
            raise
        self._lock_fd = lock
        self._file = LineFile(
            self.path, opened.fd, opened.end.whole_bytes, is_durable=self._durable
        )
        self._first_line, self._begun_s = opened.first_line, opened.begun_s
        self._ledger, self._since_checkpoint = opened.end.ledger, opened.end.since_checkpoint
        self._failure = None
        self._sync = GroupSync(self._folder, self._sync_interval_s, self._heads.synced)
        self._sync.start(opened.fd)
        restart = restart_event(self.path, opened, self._heads.published())
        if restart is not None:
            try:
                self.note(restart)
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
        self._hand_to_sync()

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
        self._hand_to_sync()

    def note(self, event: EventRecord) -> None:
        """Append an event.

        Raises:
            StorageError: See `write`.
            ValueError: The detail holds NaN, infinity or what is no JSON.
        """
        self._append(event.to_dict())
        self._ledger.is_stopped = event.event is EventKind.STOP
        self._hand_to_sync()

    def close(self) -> None:
        """Note the end of the run, sync what was written and let the files go.

        Raises:
            StorageError: The end could not be noted, the last lines could not be synced, or an
                earlier sync failed and no other method has said so.
        """
        sync = self._sync
        if self._file is None or sync is None:
            return
        unnoted: StorageError | None = None
        is_left_open = not self._is_line and bool(self._ledger.open_triggers)
        if (
            self._failure is None
            and self._ledger.line
            and not (self._ledger.is_stopped or is_left_open)
        ):
            try:
                self.note(EventRecord.now(EventKind.STOP))
            except StorageError as error:
                unnoted = error
        self._file = self._sync = None
        if self._failure is None:
            self._heads.ask()
        try:
            answers = sync.stop()
        except OSError as error:
            if self._failure is None:
                raise StorageError(f"{self.path}: cannot be synced ({error.strerror})") from error
            answers = True
        finally:
            self._heads.close()
            os.close(self._lock_fd)
            self._lock_fd = -1
        if not answers:
            raise StorageError(
                f"{self.path}: the disk has not answered for {LONGEST_SYNC_S:.0f} s; the last "
                "decisions may not be on it"
            )
        if unnoted is not None:
            raise unnoted
        if sync.failure is not None and self._failure is None:
            # The sync in between failed after the last write: a later one proves nothing.
            raise self._unsynced(sync.failure)

    def _append(self, content: dict[str, object]) -> None:
        """Number, chain and write one line, after the segment or checkpoint due before it."""
        if self._is_segment_full():
            self._begin_segment()
        elif self._since_checkpoint >= self._checkpoint_every:
            self._checkpoint({})
        self._append_line(content)

    def _append_line(self, content: dict[str, object]) -> None:
        file, _ = self._check_open()
        ledger = self._ledger
        content["line"] = ledger.line + 1
        content["previous"] = ledger.head
        line = canonical_json(content)
        with self._failing():
            file.append(line)
        ledger.line += 1
        ledger.head = line_sha256(line)
        ledger.is_stopped = False
        self._since_checkpoint += 1

    def _is_segment_full(self) -> bool:
        if self._file is None or self._sync is None or not self._file.size:
            return False
        is_due = (
            self._file.size >= self._segment_bytes or time() - self._begun_s >= self._segment_age_s
        )
        return is_due and self._sync.has_room

    def _begin_segment(self) -> None:
        """Rename the file after its first line, and begin another with a signed checkpoint."""
        file, sync = self._check_open()
        with self._failing():
            self._file = file.begin_next(segment_name(self._first_line))
        sync.begin_segment(self._file.fd)
        self._first_line, self._begun_s = self._ledger.line + 1, time()
        self._heads.ask()
        anchor = HeadStatement.of(self._position(), self._key)
        self._checkpoint({"anchor": anchor.to_dict()})

    def _checkpoint(self, more: dict[str, object]) -> None:
        detail = self._ledger.checkpoint_detail() | more
        self._append_line(EventRecord.now(EventKind.CHECKPOINT).to_dict() | {"detail": detail})
        self._since_checkpoint = 1
        self._hand_to_sync()

    def _position(self) -> Position:
        return Position(self._ledger.line, self._ledger.head, self._ledger.next_sequence)

    def _hand_to_sync(self) -> None:
        if self._sync is not None:
            self._sync.wrote(self._position(), is_synced=self._durable)

    def _opened(self) -> Opened:
        try:
            self._heads.open()
            head = self._heads.published()
            return open_files(self._folder, safe_line=0 if head is None else head.line)
        except DamagedEnd as error:
            raise StorageError(
                f"{self.path}: its end is damaged ({error}) and cannot be continued; move the "
                "files of this journal away and keep them, a new one is begun"
            ) from error
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be used ({error.strerror})") from error

    def _check_open(self) -> tuple[LineFile, GroupSync]:
        if self._file is None or self._sync is None:
            raise StorageError(f"{self.path}: the journal is not open")
        if self._failure is None:
            if self._sync.failure is not None:
                self._failure = self._unsynced(self._sync.failure)
            elif self._sync.lag_s > LONGEST_SYNC_S:
                self._failure = StorageError(
                    f"{self.path}: the disk has not answered for {LONGEST_SYNC_S:.0f} s"
                )
        if self._failure is not None:
            raise self._failure
        return self._file, self._sync

    def _unsynced(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path}: cannot be synced ({error.strerror}); the last decisions may be lost"
        )

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Refuse all that comes after something that could not be written."""
        try:
            yield
        except OSError as error:
            self._failure = StorageError(
                f"{self.path}: decisions can no longer be written ({error.strerror})"
            )
            raise self._failure from error
        except StorageError as error:
            self._failure = error
            raise
