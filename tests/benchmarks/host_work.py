"""What one core does for a frame beside the engine: milliseconds from frame to verdict.

    python tests/benchmarks/host_work.py

The frame is 1280 x 1024, colour and mono; OpenCV has one thread and the process one core. The
engine is a scripted one that takes no time, with 0, 1, 20 and 300 regions in its mask. Times are
those of the clock and of the core: on a busy machine the latter tell what the work takes. Frame
hash and pictures come after the verdict, elsewhere, and have figures of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ssn_edge.benchmark.stages import (
    CHECK,
    DEFECTS,
    HOST,
    RESIZE,
    THRESHOLD,
    Judging,
    timed_decision,
)
from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.decision import Judgement, ScoringRule, Thresholds
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.preprocess import Geometry, Interpolation, preprocess
from ssn_edge_runtime.record import frame_sha256

FRAME_HW = (1024, 1280)
INPUT_SIZES = ((256, 256), (640, 232))
REGIONS = (0, 1, 20, 300)
COLUMNS = (RESIZE, CHECK, THRESHOLD, DEFECTS, HOST)
CLOCKS = {"clock": time.perf_counter_ns, "core": time.thread_time_ns}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400, help="of each case")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    cv2.setNumThreads(1)
    device = describe_device()
    results = {
        f"{size[0]}x{size[1]} {'colour' if colour else 'mono'} {count} regions": case(
            size, colour=colour, regions=count, frames=options.frames
        )
        for size in INPUT_SIZES
        for colour in (True, False)
        for count in REGIONS
    }
    apart = others(options.frames // 4)
    if options.json:
        print(json.dumps({"device": device.to_dict(), "host": results, "apart": apart}, indent=2))
        return
    print(
        f"{device.processor}, one core, OpenCV {cv2.__version__}, {FRAME_HW[1]} x {FRAME_HW[0]} "
        f"frame, {options.frames} frames of each case, ms"
    )
    for name, by_clock in results.items():
        print(name)
        for clock, by_stage in by_clock.items():
            p50 = "  ".join(f"{stage} {by_stage[stage]['p50']:.3f}" for stage in COLUMNS)
            tail = "  ".join(
                f"{name} {by_stage[HOST][name]:.3f}" for name in ("least", "p95", "p99")
            )
            print(f"  {clock:5}  {p50}  {tail}")
    print("not between frame and verdict, or not the default; time of the core")
    for name, of_it in apart.items():
        print(f"  {name:46} p50 {of_it['p50']:7.3f}  p99 {of_it['p99']:7.3f}")


Percentiles = dict[str, float]


def case(
    size_hw: tuple[int, int], *, colour: bool, regions: int, frames: int
) -> dict[str, dict[str, Percentiles]]:
    """One case by clock and stage, the clocks in turn."""
    frame = noise(colour=colour)
    geometry = Geometry(size_hw)
    judging = Judging(
        geometry,
        collect_statistics([measure_input(preprocess(frame, geometry))]),
        Thresholds(image=0.0, pixel=0.0),
        ScoringRule.MAP_MAX,
    )
    anomaly_map = map_of(size_hw, regions)
    judgement = Judgement(
        classification_logit=0.0,
        map_max_logit=float(anomaly_map.max()),
        anomaly_map=anomaly_map,
        defect_mask=(anomaly_map >= 0).astype(np.uint8),
    )
    times: dict[str, dict[str, list[float]]] = {
        clock: {stage: [] for stage in COLUMNS} for clock in CLOCKS
    }
    with FakeEngine([judgement], input_size_hw=size_hw) as engine:
        for turn in range(frames + 20):
            for clock, read_ns in CLOCKS.items():
                timed = timed_decision(frame, engine, judging, clock_ns=read_ns)
                assert timed.fault is None
                assert len(timed.decision.defects) == regions
                if turn >= 20:
                    for stage in COLUMNS:
                        times[clock][stage].append(timed.stages_ms[stage])
    return {
        clock: {stage: percentiles(each) for stage, each in by_stage.items()}
        for clock, by_stage in times.items()
    }


def others(frames: int) -> dict[str, Percentiles]:
    """What comes after the verdict, and the resizes that are not the default."""
    colour, mono = noise(colour=True), noise(colour=False)
    mask = (map_of((256, 256), 20) >= 0).astype(np.uint8) * np.uint8(255)
    textured = cv2.GaussianBlur(colour, (0, 0), 2)
    work: dict[str, Callable[[], object]] = {
        "hash of the frame, colour": lambda: frame_sha256(colour),
        "hash of the frame, mono": lambda: frame_sha256(mono),
        "PNG of the mask, 256x256": lambda: encode_png(mask),
        "PNG of the frame, colour, noise": lambda: encode_png(colour),
        "PNG of the frame, colour, smooth": lambda: encode_png(textured),
    }
    for interpolation in Interpolation:
        for size in INPUT_SIZES:
            geometry = Geometry(size, interpolation=interpolation)
            for name, frame in (("colour", colour), ("mono", mono)):
                label = f"resize {interpolation.value} to {size[0]}x{size[1]}, {name}"
                work[label] = lambda frame=frame, geometry=geometry: preprocess(frame, geometry)
    return {name: percentiles(repeated(each, frames)) for name, each in work.items()}


def repeated(work: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of the core, after three turns that are not counted."""
    times = []
    for _ in range(count + 3):
        start = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - start) / 1e6)
    return times[3:]


def percentiles(times_ms: Sequence[float]) -> Percentiles:
    p50, p95, p99 = np.percentile(times_ms, [50, 95, 99])
    return {
        "least": min(times_ms),
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "max": max(times_ms),
    }


def noise(*, colour: bool) -> ByteImage:
    shape = (*FRAME_HW, 3) if colour else FRAME_HW
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def map_of(size_hw: tuple[int, int], regions: int) -> FloatArray:
    """A map with squares above zero, a quarter of it in all; one region is a sixteenth of it."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    anomaly_map = rng.normal(-3, 0.3, size_hw).astype(np.float32)
    step = int((height * width / max(regions, 4)) ** 0.5)
    while len(corners := _corners(size_hw, step)) < regions:
        step -= 1  # it did not fit the sides
    side = step // 2
    for top, left in corners[:regions]:
        anomaly_map[top : top + side, left : left + side] = 2 + rng.random()
    return anomaly_map


def _corners(size_hw: tuple[int, int], step: int) -> list[tuple[int, int]]:
    height, width = size_hw
    return [
        (top, left)
        for top in range(0, height - step // 2, step)
        for left in range(0, width - step // 2, step)
    ]


if __name__ == "__main__":
    main()
