"""Evidence: the pictures that people will want to see again, within a quota of the disk."""

from __future__ import annotations

import hashlib
import heapq
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Lock, Thread

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Verdict
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord
from ssn_edge_runtime.sinks.base import Follower, PictureNames
from ssn_edge_runtime.sources.base import Frame

EVIDENCE_FOLDER = "evidence"
_POLL_S = 0.1
_CLOSE_TIMEOUT_S = 60.0
_NAME = re.compile(r"(\d{9,})_(pass_random|pass_near|fail|unknown)\.png")

logger = logging.getLogger(__name__)


class Worth(IntEnum):
    """Why a picture is kept; what is worth least goes first."""

    RANDOM = 0
    """One of an even share of the parts that passed."""
    NEAR = 1
    """It passed, with a score near the threshold."""
    REJECT = 2
    """It failed, or nothing could be said."""


@dataclass(frozen=True, slots=True)
class EvidencePolicy:
    """What is kept, and how much of it.

    Args:
        quota_bytes: Of the disk, for all pictures together.
        near: Distance of the normalised score from the threshold (0.5) within which a part that
            passed is kept.
        share: Share of the other parts that passed; which ones follows from sequence and seed.
        seed: Of that choice.
        reserve_bytes: Pictures go, and none comes, while less of the disk is free.
    """

    quota_bytes: int
    near: float = 0.05
    share: float = 0.001
    seed: int = 0
    reserve_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        if self.quota_bytes < 1 or self.reserve_bytes < 0:
            raise ConfigError(
                f"an evidence quota of {self.quota_bytes} bytes with {self.reserve_bytes} in "
                "reserve; the quota must be above 0, the reserve 0 or more"
            )
        if not 0 <= self.near <= 0.5 or not 0 <= self.share <= 1:
            raise ConfigError(
                f"evidence within {self.near} of the threshold, and a share of {self.share} of the "
                "rest; 0 to 0.5 and 0 to 1 are wanted"
            )

    def worth(self, record: DecisionRecord) -> Worth | None:
        """Why this part's picture is kept; None if it is not."""
        if record.verdict is not Verdict.PASS:
            return Worth.REJECT
        if record.score is not None and abs(record.score - 0.5) <= self.near:
            return Worth.NEAR
        digest = hashlib.sha256(f"{self.seed}:{record.sequence}".encode()).digest()
        is_drawn = int.from_bytes(digest[:8], "big") < self.share * 2**64
        return Worth.RANDOM if is_drawn else None


@dataclass(frozen=True, slots=True)
class EvidenceCounts:
    """What became of the pictures.

    Args:
        kept: Written.
        evicted: Deleted again, for the quota or the disk.
        shed: Left out because the writer lagged behind.
        failed: Left out because the disk did not take them.
    """

    kept: int = 0
    evicted: int = 0
    shed: int = 0
    failed: int = 0


