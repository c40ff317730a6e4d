from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ssn_edge_runtime.pictures import encode_png

HERE = Path(__file__).parent
# Workers are told the importing process' search path: they find the simulation there, too.
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """No thread, process or file descriptor outlives the test."""
    gc.collect()  # what the tests before left to the collector is not this one's
    fds, threads = set(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    children = _children()
    yield
    assert threading.active_count() == threads
    assert _children() == children
    assert len(os.listdir("/proc/self/fd")) <= len(fds)  # noqa: PTH208


@pytest.fixture
def make_pictures() -> Callable[[Path, int], None]:
    """Small pictures, each another one."""

    def make(folder: Path, count: int) -> None:
        folder.mkdir()
        random = np.random.default_rng(0)
        for number in range(count):
            pixels = random.integers(0, 255, (48, 64), dtype=np.uint8)
            pixels[0, :4] = 0
            (folder / f"{number:03d}.png").write_bytes(encode_png(pixels))

    return make
