"""A camera that fails in one way for as long as a file is there."""

from __future__ import annotations

import os
from pathlib import Path

from paced_camera import PacedCamera

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.line.options import CAPTURE_MODULE
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, NoFrameYet


class FailingCamera(PacedCamera):
    def __init__(self, period_ms: float, fails: str, how: str) -> None:
        super().__init__("failing", period_ms)
        self._index = os.getpid()  # after a restart it shows other pictures, not frozen ones
        self._fails = Path(fails)
        self._how = how

    def open(self) -> None:
        super().open()
        if self._how == "lost" and self._fails.exists():
            raise SourceError("unplugged")

    def read(self, timeout_s: float) -> Frame | None:
        frame = super().read(timeout_s)
        if not self._fails.exists():
            return frame
        if self._how == "killed":
            self._fails.unlink()  # once: it is started again
            os._exit(1)
        if self._how == "lost":
            raise SourceError("unplugged")
        assert frame is not None
        if self._how == "skipped":
            raise NoFrameYet("its driver lost it without a word")
        self._index -= 1  # it has no number
        raise DamagedFrame("cannot be decoded", index=frame.index)


def make(period_ms: float, fails: str, how: str) -> FailingCamera:
    return FailingCamera(period_ms, fails, how)


def command(period_ms: float, fails: Path, how: str) -> WorkerCommand:
    setup = {"period_ms": period_ms, "fails": str(fails), "how": how}
    return WorkerCommand("failing_camera:make", setup, CAPTURE_MODULE)
