"""What the line costs beside the engine: parts a second, and milliseconds of processor a part.

    python tests/benchmarks/line_overhead.py [--parts 300] [--rounds 3] [--size 256]

The engine is a real ONNX Runtime session on one thread, the source gives the same arrays as fast as
they are taken, the journal is written. Compared, in turns, the best round of each:

- `engine`: `infer` alone, in a loop
- `inspector`: `Inspector.inspect` in a loop, as in an integrator's own program
- `one process`: `run_line` with its journal
- `guarded`: capture worker, engine worker and authority, policy `block`

The model is a stand-in (a few convolutions), sized by `--size` and `--channels` so that one
inference takes as long as that of a small backbone.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.frame_checks import collect_statistics, measure_input
from ssn_edge_runtime.line.guarded_line import run_guarded_line
from ssn_edge_runtime.line.options import (
    CAPTURE_MODULE,
    FreePolicy,
    LineOptions,
    package_command,
)
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.loop import run_line
from ssn_edge_runtime.manifest import Manifest, PrecisionEntry, Risk
from ssn_edge_runtime.preprocess import Geometry, preprocess
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources.base import Frame, Source

FRAME_HW = (480, 640)
FRAMES = 8


class RawSource(Source):
    """Arrays from memory, each in turn, as fast as they are asked for."""

    name = "raw"
    is_live = False
    tells_exposure = False

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(0)
        self._images = [
            random.integers(90, 160, (*FRAME_HW, 3), dtype=np.uint8) for _ in range(FRAMES)
        ]
        self._count = count
        self._index = 0

    def open(self) -> None:
        self._index = 0

    def read(self, timeout_s: float) -> Frame | None:
        if self._index >= self._count:
            return None
        index, self._index = self._index, self._index + 1
        return Frame.taken_now(self._images[index % FRAMES], source=self.name, index=index)

    def close(self) -> None:
        pass


def make_source(count: int) -> RawSource:
    return RawSource(count)


def make_model(size: int, channels: int) -> bytes:
    uint8, float32 = TensorProto.UINT8, TensorProto.FLOAT
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=float32),
        helper.make_node("Transpose", ["floats"], ["layer0"], perm=[0, 3, 1, 2]),
    ]
    weights = {}
    widths = [3, channels, channels, channels, 1]
    for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
        kernel = random.normal(0, 0.5 / before, (after, before, 3, 3)).astype(np.float32)
        weights[f"kernel{number}"] = kernel
        nodes.append(
            helper.make_node(
                "Conv",
                [f"layer{number}", f"kernel{number}"],
                [f"conv{number}"],
                pads=[1, 1, 1, 1],
            )
        )
        nodes.append(helper.make_node("Tanh", [f"conv{number}"], [f"layer{number + 1}"]))
    weights["plane"] = np.array([1], dtype=np.int64)
    weights["axes"] = np.array([1, 2], dtype=np.int64)
    nodes += [
        helper.make_node("Squeeze", [f"layer{len(widths) - 1}", "plane"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["map_max_logit"], keepdims=0),
        helper.make_node(
            "ReduceMean", ["anomaly_map", "axes"], ["classification_logit"], keepdims=0
        ),
        helper.make_node("GreaterOrEqual", ["anomaly_map", "pixel_threshold"], ["above"]),
        helper.make_node("Cast", ["region_mask"], ["judged"], to=TensorProto.BOOL),
        helper.make_node("And", ["above", "judged"], ["defective"]),
        helper.make_node("Cast", ["defective"], ["defect_mask"], to=uint8),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [
            value("pixels", uint8, [1, size, size, 3]),
            value("pixel_threshold", float32, [1]),
            value("region_mask", uint8, [size, size]),
        ],
        [
            value("classification_logit", float32, [1]),
            value("map_max_logit", float32, [1]),
            value("anomaly_map", float32, [1, size, size]),
            value("defect_mask", uint8, [1, size, size]),
        ],
        initializer=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    return model.SerializeToString()


def make_package(folder: Path, size: int, channels: int) -> Path:
    geometry = Geometry((size, size))
    source = RawSource(FRAMES)
    statistics = collect_statistics(
        measure_input(preprocess(frame.image, geometry))
        for frame in iter(lambda: source.read(1.0), None)
        if frame is not None
    )
    manifest = Manifest(
        name="stand-in",
        created_at="2026-11-28T00:00:00Z",
        geometry=geometry,
        scoring_rule=ScoringRule.MAP_MAX,
        precisions={
            "fp32": PrecisionEntry(
                "models/fp32.onnx",
                "certificates/fp32.json",
                Thresholds(image=5.0, pixel=5.0),
                Risk(max_false_reject=0.01, normals=100, supported=True),
            )
        },
        variant="jims",
        regime="unsupervised",
        backbone="none",
        training_data="0" * 64,
        input_statistics=statistics,
        golden=(),
        tools={"ssn-edge": "0"},
    )
    path = folder / "stand-in.ssn"
    entries = {
        "models/fp32.onnx": make_model(size, channels),
        "certificates/fp32.json": b"{}",
    }
    write_package(path, replace(manifest), entries)
    return path


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(parts: int, work: Callable[[], float | None]) -> dict[str, float]:
    """Parts a second over the work's own time, if it tells one, and processor time a part."""
    cpu, began = cpu_s(), time.perf_counter()
    seconds = work() or time.perf_counter() - began
    return {"parts_a_second": parts / seconds, "cpu_ms": 1000 * (cpu_s() - cpu) / parts}


