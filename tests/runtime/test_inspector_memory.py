"""A line that runs for months must not grow."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage

SETTLING = 1000
FRAMES = 5000
ALLOWED_BYTES = 4 * 2**20
"""A thousand bytes a frame; one map that stays is twelve times as much."""


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_memory_does_not_grow_over_thousands_of_frames(
    package_path: Path, part: Callable[..., ByteImage]
) -> None:
    frames = [part(seed, defect=seed % 2 == 0) for seed in range(8)]
    frames.append(frames[0][:, :, 0] * 0)  # black: refused before the engine
    with Inspector.open(package_path, engine="onnxruntime-cpu", threads=1) as inspector:
        verdicts = {str(inspector.inspect(frame).verdict) for frame in frames}
        assert verdicts == {"pass", "fail", "unknown"}
        for number in range(SETTLING):
            inspector.inspect(frames[number % len(frames)])
        gc.collect()
        before = resident_bytes()
        for number in range(FRAMES):
            inspector.inspect(frames[number % len(frames)])
        gc.collect()
        assert resident_bytes() - before < ALLOWED_BYTES