class EvidenceKeeper(Follower):
    """Writes ``evidence/<sequence>_<why>.png``: frames, lossless, as the camera gave them.

    `write` only puts the frame into a queue; where that is full the picture is left out and
    counted. A thread encodes, writes, and keeps the quota: what is worth least goes first, and
    among equals the oldest. The counts go into the journal with `take_event`.

    Args:
        folder: The journal's folder.
        policy: What is kept.
        depth: Frames that may wait for the writer; each is held in memory.
    """

    def __init__(self, folder: Path, policy: EvidencePolicy, *, depth: int = 8) -> None:
        if depth < 1:
            raise ConfigError(f"the evidence queue holds {depth} frames; at least 1 is needed")
        self._folder = folder / EVIDENCE_FOLDER
        self._policy = policy
        self._queue: Queue[tuple[str, Worth, int, ByteImage]] = Queue(depth)
        self._lock = Lock()
        self._held: list[tuple[Worth, int, str, int]] = []  # a heap: what goes first is first
        self._bytes = 0
        self._retired_to = 0
        # Of the thread that calls `write`; it must not wait for the others' lock.
        self._shed = 0
        self._kept = self._evicted = self._failed = 0
        self._told = EvidenceCounts()
        self._closing = Event()
        self._writer: Thread | None = None

    @property
    def shed(self) -> int:
        """Frames that were left out because the writer lagged behind."""
        return self._shed

    @property
    def counts(self) -> EvidenceCounts:
        """What became of the pictures so far."""
        return EvidenceCounts(self._kept, self._evicted, self._shed, self._failed)

    @property
    def held_bytes(self) -> int:
        """Size of the pictures that are there."""
        return self._bytes

    def open(self) -> None:
        """Make the folder, find what is there, keep the quota, and start the writer.

        Raises:
            StorageError: The folder cannot be made or read.
        """
        self._held, self._bytes = [], 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.iterdir():
                match = _NAME.fullmatch(path.name)
                if match is not None:
                    self._hold(int(match[1]), _worth_of(match[2]), path.name, path.stat().st_size)
                elif path.name.endswith(".png.tmp"):
                    path.unlink()  # half a picture of a run that was killed
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be used ({error.strerror})") from error
        self._closing.clear()
        self._writer = Thread(target=self._write_all, name="ssn-edge-evidence", daemon=True)
        self._writer.start()

    def plan(self, sequence: int, frame: Frame | None, decision: Decision) -> PictureNames:
        """Name no files: evidence is found by its sequence number, and may be gone again."""
        return PictureNames()

    def write(self, record: DecisionRecord, frame: Frame | None, decision: Decision) -> None:
        """Take a part's frame if the policy wants it; never waits."""
        worth = None if frame is None else self._policy.worth(record)
        if frame is None or worth is None:
            return
        why = record.verdict.value
        if worth is not Worth.REJECT:
            why += "_near" if worth is Worth.NEAR else "_random"
        try:
            name = f"{record.sequence:09d}_{why}.png"
            self._queue.put_nowait((name, worth, record.sequence, frame.image))
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
                "held_bytes": self._bytes,
            },
        )

    def evict_up_to(self, sequence: int) -> None:
        """Delete the pictures of all parts up to this number: their records are about to go."""
        with self._lock:
            self._retired_to = max(self._retired_to, sequence)
            self._drop_up_to(sequence)

    def close(self) -> None:
        """Write all that is queued, then end the writer."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._closing.set()
        writer.join(_CLOSE_TIMEOUT_S)
        if writer.is_alive():
            logger.warning("%s: the disk is too slow, pictures are given up", self._folder)

    def _write_all(self) -> None:
        with self._lock:
            self._make_room(0)
        while True:
            try:
                name, worth, sequence, image = self._queue.get(timeout=_POLL_S)
            except Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self._keep(name, worth, sequence, image)
            except Exception as error:  # noqa: BLE001 - outermost handler: the next picture goes on
                self._failed += 1
                log = logger.warning if self._failed == 1 else logger.debug
                log("%s: %s cannot be kept: %s", self._folder, name, error)

    def _keep(self, name: str, worth: Worth, sequence: int, image: ByteImage) -> None:
        data = encode_png(image)
        with self._lock:
            self._make_room(len(data))
            if self._bytes + len(data) > self._policy.quota_bytes or self._is_disk_full():
                raise StorageError("there is no room for it")
        path = self._folder / name
        unfinished = path.with_name(f"{name}.tmp")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise
        with self._lock:
            self._hold(sequence, worth, name, len(data))
            self._kept += 1
            if sequence <= self._retired_to:  # its record went while it waited here
                self._drop_up_to(self._retired_to)

    def _hold(self, sequence: int, worth: Worth, name: str, size: int) -> None:
        heapq.heappush(self._held, (worth, sequence, name, size))
        self._bytes += size

    def _drop_up_to(self, sequence: int) -> None:
        gone = [each for each in self._held if each[1] <= sequence]
        self._held = [each for each in self._held if each[1] > sequence]
        heapq.heapify(self._held)
        for each in gone:
            self._delete(each)

    def _make_room(self, size: int) -> None:
        while self._held and (
            self._bytes + size > self._policy.quota_bytes or self._is_disk_full()
        ):
            self._delete(heapq.heappop(self._held))

    def _delete(self, held: tuple[Worth, int, str, int]) -> None:
        _, _, name, size = held
        with suppress(OSError):  # someone else was first
            (self._folder / name).unlink()
        self._bytes -= size
        self._evicted += 1

    def _is_disk_full(self) -> bool:
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize < self._policy.reserve_bytes


def _worth_of(why: str) -> Worth:
    return {"pass_random": Worth.RANDOM, "pass_near": Worth.NEAR}.get(why, Worth.REJECT)
