"""What a swap of the package costs a line that runs: memory of all processes, age of verdicts.

    python tests/benchmarks/package_swap.py --package part.ssn [--swaps 5] [--fps 20]

The guarded line runs as `ssn-edge run` does, with policy `latest`; its camera shows the package's
golden pictures at a rate, all at one size, and tells when it exposed. The other package is the same
model under another id, so that both engines take the same memory. Between two swaps the line rests
for `--rest` seconds. Phases, by the authority's clock:

- `before`: one engine
- `opening`: from the asking until the new engine judges; it is loaded and tested beside the old one
- `probation`: both engines are open; it ends once the old one's process is gone
- `after`: one engine again

Memory is that of the authority and of all processes below it, looked at by a process of its own
that does not count: the sum of the resident sets 50 times a second (what several processes share
counts for each), and of the proportional ones twice a second (it counts once).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from line_age import GoldenCamera

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.latency import LatencyHistogram
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import CAPTURE_MODULE, LineOptions, package_command
from ssn_edge_runtime.line.rules import MILLISECOND_NS, TriggerRules
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sources.options import FaultKind

PHASES = ("before", "opening", "probation", "after")
RSS_EVERY_S = 0.02
PSS_EVERY = 25
"""Reading it holds up a process that asks for memory, for about a millisecond."""
WARM_UP_S = 3.0
LONGEST_S = 120.0
PAGE = os.sysconf("SC_PAGE_SIZE")
FRAME_WH = (640, 480)


class OneSizeCamera(GoldenCamera):
    """Golden pictures, as one camera would give them where the data set has many sizes."""

    def _draw(self, index: int, kinds: set[FaultKind]) -> ByteImage:
        return np.asarray(cv2.resize(super()._draw(index, kinds), FRAME_WH), dtype=np.uint8)


def make_camera(package: str, fps: float) -> OneSizeCamera:
    return OneSizeCamera(package, fps)


def processes(root: int, besides: int) -> list[int]:
    """A process and all below it."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid == besides:
            continue
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                waiting += map(int, children.read_text().split())
    return found


