"""Keeping a log within its bounds while a line runs: retirement, and what became of evidence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread
from time import monotonic

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.sinks.device_key import PublicKey
from ssn_edge_runtime.sinks.evidence import EvidenceKeeper
from ssn_edge_runtime.sinks.evidence_folder import delete_pictures_up_to
from ssn_edge_runtime.sinks.journal import Journal
from ssn_edge_runtime.sinks.retention import RetentionPolicy, Retirement, plan_retirement

EVERY_S = 60.0
_CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


class Housekeeping:
    """Tends a journal and its evidence; a context manager.

    Call `tend` between parts, in the thread that writes the journal: it only notes events. Looking
    at files and deleting them is done in a thread of its own, and never while an event that says so
    is not safe on the disk.

    Args:
        journal: An open journal.
        policy: How long segments are kept; None keeps them.
        key: The device's; without it no segment is retired.
        evidence: Pictures that go before their records do.
        evict: In place of `evidence`, where another process writes it: has the evidence of all
            parts up to a number deleted, and returns when no more of it is written. Called in the
            thread that deletes; it may wait, and raises StorageError if that cannot be.
        every_s: Time between two looks, in seconds.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        policy: RetentionPolicy | None = None,
        key: PublicKey | None = None,
        evidence: EvidenceKeeper | None = None,
        evict: Callable[[int], None] | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._journal = journal
        self._policy = policy
        self._key = key
        self._evidence = evidence
        self._evict = evidence.evict_up_to if evict is None and evidence is not None else evict
        self._every_s = every_s
        self._next_s = 0.0
        self._jobs: Queue[Callable[[], None] | None] = Queue()
        self._planned: Queue[Retirement] = Queue()
        self._noted: tuple[Retirement, int] | None = None
        self._is_busy = False
        self._worker: Thread | None = None

    def open(self) -> None:
        """Start the thread."""
        self._worker = Thread(target=self._work, name="ssn-edge-housekeeping", daemon=True)
        self._worker.start()

    def tend(self) -> None:
        """Note what is to be noted, and have done what is to be done; takes microseconds.

        Raises:
            StorageError: The journal cannot be written.
        """
        if self._noted is not None:
            retirement, line = self._noted
            if self._journal.synced_line >= line:
                self._noted = None
                self._jobs.put(lambda: self._retire(retirement))
        elif not self._is_busy:
            try:
                retirement = self._planned.get_nowait()
            except Empty:
                pass
            else:
                self._is_busy = True
                self._journal.note(retirement.event)
                self._noted = (retirement, self._journal.line)
                return
        if monotonic() < self._next_s:
            return
        self._next_s = monotonic() + self._every_s
        self._note_evidence()
        if self._policy is not None and self._key is not None and not self._is_busy:
            self._jobs.put(self._plan)

    def close(self) -> None:
        """Note what became of evidence, and end the thread.

        Raises:
            StorageError: The journal cannot be written.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self._jobs.put(None)
        worker.join(_CLOSE_TIMEOUT_S)
        self._note_evidence()

    def __enter__(self) -> Housekeeping:
        """Open it."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _note_evidence(self) -> None:
        event = None if self._evidence is None else self._evidence.take_event()
        if event is not None:
            self._journal.note(event)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except StorageError as error:
                logger.warning("%s", error)
            except Exception:
                logger.exception("housekeeping failed")

    def _plan(self) -> None:
        assert self._policy is not None
        assert self._key is not None
        if not self._planned.empty():
            return
        retirement = plan_retirement(self._journal.path.parent, self._policy, self._key)
        if retirement is not None:
            self._planned.put(retirement)

    def _retire(self, retirement: Retirement) -> None:
        try:
            if self._evict is not None:
                self._evict(retirement.last_sequence)
            # Also masks, overlays, and what an earlier run kept that this one does not know of.
            delete_pictures_up_to(self._journal.path.parent, retirement.last_sequence)
            retirement.carry_out()
            logger.info("lines %d to %d were retired", retirement.first_line, retirement.last_line)
        finally:
            self._is_busy = False
