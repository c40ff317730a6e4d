"""Half an hour at the highest rate that the machine gives: nothing grows, nothing slows down.

    pytest -m soak tests/runtime/line/faults/test_soak.py [-s]

The machine should do nothing else. `SSN_EDGE_SOAK_S` takes another length, for a rehearsal.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ssn_edge_runtime.latency import LatencyHistogram
from ssn_edge_runtime.sinks import audit_log

SOAK_S = float(os.environ.get("SSN_EDGE_SOAK_S", "1800"))
WARM_UP_SHARE = 0.05
"""Of the run, at its begin: caches, pools and the first segment's pages fill."""
GROWTH_KB = 2048
"""What resident memory may differ by, last third to first: allocators breathe."""
SLOWER = 1.10
LONG_ENOUGH_S = 600
"""A 99th percentile of less time is a matter of luck."""
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    at_ns: int
    name: str
    pid: int
    resident_kb: int
    handles: int
    threads: int


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _sample(pid: int, name: str) -> Iterator[Sample]:
    """The process and all below it; one that ends while it is looked at is left out."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        yield Sample(
            at_ns=time.monotonic_ns(),
            name=name,
            pid=pid,
            resident_kb=int(fields["VmRSS"].split()[0]),
            handles=len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names alone are wanted
            threads=int(fields["Threads"]),
        )
        children = _children(pid)
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return
    for child in children:
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        module = next((each for each in command if each.startswith(b"ssn_edge_runtime.")), b"other")
        yield from _sample(child, module.decode().rpartition(".")[2])


def _run(package: Path, output: Path, seconds: float) -> tuple[list[Sample], dict[str, object]]:
    """The line as a user runs it, with everything that follows it."""
    line = subprocess.Popen(
        [
            *(sys.executable, "-c", "from ssn_edge.cli import main; main()", "run", "--json"),
            *("--device", "test:?width=640&height=480&fps=2000&defect_every=100"),
            *("--package", str(package), "--output", str(output), "--keep", "rejects"),
            *("--sqlite", str(output / "log.sqlite"), "--csv", str(output / "log.csv")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    samples: list[Sample] = []
    try:
        assert line.stderr is not None
        assert any("judging with" in said for said in line.stderr), line.wait()
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            assert line.poll() is None, line.stderr.read()
            samples += _sample(line.pid, "authority")
            time.sleep(min(5.0, seconds / 20))
        line.send_signal(signal.SIGTERM)
        out, complaints = line.communicate(timeout=120)
    finally:
        line.kill()
        line.wait()
    assert line.returncode == 0, complaints
    return samples, json.loads(out)


def _verdicts(folder: Path) -> Iterator[dict[str, object]]:
    for file in [*sorted(folder.glob("decisions-*.jsonl")), folder / "decisions.jsonl"]:
        with file.open() as lines:
            for line in lines:
                document = json.loads(line)
                if document["kind"] == "verdict":
                    yield document


@pytest.mark.parametrize(
    "seconds", [pytest.param(6.0, id="short"), pytest.param(SOAK_S, marks=pytest.mark.soak)]
)
def test_at_the_highest_rate_neither_memory_nor_handles_nor_latency_grow(
    tmp_path: Path, nothing_is_left: None, package_path: Path, seconds: float
) -> None:
    samples, summary = _run(package_path, tmp_path, seconds)
    begin_ns, end_ns = samples[0].at_ns, samples[-1].at_ns
    begin_ns += round(WARM_UP_SHARE * (end_ns - begin_ns))
    third_ns = (end_ns - begin_ns) // 3

    def of_third(samples: list[Sample], third: int) -> list[Sample]:
        low_ns = begin_ns + third * third_ns
        return [each for each in samples if low_ns <= each.at_ns <= low_ns + third_ns]

    report: list[str] = [json.dumps(summary)[:2000]]
    processes = {(each.name, each.pid) for each in samples}
    names = {name for name, _ in processes}
    assert len(processes) == len(names), f"a process was started again: {processes}"
    assert names >= {"authority", "engine_worker", "capture_worker", "follow"}
    growth: dict[str, float] = {}
    for name in sorted(names):
        own = [each for each in samples if each.name == name]
        first, last = of_third(own, 0), of_third(own, 2)
        before, after = (
            statistics.median(each.resident_kb for each in third) for third in (first, last)
        )
        growth[name] = after - before
        # The fewest of each third: a file that is opened for a moment is none that stays open.
        handles = [min(each.handles for each in third) for third in (first, last)]
        threads = [min(each.threads for each in third) for third in (first, last)]
        report.append(f"{name}: {before} to {after} kB, handles {handles}, threads {threads}")
        assert handles[1] <= handles[0], report
        # Within seconds one that was started late is no leak; each part would leave one.
        assert threads[1] <= threads[0] + (seconds < LONG_ENOUGH_S), report

    latencies = [LatencyHistogram() for _ in range(3)]
    sequence = 0
    for record in _verdicts(tmp_path):
        sequence += 1
        assert record["sequence"] == sequence
        timings, at_ns = record["timings_ms"], record["monotonic_ns"]
        assert isinstance(timings, dict)
        assert isinstance(at_ns, int)
        third = (at_ns - begin_ns) // third_ns
        if 0 <= third < 3 and timings["total"] is not None:
            latencies[third].record(round(timings["total"] * 1e6))
    p99_ms = [each.percentile_ns(99) / 1e6 for each in latencies]
    p50_ms = [each.percentile_ns(50) / 1e6 for each in latencies]
    report.append(f"{sequence} parts, p50 {p50_ms}, p99 {p99_ms} ms, by thirds")
    sys.stdout.write("\n".join(report) + "\n")
    assert audit_log(tmp_path).problems == ()
    if seconds >= LONG_ENOUGH_S:
        assert max(growth.values()) <= GROWTH_KB, report
        assert p99_ms[2] <= p99_ms[0] * SLOWER, report