def rss_bytes(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return 0


def pss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def sample(root: int) -> None:
    """Print the clock, resident and, now and then, proportional bytes until nobody reads."""
    count = 0
    with suppress(BrokenPipeError, KeyboardInterrupt):
        while True:
            pids = processes(root, os.getpid())
            rss = sum(map(rss_bytes, pids))
            pss = sum(map(pss_bytes, pids)) if count % PSS_EVERY == 0 else 0
            print(time.monotonic_ns(), rss, pss, flush=True)
            count += 1
            time.sleep(RSS_EVERY_S)


@dataclass(slots=True)
class Seen:
    """What was measured in one phase."""

    ages: LatencyHistogram = field(default_factory=LatencyHistogram)
    rss: int = 0
    pss: int = 0
    seconds: list[float] = field(default_factory=list)
    not_judged: int = 0

    def to_dict(self) -> dict[str, object]:
        return {
            "parts": self.ages.count,
            "not_judged": self.not_judged,
            "seconds": [round(each, 2) for each in self.seconds],
            "age_ms": {
                str(percent): round(self.ages.percentile_ns(percent) / 1e6, 2)
                for percent in (50, 99, 100)
            },
            "peak_rss_mb": round(self.rss / 1e6, 1),
            "peak_pss_mb": round(self.pss / 1e6, 1),
        }


class Clock:
    """Which phase it was when: changes in order, by the monotonic clock."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, str | None]] = [(0, None)]

    def begin(self, phase: str | None) -> None:
        self._changes.append((time.monotonic_ns(), phase))

    def phase(self, at_ns: int) -> str | None:
        return next(name for begun, name in reversed(self._changes) if begun <= at_ns)

    def seconds(self, phase: str) -> list[float]:
        pairs = zip(self._changes, self._changes[1:], strict=False)
        return [(end - begun) / 1e9 for (begun, name), (end, _) in pairs if name == phase]


def twin(package: Path, folder: Path) -> Path:
    """The same model, thresholds and golden pictures under another id."""
    path = folder / "twin.ssn"
    with Package.open(package) as opened:
        entries = {name: opened.read(name) for name in opened.manifest.entries}
        manifest = replace(opened.manifest, created_at="2000-01-01T00:00:00Z", entries={})
    write_package(path, manifest, entries)
    return path


def wait_for(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > until_s:
            raise SystemExit(f"nothing came of it in {LONGEST_S:.0f} s; does the line judge?")
        time.sleep(0.02)


def swap(authority: Authority, package: Path, clock: Clock, rest_s: float) -> None:
    """One swap, from rest to rest."""
    clock.begin("before")
    time.sleep(rest_s)
    clock.begin("opening")
    done: Future[tuple[str | None, str | None]] = Future()
    authority.use_package(
        str(package), asked_by="benchmark", on_done=lambda *told: done.set_result(told)
    )
    package_id, refusal = done.result(600)
    if package_id is None:
        raise SystemExit(f"the line refused it: {refusal}")
    clock.begin("probation")
    wait_for(lambda: authority.package()[1])
    wait_for(lambda: sum("engine" in each.name for each in authority.status().workers) == 1)
    clock.begin("after")
    time.sleep(rest_s)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--package", type=Path)
    parser.add_argument("--engine", default="onnxruntime-cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--fps", type=float, default=20.0)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--rest", type=float, default=10.0)
    parser.add_argument("--sample", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sample is not None:
        sample(arguments.sample)
        return
    package = arguments.package.resolve()
    seen, clock = {name: Seen() for name in PHASES}, Clock()

    def look(record: DecisionRecord) -> None:
        phase = clock.phase(time.monotonic_ns())
        if phase is None:
            return
        if record.exposed_at is None or record.raw_score is None:
            seen[phase].not_judged += 1
            return
        age_ms = (record.decided_at - record.exposed_at).total_seconds() * 1e3
        age_ms += record.timings_ms.get("deliver") or 0.0
        seen[phase].ages.record(round(age_ms * MILLISECOND_NS))

    camera = {"package": str(package), "fps": arguments.fps}
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "log") as journal:
        others = (twin(package, Path(folder)), package)
        authority = Authority(
            {"camera": WorkerCommand("package_swap:make_camera", camera, CAPTURE_MODULE)},
            package_command(
                str(package),
                engine=arguments.engine,
                precision=arguments.precision,
                threads=1,
            ),
            journal,
            LineOptions(rules=TriggerRules(deadline_ns=1000 * MILLISECOND_NS)),
            on_record=look,
        )

        def work() -> None:
            try:
                wait_for(lambda: authority.status().last is not None)
                time.sleep(WARM_UP_S)
                for number in range(arguments.swaps):
                    swap(authority, others[number % 2], clock, arguments.rest)
                clock.begin(None)
            finally:
                authority.stop()

        sampler = subprocess.Popen(
            [sys.executable, __file__, "--sample", str(os.getpid())],
            stdout=subprocess.PIPE,
            text=True,
        )
        samples: list[str] = []
        assert sampler.stdout is not None
        reader = threading.Thread(target=lambda: samples.extend(sampler.stdout or ()), daemon=True)
        reader.start()
        worker = threading.Thread(target=work)
        worker.start()
        try:
            authority.run()
        finally:
            worker.join()
            sampler.terminate()
            sampler.wait()
            reader.join()
    for line in samples:
        words = line.split()
        phase = clock.phase(int(words[0])) if len(words) == 3 else None
        if phase is not None:
            seen[phase].rss = max(seen[phase].rss, int(words[1]))
            seen[phase].pss = max(seen[phase].pss, int(words[2]))
    for name in PHASES:
        seen[name].seconds = clock.seconds(name)
    document = {
        "device": describe_device().to_dict(),
        "engine": arguments.engine,
        "precision": arguments.precision,
        "fps": arguments.fps,
        "swaps": arguments.swaps,
        "phases": {name: each.to_dict() for name, each in seen.items()},
    }
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
