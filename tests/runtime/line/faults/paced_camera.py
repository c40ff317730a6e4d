"""A camera of a given name and rate; each frame is another one."""

from __future__ import annotations

from time import monotonic_ns, sleep

import numpy as np

from ssn_edge_runtime.line.options import CAPTURE_MODULE
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.sources.base import Frame, Source


class PacedCamera(Source):
    is_live = True
    tells_exposure = True

    def __init__(self, name: str, period_ms: float, is_numbered: bool = True) -> None:
        self._name = name
        self._is_numbered = is_numbered
        self._period_ns = int(period_ms * 1e6)
        self._next_ns = 0
        self._index = 0
        self._noise = np.random.default_rng(0).integers(30, 220, (48, 64), dtype=np.uint8)

    @property
    def name(self) -> str:
        return self._name

    def open(self) -> None:
        self._next_ns = monotonic_ns()

    def read(self, timeout_s: float) -> Frame | None:
        self._next_ns = max(self._next_ns + self._period_ns, monotonic_ns())
        sleep(max(0, self._next_ns - monotonic_ns()) / 1e9)
        index, self._index = self._index, self._index + 1
        image = np.roll(self._noise, index * 7, axis=1)
        image[0, :8] = 0  # which the simulated judge reads as a part without a fault
        return Frame.taken_now(
            image, source=self._name, index=index, exposed_monotonic_ns=self._next_ns,
            frame_id=index if self._is_numbered else None,
        )  # fmt: skip

    def close(self) -> None:
        pass


def make(name: str, period_ms: float, is_numbered: bool) -> PacedCamera:
    return PacedCamera(name, period_ms, is_numbered)


def command(name: str, period_ms: float, *, is_numbered: bool = True) -> WorkerCommand:
    setup = {"name": name, "period_ms": period_ms, "is_numbered": is_numbered}
    return WorkerCommand("paced_camera:make", setup, CAPTURE_MODULE)
