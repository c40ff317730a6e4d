"""The authority's side of one camera: its worker, its slots, its waiting and dropped frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.line.ledger import SeenFrame
from ssn_edge_runtime.line.messages import Message, MessageError
from ssn_edge_runtime.line.options import FreePolicy, LineOptions, TriggerKind
from ssn_edge_runtime.line.shared_frames import SharedFrames
from ssn_edge_runtime.line.worker_process import WorkerCommand, WorkerProcess
from ssn_edge_runtime.record import Scalar


@dataclass(slots=True)
class _DropRange:
    first: int
    last: int
    count: int


class Camera:
    """One camera.

    Args:
        key: What triggers and workers call it.
        command: What its capture worker runs.
        options: Of the line.
    """

    def __init__(self, key: str, command: WorkerCommand, options: LineOptions) -> None:
        self.key = key
        self.source = key
        """What records call it; the source's own name once it is open."""
        self.is_live = True
        self.is_ended = False
        self.is_lost = False
        self.waiting: deque[SeenFrame] = deque()
        """Free-running: frames that are no parts yet, oldest first."""
        self.turn = 0
        """Free-running: when it had the engine last, among the line's cameras."""
        self.last_frame_id: int | None = None
        self.worker = WorkerProcess(f"camera {key}", command, options.capture)
        self._options = options
        waits = options.trigger is TriggerKind.FREE and options.policy is FreePolicy.BLOCK
        # A source that waits is not read further ahead than the engine needs.
        count = options.spare_slots + (0 if waits else options.rules.in_flight)
        if options.evidence is not None:
            count += options.evidence.frames  # what the keeper holds, the camera does not miss
        self._frames = SharedFrames(count, slot_bytes=options.slot_bytes)
        self._last: SeenFrame | None = None
        self._drops: dict[str, _DropRange] = {}

    @property
    def reader_fd(self) -> int:
        """The memory, for those that only look."""
        return self._frames.reader_fd

    @property
    def memory(self) -> dict[str, object]:
        """What a worker must know of the memory, but for the descriptor."""
        return {"bytes": self._frames.bytes, "slot_bytes": self._frames.slot_bytes}

    @property
    def reader_memory(self) -> dict[str, object]:
        """All that a worker must know of the memory to look at it."""
        return {"camera": self.key, "fd": self.reader_fd, **self.memory}

    def start(self, now_ns: int) -> None:
        """Start the capture worker, and lend it all free slots."""
        last = self._last
        self.worker.start(
            {
                "memory": {"fd": self._frames.writer_fd, **self.memory},
                "waits": (
                    self._options.trigger is TriggerKind.FREE
                    and self._options.policy is FreePolicy.BLOCK
                ),
                "frame_timeout_s": self._options.frame_timeout_s,
                "reopen_attempts": self._options.reopen_attempts,
                "reopen_pause_s": self._options.reopen_pause_s,
                "last": None if last is None else {"slot": last.slot, "shape": list(last.shape)},
                **self._options.asks(below=1),
            },
            [self._frames.writer_fd],
            now_ns,
        )
        self.lend()

    def lend(self) -> None:
        """Give the worker every slot that is free."""
        if self.worker.socket is None:
            return
        while (lent := self._frames.table.lend(self.worker.owner)) is not None:
            slot, generation = lent
            if not self.worker.send("lend", slot=slot, generation=generation):
                return  # it keeps the slot until it is reaped

    def seen(self, message: Message) -> SeenFrame:
        """Take a frame that the worker announced; from now on it is the line's.

        Raises:
            MessageError: The worker announced what is not its to announce.
        """
        slot, generation = message.whole("slot"), message.whole("generation")
        fault = message.text_or_none("fault")
        try:
            reason = None if fault is None else Reason(fault)
        except ValueError as error:
            raise MessageError(str(error)) from error
        frame = SeenFrame(
            camera=self.key,
            slot=slot,
            generation=generation,
            shape=message.shape("shape"),
            index=message.whole("index"),
            captured_ns=message.whole("captured_ns"),
            exposed_ns=message.whole_or_none("exposed_ns"),
            frame_id=message.whole_or_none("frame_id"),
            missed=message.whole("missed"),
            capture_ms=message.number("capture_ms"),
            part_id=message.text_or_none("part_id"),
            fault=reason,
            fault_detail=message.text("detail"),
            has_pixels=message.flag("has_pixels"),
        )
        table = self._frames.table
        if not table.announce(slot, generation, self.worker.owner, _holder(frame)):
            raise MessageError(f"slot {slot} of lending {generation} is not this worker's")
        if reason is not Reason.FRAME_SIZE:  # its pixels may not have fitted
            # Kept until the next one: after a restart, a frozen camera is still found frozen.
            table.hold(slot, f"last/{generation}")
            if self._last is not None:
                table.let_go(self._last.slot, f"last/{self._last.generation}")
            self._last = frame
        return frame

    def hold(self, frame: SeenFrame, reader: str) -> None:
        """Let another reader see a frame that the line holds."""
        self._frames.table.hold(frame.slot, reader)

    def let_go(self, frame: SeenFrame, reader: str | None = None) -> None:
        """A reader, or the line itself, is done with a frame."""
        self._frames.table.let_go(frame.slot, _holder(frame) if reader is None else reader)
        self.lend()

    def worker_gone(self) -> None:
        """The worker was reaped: what it owned is free, and its camera counts anew."""
        self._frames.table.reclaim(f"{self.worker.name}#{self.worker.incarnation}")
        self.last_frame_id = None

    def reader_gone(self, reader_prefix: str) -> None:
        """A reader was reaped."""
        self._frames.table.reclaim_readers(reader_prefix)
        self.lend()

    def drop(self, first: int, last: int, count: int, cause: str) -> None:
        """Remember frames that get no record."""
        drops = self._drops.get(cause)
        if drops is None:
            self._drops[cause] = _DropRange(first, last, count)
        else:
            drops.last = last
            drops.count += count

    def take_drops(self) -> list[dict[str, Scalar]]:
        """What was dropped since the last call, as details of events."""
        drops, self._drops = self._drops, {}
        return [
            {
                "source": self.source,
                "cause": cause,
                "frames": each.count,
                "first_frame_index": each.first,
                "last_frame_index": each.last,
            }
            for cause, each in drops.items()
        ]

    def close(self) -> None:
        """Let go of the memory."""
        self._frames.close()


def _holder(frame: SeenFrame) -> str:
    """The line's own hold; of one lending, so that letting go twice hurts nobody."""
    return f"line/{frame.generation}"
