"""The authority's side of the keeper: frames lent to it behind their records, within a bound."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Condition

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.delivery import Delivery
from ssn_edge_runtime.line.ledger import SeenFrame
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.options import EvidenceKept
from ssn_edge_runtime.line.worker_process import SECOND_NS, WorkerProcess, WorkerState
from ssn_edge_runtime.record import DecisionRecord, EventKind
from ssn_edge_runtime.sinks.evidence_policy import EVIDENCE_FOLDER, EvidenceName
from ssn_edge_runtime.sinks.write_budget import WriteBudget

LEFT_OUT_NOTED_NS = SECOND_NS
COUNTS_NOTED_NS = 60 * SECOND_NS
MOST_RANGES = 100
NICENESS = 10
SETTLE_NS = 2 * SECOND_NS
_LOOK_S = 0.2
_SHA256 = re.compile(r"[0-9a-f]{64}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Loan:
    frame: SeenFrame
    name: EvidenceName
    reader: str


class KeeperDesk:
    """One keeper for all cameras. Nothing of it delays or ends the line.

    All of it is for the authority's thread, but for `evict_up_to`.

    Args:
        kept: Whose frames, and by what.
        cameras: By key.
        delivery: Records and counts.
    """

    def __init__(
        self, kept: EvidenceKept, cameras: Mapping[str, Camera], delivery: Delivery
    ) -> None:
        self.worker = WorkerProcess("keeper", kept.command, kept.limits, niceness=NICENESS)
        self.is_given_up = False
        self._kept = kept
        self._cameras = cameras
        self._delivery = delivery
        self._loans: dict[int, _Loan] = {}
        self._job = 0
        self._counts = {"kept": 0, "evicted": 0, "shed": 0, "failed": 0, "over_budget": 0}
        self._budget = None if kept.bytes_a_day is None else WriteBudget(kept.bytes_a_day)
        self._told = dict(self._counts)
        self._left_out = SequenceRanges()
        self._evicted_by_it = 0
        self._held_bytes = 0
        self._noted_ns = 0
        self._settles_until_ns: int | None = None
        # Shared with the thread that has records retired.
        self._eviction = Condition()
        self._evict_to = self._evicted_to = 0
        self._asked_to = 0
        self._is_over = False

    @property
    def is_starting(self) -> bool:
        """Whether the very first one is on its way: the line's start may wait for it."""
        return self.worker.state is WorkerState.STARTING and self.worker.incarnation == 1

    def start(self, now_ns: int) -> None:
        """Start the worker, with sight of every camera's memory."""
        policy = self._kept.policy
        self._evicted_by_it = 0
        self.worker.start(
            {
                "memories": [camera.reader_memory for camera in self._cameras.values()],
                "folder": str(self._kept.folder),
                "quota_bytes": policy.quota_bytes,
                "reserve_bytes": policy.reserve_bytes,
            },
            [camera.reader_fd for camera in self._cameras.values()],
            now_ns,
        )

    def offer(self, frame: SeenFrame | None, record: DecisionRecord) -> None:
        """Lend a recorded part's frame, if it is to be kept; the line must hold it still."""
        if frame is None or not frame.has_pixels:
            return
        name = self._kept.policy.name_of(record)
        if name is None:
            return
        if self._budget is not None and self._budget.is_spent():
            self._leave_out("over_budget", name)
            return
        if self.worker.state is not WorkerState.RUNNING or len(self._loans) >= self._kept.frames:
            self._leave_out("shed", name)
            return
        self._job += 1
        loan = _Loan(frame, name, f"{self.worker.owner}/{self._job}")
        sent = self.worker.send(
            "frame",
            job=self._job,
            file=str(name),
            camera=frame.camera,
            slot=frame.slot,
            shape=list(frame.shape),
        )
        if not sent:
            self._leave_out("shed", name)
            return
        self._cameras[frame.camera].hold(frame, loan.reader)
        self._loans[self._job] = loan

    def take(self, message: Message, now_ns: int) -> None:
        """Take what the keeper says.

        Raises:
            MessageError: It says no such thing.
            StorageError: The journal cannot be written.
        """
        if message.kind == "ready":
            self._asked_to = 0
            self.worker.ready(now_ns)
        elif message.kind == "retired":
            self._count_evicted(message)
            with self._eviction:
                self._evicted_to = max(self._evicted_to, message.whole("up_to"))
                self._eviction.notify_all()
        elif message.kind == "kept":
            sha256 = message.text("frame_sha256")
            if not _SHA256.fullmatch(sha256):
                raise MessageError("a hash of a frame that is none")
            loan = self._returned(message)
            self._counts["kept"] += 1
            self._delivery.counters["evidence_kept"] += 1
            self._delivery.note(
                EventKind.KEPT,
                {
                    "sequence": loan.name.sequence,
                    "frame_sha256": sha256,
                    "file": f"{EVIDENCE_FOLDER}/{loan.name}",
                    "bytes": message.whole("bytes"),
                },
            )
        elif message.kind == "left":
            self._leave_out("failed", self._returned(message).name)
        else:
            raise MessageError(f"a keeper says no {message.kind!r}")

    def worker_gone(self) -> None:
        """The worker was reaped: what it had in hand may not have been written."""
        owner = f"{self.worker.name}#{self.worker.incarnation}"
        for camera in self._cameras.values():
            camera.reader_gone(f"{owner}/")
        self._leave_out_loans()

    def give_up(self, why: str) -> None:
        """Go on without a keeper; what it holds stays held, since it may still read it."""
        if self.is_given_up:
            return
        self.is_given_up = True
        self.worker.start_at_ns = None
        logger.warning("%s: %s; the line goes on without evidence", self.worker.name, why)
        self._leave_out_loans()
        with self._eviction:
            self._eviction.notify_all()

    def look_after(self, now_ns: int) -> None:
        """Hand on what is to be evicted, and note what became of frames.

        Raises:
            StorageError: The journal cannot be written.
        """
        with self._eviction:
            up_to = self._evict_to
        is_due = up_to > self._asked_to and self.worker.state is WorkerState.RUNNING
        if is_due and self.worker.send("retire", up_to=up_to):
            self._asked_to = up_to
        every_ns = LEFT_OUT_NOTED_NS if self._left_out else COUNTS_NOTED_NS
        if now_ns - self._noted_ns >= every_ns or self._left_out.count >= MOST_RANGES:
            self._noted_ns = now_ns
            self._note()

    def is_settled(self, now_ns: int) -> bool:
        """Whether the line may end: nothing is in its hands, or it had its time."""
        if not self._loans or self.worker.state is not WorkerState.RUNNING:
            return True
        if self._settles_until_ns is None:
            self._settles_until_ns = now_ns + SETTLE_NS
        return now_ns >= self._settles_until_ns

    def finish(self) -> None:
        """Note what became of frames until the end.

        Raises:
            StorageError: The journal cannot be written.
        """
        self._leave_out_loans()
        self._note()

    def close(self) -> None:
        """Nobody gets an answer any more."""
        with self._eviction:
            self._is_over = True
            self._eviction.notify_all()

    def evict_up_to(self, sequence: int) -> None:
        """Have the evidence of all parts up to this number deleted, and wait until it is.

        For the thread that has their records retired. Returns at once where there is no keeper any
        more: nobody writes evidence then.

        Raises:
            StorageError: The line ended first.
        """
        with self._eviction:
            self._evict_to = max(self._evict_to, sequence)
            while self._evicted_to < sequence and not self.is_given_up:
                if self._is_over:
                    raise StorageError(
                        f"evidence up to part {sequence} was not deleted before the line ended; "
                        "its records stay until the next run"
                    )
                self._eviction.wait(_LOOK_S)

    def _returned(self, message: Message) -> _Loan:
        loan = self._loans.pop(message.whole("job"), None)
        if loan is None:
            raise MessageError("a frame that was not lent to it")
        self._cameras[loan.frame.camera].let_go(loan.frame, loan.reader)
        self._count_evicted(message)
        self._held_bytes = message.whole("held_bytes")
        return loan

    def _count_evicted(self, message: Message) -> None:
        evicted = message.whole("evicted")
        self._counts["evicted"] += max(0, evicted - self._evicted_by_it)
        self._evicted_by_it = evicted

    def _leave_out(self, why: str, name: EvidenceName) -> None:
        self._counts[why] += 1
        self._delivery.counters[f"evidence_{why}"] += 1
        self._left_out.add(name.sequence)

    def _leave_out_loans(self) -> None:
        loans, self._loans = self._loans, {}
        for loan in loans.values():
            self._leave_out("failed", loan.name)

    def _note(self) -> None:
        told, self._told = self._told, dict(self._counts)
        if told == self._counts:
            return
        left_out, self._left_out = self._left_out, SequenceRanges()
        self._delivery.note(
            EventKind.EVIDENCE,
            {
                **{name: count - told[name] for name, count in self._counts.items()},
                "held_bytes": self._held_bytes,
                "left_out": str(left_out),
            },
        )


class SequenceRanges:
    """Numbers as text: ``3-5,9``; those that come in order take little room."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, sequence: int) -> None:
        """Add a number."""
        if self._ranges and self._ranges[-1][1] == sequence - 1:
            self._ranges[-1] = (self._ranges[-1][0], sequence)
        else:
            self._ranges.append((sequence, sequence))

    @property
    def count(self) -> int:
        """How many ranges."""
        return len(self._ranges)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._ranges)

    def __str__(self) -> str:
        """As the journal spells them."""
        return ",".join(
            str(first) if first == last else f"{first}-{last}" for first, last in self._ranges
        )
