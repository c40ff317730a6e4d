from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.shared_frames import FrameMap, SharedFrames, SlotTable


@pytest.fixture
def frames() -> Iterator[SharedFrames]:
    shared = SharedFrames(3, slot_bytes=5000)
    yield shared
    shared.close()


def a_map(frames: SharedFrames, *, is_writer: bool) -> FrameMap:
    fd = os.dup(frames.writer_fd if is_writer else frames.reader_fd)
    return FrameMap(fd, frames.bytes, frames.slot_bytes, is_writer=is_writer)


def test_what_the_writer_puts_the_reader_sees_without_a_copy(frames: SharedFrames) -> None:
    image = np.arange(48 * 32, dtype=np.uint32).astype(np.uint8).reshape(48, 32)
    with a_map(frames, is_writer=True) as writer, a_map(frames, is_writer=False) as reader:
        assert writer.put(2, image)
        seen = reader.look(2, (48, 32))
        assert np.array_equal(seen, image)
        assert not seen.flags.owndata
        del seen


def test_a_reader_cannot_write_however_it_tries(frames: SharedFrames) -> None:
    with a_map(frames, is_writer=False) as reader:
        seen = reader.look(0, (4, 4))
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            seen[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            seen.flags.writeable = True
        del seen
    with pytest.raises(PermissionError):
        mmap.mmap(frames.reader_fd, frames.bytes, mmap.MAP_SHARED, mmap.PROT_WRITE)


@pytest.mark.parametrize("size", [0, 4096, 10**6])
def test_no_worker_can_change_the_size_of_the_memory(frames: SharedFrames, size: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(frames.writer_fd, size)


def test_a_frame_that_does_not_fit_is_not_written(frames: SharedFrames) -> None:
    with a_map(frames, is_writer=True) as writer:
        assert not writer.put(0, np.ones(frames.slot_bytes + 1, dtype=np.uint8))
        with pytest.raises(ValueError, match="slot 3"):
            writer.look(3, (4, 4))


@pytest.mark.parametrize(("slots", "slot_bytes"), [(0, 1), (1, 0)])
def test_memory_that_holds_nothing_is_refused(slots: int, slot_bytes: int) -> None:
    with pytest.raises(ConfigError):
        SharedFrames(slots, slot_bytes=slot_bytes).close()


class SlotMachine(RuleBasedStateMachine):
    """Writers that die, readers that are slow, announcements that are forged or late."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(4)
        self.lent: dict[tuple[int, int], str] = {}
        self.held: dict[int, set[str]] = {}
        self.past: list[tuple[int, int, str]] = []

    @rule(writer=st.sampled_from(["a#1", "a#2", "b#1"]))
    def lend(self, writer: str) -> None:
        lent = self.table.lend(writer)
        taken = {slot for slot, _ in self.lent} | {slot for slot, who in self.held.items() if who}
        if lent is None:
            assert len(taken) == 4
            return
        assert lent[0] not in taken
        assert lent not in self.lent
        self.lent[lent] = writer

    @rule(data=st.data(), reader=st.sampled_from(["x", "y"]))
    def announce(self, data: st.DataObject, reader: str) -> None:
        if not self.lent:
            return
        slot, generation = data.draw(st.sampled_from(sorted(self.lent)))
        writer = self.lent.pop((slot, generation))
        assert self.table.announce(slot, generation, writer, reader)
        self.held.setdefault(slot, set()).add(reader)
        self.past.append((slot, generation, writer))

    @rule(
        slot=st.integers(-1, 5), generation=st.integers(0, 9), writer=st.sampled_from(["a#1", "z"])
    )
    def forge(self, slot: int, generation: int, writer: str) -> None:
        if self.lent.get((slot, generation)) != writer:
            assert not self.table.announce(slot, generation, writer, "thief")

    @rule(data=st.data())
    def announce_again(self, data: st.DataObject) -> None:
        if self.past:
            slot, generation, writer = data.draw(st.sampled_from(self.past))
            assert not self.table.announce(slot, generation, writer, "x")

    @rule(slot=st.integers(0, 3), reader=st.sampled_from(["x", "y"]))
    def let_go(self, slot: int, reader: str) -> None:
        self.table.let_go(slot, reader)
        self.held.get(slot, set()).discard(reader)

    @rule(writer=st.sampled_from(["a#1", "a#2", "b#1"]))
    def reap(self, writer: str) -> None:
        mine = [lent for lent, who in self.lent.items() if who == writer]
        assert self.table.reclaim(writer) == len(mine)
        for lent in mine:
            del self.lent[lent]

    @invariant()
    def each_slot_has_one_owner(self) -> None:
        held = {slot for slot, who in self.held.items() if who}
        assert self.table.free == 4 - len(self.lent) - len(held)
        assert not held & {slot for slot, _ in self.lent}


SlotMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestSlots = SlotMachine.TestCase
