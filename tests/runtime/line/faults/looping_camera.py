"""A camera that shows the arrays of a folder over and over, with exposure times and numbers."""

from __future__ import annotations

from pathlib import Path
from time import monotonic_ns, sleep

import numpy as np

from ssn_edge_runtime.sources.base import Frame, Source


class LoopingCamera(Source):
    name = "loop"
    is_live = True
    tells_exposure = True

    def __init__(self, folder: Path, period_ms: float) -> None:
        self._images = [np.load(path) for path in sorted(folder.glob("*.npy"))]
        self._period_ns = int(period_ms * 1e6)
        self._next_ns = 0
        self._index = 0

    def open(self) -> None:
        self._next_ns = monotonic_ns()

    def read(self, timeout_s: float) -> Frame | None:
        self._next_ns = max(self._next_ns + self._period_ns, monotonic_ns())
        sleep(max(0, self._next_ns - monotonic_ns()) / 1e9)
        index, self._index = self._index, self._index + 1
        which = index % len(self._images)
        return Frame.taken_now(
            self._images[which],
            source=self.name,
            index=index,
            part_id=str(which),
            exposed_monotonic_ns=self._next_ns,
            frame_id=index,
        )

    def close(self) -> None:
        pass


def make(folder: str, period_ms: float) -> LoopingCamera:
    return LoopingCamera(Path(folder), period_ms)
