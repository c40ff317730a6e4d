"""A camera over a belt of parts: it shows which part lies under it, and fails as planned."""

from __future__ import annotations

from collections import deque
from time import monotonic_ns, sleep

import numpy as np
from fault_plan import Fault, Plan

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.sources.base import Frame, NoFrameYet, Source

READOUT_NS = 500_000
QUEUE = 4
"""Frames that its driver keeps when nobody fetches them; older ones are lost."""


class SimulatedCamera(Source):
    name = "belt"
    is_live = True
    tells_exposure = True

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._noise = np.random.default_rng(plan.seed).integers(
            30, 220, (plan.height, plan.width), dtype=np.uint8
        )
        self._next = 0
        self._index = 0
        self._frame_id = 0
        self._given: ByteImage | None = None
        self._backlog: deque[tuple[int, ByteImage]] = deque()

    def open(self) -> None:
        self._next = self._part_now() + 1

    def read(self, timeout_s: float) -> Frame | None:
        if self._backlog:
            return self._frame(*self._backlog.popleft())
        plan = self._plan
        lost = max(0, self._part_now() - QUEUE - self._next)
        self._next += lost
        self._frame_id += lost
        part, self._next = self._next, self._next + 1
        exposed_ns = plan.exposed_ns(part)
        wait_ns = exposed_ns + READOUT_NS - monotonic_ns()
        if wait_ns > timeout_s * 1e9:
            sleep(timeout_s)
            self._next = part
            raise NoFrameYet("the belt has not begun to move")
        if wait_ns > 0:
            sleep(wait_ns / 1e9)
        fault = plan.fault(part)
        if fault is Fault.NO_FRAME:
            return self.read(timeout_s)
        if fault is Fault.SKIPPED:
            self._frame_id += 1
            return self.read(timeout_s)
        if fault is Fault.OLD_FRAMES:
            # A queue of pictures of good parts, every one of them exposed before this one came.
            for back in range(8, 0, -1):
                old_ns = plan.triggered_ns(part) - back * 1000 - 1
                self._backlog.append((old_ns, self.picture(part, show_as_good=True, turn=back)))
            return self.read(timeout_s)
        if fault is Fault.FROZEN:
            if self._given is None:  # nothing to repeat yet: it gives nothing
                return self.read(timeout_s)
            return self._frame(exposed_ns, self._given.copy())
        image = self.picture(part)
        if fault is Fault.SIZE:
            image = image[: plan.height // 2].copy()
        return self._frame(exposed_ns, image, is_incomplete=fault is Fault.INCOMPLETE)

    def close(self) -> None:
        self._backlog.clear()

    def picture(self, part: int, *, show_as_good: bool = False, turn: int = 0) -> ByteImage:
        """Noise that says in its first pixels which part it shows, and whether it is faulty."""
        image = np.roll(self._noise, part * 7 + turn, axis=1)
        image[0, :4] = np.frombuffer(np.uint32(part).tobytes(), dtype=np.uint8)
        image[0, 4] = 255 * (self._plan.is_faulty(part) and not show_as_good)
        return image

    def _part_now(self) -> int:
        plan = self._plan
        return (monotonic_ns() - plan.start_ns) // plan.interval_ns

    def _frame(self, exposed_ns: int, image: ByteImage, *, is_incomplete: bool = False) -> Frame:
        self._given = image
        index, self._index = self._index, self._index + 1
        self._frame_id += 1
        return Frame.taken_now(
            image,
            source=self.name,
            index=index,
            exposed_monotonic_ns=exposed_ns,
            frame_id=self._frame_id,
            is_incomplete=is_incomplete,
        )


def make(**plan: object) -> SimulatedCamera:
    return SimulatedCamera(Plan(**plan))  # type: ignore[arg-type]
