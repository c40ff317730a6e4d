"""Evidence: the pictures that people will want to see again, within a quota of the disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord
from ssn_edge_runtime.sinks.base import Follower, PictureNames
from ssn_edge_runtime.sinks.evidence_folder import EvidenceFolder
from ssn_edge_runtime.sinks.evidence_policy import EvidenceName, EvidencePolicy
from ssn_edge_runtime.sinks.write_budget import WriteBudget
from ssn_edge_runtime.sources.base import Frame

_POLL_S = 0.1
_CLOSE_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvidenceCounts:
    """What became of the pictures.

    Args:
        kept: Written.
        evicted: Deleted again, for the quota or the disk.
        shed: Left out because the writer lagged behind.
        failed: Left out because the disk did not take them.
        over_budget: Left out because the line has written enough.
    """

    kept: int = 0
    evicted: int = 0
    shed: int = 0
    failed: int = 0
    over_budget: int = 0


class EvidenceKeeper(Follower):
    """Writes ``evidence/<sequence>_<why>.png``: frames, lossless, as the camera gave them.

    `write` only puts the frame into a queue; where that is full the picture is left out and
    counted. A thread encodes, writes, and keeps the quota: what is worth least goes first, and
    among equals the oldest. The counts go into the journal with `take_event`.

    Args:
        folder: The journal's folder.
        policy: What is kept.
        depth: Frames that may wait for the writer; each is held in memory.
        budget: No picture comes while it is spent.
    """

    def __init__(
        self,
        folder: Path,
        policy: EvidencePolicy,
        *,
        depth: int = 8,
        budget: WriteBudget | None = None,
    ) -> None:
        if depth < 1:
            raise ConfigError(f"the evidence queue holds {depth} frames; at least 1 is needed")
        self._folder = EvidenceFolder(folder, policy)
        self._policy = policy
        self._queue: Queue[tuple[EvidenceName, ByteImage]] = Queue(depth)
        # Of the thread that calls `write`; it must not wait for the others' lock.
        self._budget = budget
        self._shed = self._over_budget = 0
        self._kept = self._failed = 0
        self._told = EvidenceCounts()
        self._closing = Event()
        self._writer: Thread | None = None

    @property
    def shed(self) -> int:
        """Frames that were left out because the writer lagged behind, or for the budget."""
        return self._shed + self._over_budget

    @property
    def counts(self) -> EvidenceCounts:
        """What became of the pictures so far."""
        return EvidenceCounts(
            self._kept, self._folder.evicted, self._shed, self._failed, self._over_budget
        )

    @property
    def held_bytes(self) -> int:
        """Size of the pictures that are there."""
        return self._folder.held_bytes

    def open(self) -> None:
        """Make the folder, find what is there, keep the quota, and start the writer.

        Raises:
            StorageError: The folder cannot be made or read.
        """
        self._folder.open()
        self._closing.clear()
        self._writer = Thread(target=self._write_all, name="ssn-edge-evidence", daemon=True)
        self._writer.start()

    def plan(self, sequence: int, frame: Frame | None, decision: Decision) -> PictureNames:
        """Name no files: evidence is found by its sequence number, and may be gone again."""
        return PictureNames()

    def write(self, record: DecisionRecord, frame: Frame | None, decision: Decision) -> None:
        """Take a part's frame if the policy wants it; never waits."""
        name = None if frame is None else self._policy.name_of(record)
        if frame is None or name is None:
            return
        if self._budget is not None and self._budget.is_spent():
            self._over_budget += 1
            return
        try:
            self._queue.put_nowait((name, frame.image))
        except Full:
            self._shed += 1

    def take_event(self) -> EventRecord | None:
        """What became of pictures since the last such event; None if nothing did."""
        counts = self.counts
        told, self._told = self._told, counts
        if counts == told:
            return None
        return EventRecord.now(
            EventKind.EVIDENCE,
            {
                "kept": counts.kept - told.kept,
                "evicted": counts.evicted - told.evicted,
                "shed": counts.shed - told.shed,
                "failed": counts.failed - told.failed,
                "over_budget": counts.over_budget - told.over_budget,
                "held_bytes": self.held_bytes,
            },
        )

    def evict_up_to(self, sequence: int) -> None:
        """Delete the pictures of all parts up to this number: their records are about to go."""
        self._folder.evict_up_to(sequence)

    def close(self) -> None:
        """Write all that is queued, then end the writer."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._closing.set()
        writer.join(_CLOSE_TIMEOUT_S)
        if writer.is_alive():
            logger.warning("%s: the disk is too slow, pictures are given up", self._folder.path)

    def _write_all(self) -> None:
        self._folder.trim()
        while True:
            try:
                name, image = self._queue.get(timeout=_POLL_S)
            except Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self._folder.keep(name, image)
                self._kept += 1
            except Exception as error:  # noqa: BLE001 - outermost handler: the next picture goes on
                self._failed += 1
                log = logger.warning if self._failed == 1 else logger.debug
                log("%s: %s cannot be kept: %s", self._folder.path, name, error)
