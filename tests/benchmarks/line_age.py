"""How old a free-running line's verdicts are, while the camera gives more than the engine judges.

    python tests/benchmarks/line_age.py --package part.ssn [--fps 200] [--parts 2000]

The promise (runtime/README.md): at most one engine latency, plus one camera period, plus 5 ms, from
the exposure to the record. The camera shows the package's golden pictures at a rate, and tells when
it exposed; the guarded line runs as `ssn-edge run` does, with policy `latest`. Each part is held
against its own engine latency.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.latency import LatencyHistogram
from ssn_edge_runtime.line.guarded_line import run_guarded_line
from ssn_edge_runtime.line.options import CAPTURE_MODULE, LineOptions, package_command
from ssn_edge_runtime.line.rules import MILLISECOND_NS, TriggerRules
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import decode_picture
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources.options import FaultKind, SourceOptions
from ssn_edge_runtime.sources.pattern import TestPatternSource

ALLOWANCE_MS = 5.0
STAGES = ("preprocess", "infer", "postprocess")


class GoldenCamera(TestPatternSource):
    """The test pattern's manners, with golden pictures in place of the pattern."""

    def __init__(self, package: str, fps: float) -> None:
        super().__init__(SourceOptions(fps=fps))
        with Package.open(package) as opened:
            golden = opened.manifest.golden
            self._images = [decode_picture(opened.read(each.picture), "") for each in golden]

    def _draw(self, index: int, kinds: set[FaultKind]) -> ByteImage:
        return self._images[index % len(self._images)]


def make_camera(package: str, fps: float) -> GoldenCamera:
    return GoldenCamera(package, fps)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--fps", type=float, default=200.0)
    parser.add_argument("--parts", type=int, default=2000)
    arguments = parser.parse_args()
    package = str(arguments.package.resolve())
    ages, engine, beyond = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()
    counts = {"judged": 0, "not_judged": 0, "within": 0}

    def look(record: DecisionRecord) -> None:
        timings = record.timings_ms
        if record.exposed_at is None or None in [timings.get(stage) for stage in STAGES]:
            counts["not_judged"] += 1
            return
        engine_ms = sum(timings[stage] or 0.0 for stage in STAGES)
        age_ms = (record.decided_at - record.exposed_at).total_seconds() * 1e3
        age_ms += timings["deliver"] or 0.0
        counts["judged"] += 1
        counts["within"] += age_ms <= engine_ms + 1e3 / arguments.fps + ALLOWANCE_MS
        ages.record(round(age_ms * MILLISECOND_NS))
        engine.record(round(engine_ms * MILLISECOND_NS))
        beyond.record(round((age_ms - engine_ms - 1e3 / arguments.fps) * MILLISECOND_NS))

    camera = {"package": package, "fps": arguments.fps}
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        summary = run_guarded_line(
            {"camera": WorkerCommand("line_age:make_camera", camera, CAPTURE_MODULE)},
            package_command(package, threads=1),
            journal,
            LineOptions(
                rules=TriggerRules(deadline_ns=1000 * MILLISECOND_NS), max_parts=arguments.parts
            ),
            on_record=look,
        )
    document = {
        "device": describe_device().to_dict(),
        "fps": arguments.fps,
        "dropped": summary.dropped,
        **counts,
        "ms": {
            name: {
                str(percent): round(histogram.percentile_ns(percent) / 1e6, 3)
                for percent in (50, 99, 99.9, 100)
            }
            for name, histogram in (
                ("age", ages),
                ("engine", engine),
                ("beyond_engine_and_period", beyond),
            )
        },
    }
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
