"""Frames in anonymous shared memory: written by one worker, read by others, owned by one at a time.

The memory has no name: when the last process that holds it is gone, it is, whatever killed them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.messages import Message

SLOT_BYTES = 64 * 2**20
"""Room for one frame. Only pages that a frame really fills take memory."""

# From <linux/fcntl.h>; the fcntl module of Python 3.10 does not have all of them.
_F_ADD_SEALS = 1033
_F_SEAL_SEAL, _F_SEAL_SHRINK, _F_SEAL_GROW = 1, 2, 4


@dataclass(slots=True)
class _Slot:
    generation: int = 0
    writer: str | None = None
    readers: set[str] = field(default_factory=set)

    @property
    def is_free(self) -> bool:
        return self.writer is None and not self.readers


class SlotTable:
    """Who owns which slot; pure bookkeeping of the authority, that no worker can touch.

    A slot is free, or lent to one writer, or held for readers. Each lending has a generation of its
    own, so that an announcement of an earlier lending is known as such.

    Args:
        count: How many slots.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"{count} frame slots hold nothing; 1 or more is wanted")
        self._slots = [_Slot() for _ in range(count)]

    @property
    def free(self) -> int:
        """How many could be lent."""
        return sum(slot.is_free for slot in self._slots)

    def lend(self, writer: str) -> tuple[int, int] | None:
        """Give a free slot to a writer; its number and generation, or None."""
        for number, slot in enumerate(self._slots):
            if slot.is_free:
                slot.generation += 1
                slot.writer = writer
                return number, slot.generation
        return None

    def announce(self, number: int, generation: int, writer: str, reader: str) -> bool:
        """The writer has filled a slot: it is a reader's now. False if it was not the writer's."""
        if not 0 <= number < len(self._slots):
            return False
        slot = self._slots[number]
        if slot.writer != writer or slot.generation != generation:
            return False
        slot.writer = None
        slot.readers.add(reader)
        return True

    def hold(self, number: int, reader: str) -> None:
        """Add a reader to a slot that has one."""
        slot = self._slots[number]
        if not slot.readers:
            raise ValueError(f"slot {number} holds no frame")
        slot.readers.add(reader)

    def let_go(self, number: int, reader: str) -> None:
        """A reader is done; the last one frees the slot."""
        self._slots[number].readers.discard(reader)

    def reclaim(self, writer: str) -> int:
        """Free what was lent to a writer that is dead *and reaped*; returns how many."""
        owned = [slot for slot in self._slots if slot.writer == writer]
        for slot in owned:
            slot.writer = None
        return len(owned)

    def reclaim_readers(self, reader_prefix: str) -> None:
        """Drop all holds of a reader that is dead and reaped."""
        for slot in self._slots:
            slot.readers = {each for each in slot.readers if not each.startswith(reader_prefix)}


class SharedFrames:
    """The memory of one camera's slots, as the authority makes it.

    Args:
        count: How many slots.
        slot_bytes: Room for a frame in each.

    Readers get a descriptor through which nothing can be written, and the size is sealed: no worker
    can cut it under the feet of another.
    """

    def __init__(self, count: int, *, slot_bytes: int = SLOT_BYTES) -> None:
        if slot_bytes < 1:
            raise ConfigError(f"a frame slot of {slot_bytes} bytes holds nothing")
        # Each slot begins on a page of its own.
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.table = SlotTable(count)
        self.bytes = self.slot_bytes * count
        self.writer_fd = os.memfd_create("ssn-edge-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.writer_fd, self.bytes)
            fcntl.fcntl(self.writer_fd, _F_ADD_SEALS, _F_SEAL_SEAL | _F_SEAL_SHRINK | _F_SEAL_GROW)
            self.reader_fd = os.open(f"/proc/self/fd/{self.writer_fd}", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(self.writer_fd)
            raise

    def close(self) -> None:
        """Let go of the memory; a second call does nothing."""
        for name in ("writer_fd", "reader_fd"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


class FrameMap:
    """A worker's view of the slots.

    Args:
        fd: Inherited; closed when the view is made.
        size: Of the whole memory, in bytes.
        slot_bytes: Of one slot.
        is_writer: Whether frames are put here, or only looked at.
    """

    def __init__(self, fd: int, size: int, slot_bytes: int, *, is_writer: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if is_writer else 0)
        self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, protection)
        os.close(fd)
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self._slot_bytes = slot_bytes

    def put(self, slot: int, image: ByteImage) -> bool:
        """Copy a frame into a slot; False if it does not fit."""
        if image.nbytes > self._slot_bytes:
            return False
        self._view(slot, image.shape)[...] = image
        return True

    def look(self, slot: int, shape: tuple[int, ...]) -> ByteImage:
        """The frame of a slot, without a copy: valid until the slot is let go."""
        view = self._view(slot, shape)
        view.flags.writeable = False
        return view

    def _view(self, slot: int, shape: tuple[int, ...]) -> ByteImage:
        start = slot * self._slot_bytes
        size = int(np.prod(shape, dtype=np.int64))
        if slot < 0 or size > self._slot_bytes or start + size > len(self._bytes):
            raise ValueError(f"slot {slot} has no frame of {shape}")
        return self._bytes[start : start + size].reshape(shape)

    def close(self) -> None:
        """Let go of the view; frames looked at must not be used any more."""
        del self._bytes
        try:
            self._map.close()
        except BufferError:  # a frame is still looked at: the process' end frees it
            return

    def __enter__(self) -> FrameMap:
        """Return the view itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of it."""
        self.close()


def open_frames(setup: Message) -> dict[str, FrameMap]:
    """The cameras' memories of a worker's set-up, to be looked at."""
    cameras = {}
    listed = setup.raw("memories")
    for fields in listed if isinstance(listed, list) else []:
        memory = Message(fields)
        cameras[memory.text("camera")] = FrameMap(
            memory.whole("fd"), memory.whole("bytes"), memory.whole("slot_bytes"), is_writer=False
        )
    return cameras