def guarded_seconds(package: Path, parts: int) -> float:
    """From the first record to the last: without starting the workers."""
    stamps: list[int] = []
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        run_guarded_line(
            {"raw": WorkerCommand("line_overhead:make_source", {"count": parts}, CAPTURE_MODULE)},
            package_command(str(package), threads=1),
            journal,
            LineOptions(policy=FreePolicy.BLOCK, rules=TriggerRules(deadline_ns=10**10)),
            on_record=lambda record: stamps.append(time.perf_counter_ns()),
        )
    assert len(stamps) == parts, (len(stamps), parts)
    return (stamps[-1] - stamps[0]) / 1e9 * parts / (parts - 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--channels", type=int, default=16)
    arguments = parser.parse_args()
    parts = arguments.parts
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        package = make_package(Path(folder), arguments.size, arguments.channels)
        with Inspector.open(package, threads=1, self_test=False) as inspector:
            source = RawSource(FRAMES)
            images = [frame.image for frame in iter(lambda: source.read(1.0), None) if frame]
            pixels = [preprocess(image, inspector.geometry) for image in images]

            def engine() -> None:
                for number in range(parts):
                    inspector._engine.infer(pixels[number % FRAMES], pixel_threshold=5.0)

            def judging() -> None:
                for number in range(parts):
                    assert inspector.inspect(images[number % FRAMES]).verdict == "pass"

            def one_process() -> float:
                with tempfile.TemporaryDirectory() as out, Journal(Path(out)) as journal:
                    with RawSource(parts) as raw:
                        return run_line(raw, inspector, journal).duration_s

            works: dict[str, Callable[[], float | None]] = {
                "engine": engine,
                "inspector": judging,
                "one process": one_process,
                "guarded": lambda: guarded_seconds(package, parts),
            }
            for _ in range(arguments.rounds):
                for name, work in works.items():
                    result = measured(parts, work)
                    if result["parts_a_second"] > best.get(name, result)["parts_a_second"] - 1e-9:
                        best[name] = result
    base = best["engine"]["parts_a_second"]
    for result in best.values():
        result["share_of_engine"] = result["parts_a_second"] / base
    document = {"device": describe_device().to_dict(), "frame_hw": FRAME_HW, "best": best}
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
