"""What the line costs beside the engine: parts a second, and milliseconds of processor a part.

    python tests/benchmarks/line_overhead.py [--parts 300] [--rounds 3] [--size 256]
    python tests/benchmarks/line_overhead.py --package part.ssn

The engine is a real ONNX Runtime session on one thread, the source gives the same arrays as fast as
they are taken, the journal is written. Compared, in turns, the best round of each:

- `engine`: `infer` alone, in a loop
- `inspector`: `Inspector.inspect` in a loop, as in an integrator's own program
- `one process`: `run_line` with its journal
- `guarded`: capture worker, engine worker and authority, policy `block`

With `--package` a real one judges its own golden pictures. Without, the model is a stand-in (a few
convolutions), sized by `--size` and `--channels`: one inference then takes less than that of any
real backbone, and so shows the line's own cost the better.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import ScoringRule, Thresholds
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
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
from ssn_edge_runtime.manifest import (
    ExpectedScores,
    GoldenPicture,
    Manifest,
    PrecisionEntry,
    Risk,
)
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import decode_picture, encode_png
from ssn_edge_runtime.preprocess import Geometry, preprocess
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources.base import Frame, Source

FRAME_HW = (480, 640)
FRAMES = 8


def make_frames(package: str | None = None) -> list[ByteImage]:
    """Golden pictures of a package; without one, noise."""
    if package is None:
        random = np.random.default_rng(0)
        return [random.integers(90, 160, (*FRAME_HW, 3), dtype=np.uint8) for _ in range(FRAMES)]
    with Package.open(package) as opened:
        golden = opened.manifest.golden[:FRAMES]
        return [decode_picture(opened.read(each.picture), each.picture) for each in golden]


class RawSource(Source):
    """Arrays from memory, each in turn, as fast as they are asked for."""

    name = "raw"
    is_live = False
    tells_exposure = False

    def __init__(self, count: int, package: str | None = None) -> None:
        self._images = make_frames(package)
        self._count = count
        self._index = 0

    def open(self) -> None:
        self._index = 0

    def read(self, timeout_s: float) -> Frame | None:
        if self._index >= self._count:
            return None
        index, self._index = self._index, self._index + 1
        image = self._images[index % len(self._images)]
        return Frame.taken_now(image, source=self.name, index=index)

    def close(self) -> None:
        pass


def make_source(count: int, package: str | None = None) -> RawSource:
    return RawSource(count, package)


def make_model(size: int, channels: int) -> bytes:
    uint8, float32 = TensorProto.UINT8, TensorProto.FLOAT
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=float32),
        helper.make_node("Transpose", ["floats"], ["layer0"], perm=[0, 3, 1, 2]),
    ]
    weights = {}
    widths = [3, channels, channels, channels, 1]
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
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
    model = make_model(size, channels)
    image = RawSource(FRAMES)._images[0]
    with OnnxRuntimeEngine(model, input_size_hw=(size, size)) as engine:
        judgement = engine.infer(preprocess(image, geometry), pixel_threshold=5.0)
    entries = {
        "models/fp32.onnx": model,
        "certificates/fp32.json": b"{}",
        "golden/000.png": encode_png(image),
        "golden/000.mask.png": encode_png(judgement.defect_mask * np.uint8(255)),
    }
    expected = ExpectedScores(
        judgement.classification_logit, judgement.map_max_logit, "golden/000.mask.png"
    )
    golden = (GoldenPicture("golden/000.png", {"fp32": expected}),)
    write_package(path, replace(manifest, golden=golden), entries)
    return path


def cpu_s() -> float:
    """Of this process and all that it has started and not reaped."""
    children = Path("/proc/self/task").glob("*/children")
    pids = [pid for each in children for pid in each.read_text().split()]
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Watch:
    """Time and processor time from the first record to the last: without start and end."""

    count: int = 0
    began: tuple[float, float] = (0.0, 0.0)
    ended: tuple[float, float] = (0.0, 0.0)

    def see(self, parts: int) -> None:
        self.count += 1
        if self.count == 1:
            self.began = (time.perf_counter(), cpu_s())
        if self.count == parts:
            self.ended = (time.perf_counter(), cpu_s())

    def result(self) -> dict[str, float]:
        intervals = self.count - 1
        seconds, cpu = (
            after - before for before, after in zip(self.began, self.ended, strict=True)
        )
        return {"parts_a_second": intervals / seconds, "cpu_ms": 1000 * cpu / intervals}


def guarded(package: Path, frames_of: str | None, parts: int, watch: Watch) -> None:
    arguments = {"count": parts, "package": frames_of}
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        run_guarded_line(
            {"raw": WorkerCommand("line_overhead:make_source", arguments, CAPTURE_MODULE)},
            package_command(str(package), engine="onnxruntime-cpu", precision="fp32", threads=1),
            journal,
            LineOptions(policy=FreePolicy.BLOCK, rules=TriggerRules(deadline_ns=10**10)),
            on_record=lambda record: watch.see(parts),
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--package", type=Path)
    arguments = parser.parse_args()
    parts = arguments.parts
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        frames_of: str | None = None
        if arguments.package is None:
            package = make_package(Path(folder), arguments.size, arguments.channels)
        else:
            package = arguments.package.resolve()
            frames_of = str(package)
        with Inspector.open(
            package, engine="onnxruntime-cpu", precision="fp32", threads=1, self_test=False
        ) as inspector:
            images = make_frames(frames_of)
            pixels = [preprocess(image, inspector.geometry) for image in images]

            def engine(watch: Watch) -> None:
                for number in range(parts):
                    inspector._engine.infer(pixels[number % len(pixels)], pixel_threshold=5.0)
                    watch.see(parts)

            def judging(watch: Watch) -> None:
                for number in range(parts):
                    assert inspector.inspect(images[number % len(images)]).verdict != "unknown"
                    watch.see(parts)

            def one_process(watch: Watch) -> None:
                with (
                    tempfile.TemporaryDirectory() as out,
                    Journal(Path(out)) as journal,
                    RawSource(parts, frames_of) as raw,
                ):
                    run_line(
                        raw,
                        inspector,
                        journal,
                        on_decision=lambda record, decision: watch.see(parts),
                    )

            works: dict[str, Callable[[Watch], None]] = {
                "engine": engine,
                "inspector": judging,
                "one process": one_process,
                "guarded": lambda watch: guarded(package, frames_of, parts, watch),
            }
            for _ in range(arguments.rounds):
                for name, work in works.items():
                    watch = Watch()
                    work(watch)
                    result = watch.result()
                    best.setdefault(name, result)
                    for what, better in (("parts_a_second", max), ("cpu_ms", min)):
                        best[name][what] = better(best[name][what], result[what])
    base = best["engine"]["parts_a_second"]
    for result in best.values():
        result["share_of_engine"] = result["parts_a_second"] / base
    document = {
        "device": describe_device().to_dict(),
        "frame_hw": images[0].shape[:2],
        "input_hw": pixels[0].shape[-3:-1],
        "best": best,
    }
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
