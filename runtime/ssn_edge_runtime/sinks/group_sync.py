"""Group commit: a thread that syncs what was appended, and knows how far behind it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic_ns
from typing import NamedTuple

from ssn_edge_runtime.sinks.recovery import sync_folder

LONGEST_SYNC_S = 60.0
"""A disk that has not answered for so long is taken for lost."""

MOST_WAITING = 64
"""Closed segments that may wait for their sync."""


class Position(NamedTuple):
    """How far a chain has come.

    Args:
        line: Number of its last line.
        sha256: Hash of that line.
        next_sequence: The number that the next part will have.
    """

    line: int
    sha256: str
    next_sequence: int


class GroupSync:
    """Syncs an appended file every so often, and segments in their order when one is closed.

    A closed segment is synced before the one that follows it: what is safe of a chain is then
    always its beginning, wherever power is lost.

    Args:
        folder: Of the files.
        interval_s: Between two syncs, in seconds.
        on_synced: Called in the thread with what is safe now; must not raise.
    """

    def __init__(
        self, folder: Path, interval_s: float, on_synced: Callable[[Position], None]
    ) -> None:
        self._folder = folder
        self._interval_s = interval_s
        self._on_synced = on_synced
        self._lock = Lock()
        self._fd = -1
        self._closed_fds: list[int] = []
        self._waiting = 0
        self._position: Position | None = None
        self._safe: Position | None = None
        self._dirty_since_ns: int | None = None
        self._syncing_since_ns: int | None = None
        self._closing = Event()
        self._thread: Thread | None = None
        self.failure: OSError | None = None
        self.free_bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether another segment may be closed; each waits for its sync as an open file."""
        return self._waiting < MOST_WAITING

    @property
    def safe_line(self) -> int:
        """Number of the last line that is known to be synced."""
        return 0 if self._safe is None else self._safe.line

    @property
    def lag_s(self) -> float:
        """Seconds since the oldest line that is not synced was written; 0 where all are."""
        since_ns = self._syncing_since_ns
        if since_ns is None:
            since_ns = self._dirty_since_ns
        return 0.0 if since_ns is None else (monotonic_ns() - since_ns) / 1e9

    def start(self, fd: int) -> None:
        """Begin to sync a file."""
        self._fd = fd
        self._measure_free()
        self._thread = Thread(target=self._run, name="ssn-edge-journal", daemon=True)
        self._thread.start()

    def wrote(self, position: Position, *, is_synced: bool) -> None:
        """A line was appended; called by the one thread that writes, once the line is there."""
        # In this order: a sync that begins in between must not take the line for one that is safe.
        if not is_synced and self._dirty_since_ns is None:
            self._dirty_since_ns = monotonic_ns()
        self._position = position

    def begin_segment(self, fd: int) -> None:
        """Go on with another file; the one before is synced first, and closed."""
        with self._lock:
            self._closed_fds.append(self._fd)
            self._waiting += 1
            self._fd = fd

    def stop(self) -> bool:
        """End the thread, and sync what is left unless a sync failed.

        Returns:
            False if the disk does not answer; the files stay open then.

        Raises:
            OSError: The last sync failed.
        """
        self._closing.set()
        if self._thread is not None:
            self._thread.join(LONGEST_SYNC_S)
            if self._thread.is_alive():
                return False
            self._thread = None
        try:
            if self.failure is None:
                self._sync()
        finally:
            for fd in (*self._closed_fds, self._fd):
                with suppress(OSError):
                    os.close(fd)
            self._closed_fds, self._fd = [], -1
        return True

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            try:
                self._sync()
            except OSError as error:
                # A second fsync would succeed and prove nothing: the pages are already dropped.
                self.failure = error
                return
            self._measure_free()

    def _sync(self) -> None:
        with self._lock:
            closed, fd, position = self._closed_fds, self._fd, self._position
            self._closed_fds = []
            self._syncing_since_ns, self._dirty_since_ns = self._dirty_since_ns, None
        is_new_segment = bool(closed)
        try:
            while closed:
                os.fsync(closed[0])
                os.close(closed.pop(0))
                with self._lock:
                    self._waiting = len(closed) + len(self._closed_fds)
            if is_new_segment or self._syncing_since_ns is not None:
                os.fsync(fd)
            if is_new_segment:
                sync_folder(self._folder)
        except OSError:
            with self._lock:
                self._closed_fds = closed + self._closed_fds
            raise
        self._syncing_since_ns = None
        if position is not None and position is not self._safe:
            self._safe = position
            self._on_synced(position)

    def _measure_free(self) -> None:
        with suppress(OSError):  # such as a pipe in a test; a lost disk shows when it is written to
            status = os.fstatvfs(self._fd)
            self.free_bytes = status.f_bavail * status.f_frsize
