from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources import Frame, NoFrameYet, Source
from ssn_edge_runtime.sources.reader import Reader


class WaitingForATrigger(Source):
    """A camera whose trigger comes after so many timeouts; then it hangs in its driver."""

    name = "waiting"
    is_live = True
    tells_exposure = True

    def __init__(self, timeouts: int) -> None:
        self._timeouts = timeouts
        self.release = threading.Event()

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, timeout_s: float) -> Frame | None:
        self._timeouts -= 1
        if self._timeouts >= 0:
            time.sleep(timeout_s)
            raise NoFrameYet("no trigger yet")
        if self._timeouts == -1:
            return Frame.taken_now(np.zeros((4, 4), np.uint8), source=self.name, index=0)
        self.release.wait(10.0)
        return None


def test_a_camera_that_waits_for_its_trigger_is_not_stalled_and_one_that_hangs_is() -> None:
    source = WaitingForATrigger(timeouts=5)
    stop = threading.Event()
    with source, Reader(source, timeout_s=0.2) as reader:
        captured = reader.take(stop)  # after a second, which is five timeouts
        assert captured is not None
        assert captured.frame is not None
        started = time.monotonic()
        with pytest.raises(SourceError, match="stalled"):
            reader.take(stop)
        assert 0.2 < time.monotonic() - started < 5.0  # 0.32 s and what the machine adds
        source.release.set()
