"""The first moments of a package in a process of its own: load time, first inference, memory.

Run as a module it prints one JSON object and ends; `cold_start` runs it so. In a process that has
other engines open, none of these numbers would be the package's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 600.0
_SELF = "ssn_edge.benchmark.cold_start"


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What a process pays before the first verdict.

    Args:
        import_s: For Python, OpenCV and our own modules, once started; the engine's library counts
            in `load_s`.
        load_s: To check the package and load the engine.
        first_inference_ms: Allocates, and on some engines compiles.
        next_inference_ms: The one after it.
        memory_bytes: Resident, after both.
        peak_memory_bytes: The most that was resident until then.
        gpu_memory_bytes: Of this process on the GPU; None where nobody tells.
    """

    import_s: float
    load_s: float
    first_inference_ms: float
    next_inference_ms: float
    memory_bytes: int | None
    peak_memory_bytes: int | None
    gpu_memory_bytes: int | None

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def cold_start(
    package: Path, *, engine: str, precision: str, threads: int
) -> tuple[ColdStart | None, str]:
    """Load a package in a new process.

    Returns:
        What it took and an empty text; or None and what went wrong, in one line.
    """
    command = [sys.executable, "-m", _SELF, str(package), engine, precision, str(threads)]
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"a cold start took more than {TIMEOUT_S:g} s"
    except OSError as error:
        return None, f"no process for a cold start ({error.strerror})"
    if ended.returncode != 0:
        said = ended.stderr.decode("utf-8", errors="replace").strip().splitlines()
        return None, f"a cold start failed: {said[-1] if said else f'exit {ended.returncode}'}"
    try:
        return ColdStart(**json.loads(ended.stdout.splitlines()[-1])), ""
    except (ValueError, TypeError, IndexError):
        return None, "a cold start printed something else than its numbers"


def _measure(package_path: Path, engine: str, precision: str, threads: int) -> ColdStart:
    started = time.perf_counter()
    import numpy as np

    from ssn_edge_runtime.engines import open_engine
    from ssn_edge_runtime.inspector import Inspector  # noqa: F401 - what a line would import
    from ssn_edge_runtime.package import Package

    imported = time.perf_counter()
    with Package.open(package_path) as package:
        loading = open_engine(
            package, engine=engine, precision=precision, threads=threads, certified=False
        )
        size_hw = package.manifest.geometry.input_size_hw
        threshold = package.manifest.precisions[precision].thresholds.pixel
    with loading as opened:
        loaded = time.perf_counter()
        pixels = np.full((*size_hw, 3), 128, dtype=np.uint8)
        moments = [loaded]
        for _ in range(2):
            opened.infer(pixels, pixel_threshold=threshold)
            moments.append(time.perf_counter())
        memory = _own_memory()
        return ColdStart(
            import_s=imported - started,
            load_s=loaded - imported,
            first_inference_ms=1e3 * (moments[1] - moments[0]),
            next_inference_ms=1e3 * (moments[2] - moments[1]),
            memory_bytes=memory.get("VmRSS"),
            peak_memory_bytes=memory.get("VmHWM"),
            gpu_memory_bytes=_own_gpu_memory(),
        )


def _own_memory() -> dict[str, int]:
    from ssn_edge_runtime.device_parsing import parse_meminfo

    try:
        return parse_meminfo(Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        return {}


def _own_gpu_memory() -> int | None:
    """By the process's number; a container numbers its processes otherwise than the driver."""
    from ssn_edge_runtime.device_info import run_command

    fields = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
    for line in (run_command(("nvidia-smi", *fields)) or "").splitlines():
        number, _, megabytes = (each.strip() for each in line.partition(","))
        if number == str(os.getpid()) and megabytes.isdecimal():
            return int(megabytes) * 2**20
    return None


def _main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {_SELF}")
    parser.add_argument("package", type=Path)
    parser.add_argument("engine")
    parser.add_argument("precision")
    parser.add_argument("threads", type=int)
    given = parser.parse_args()
    found = _measure(given.package, given.engine, given.precision, given.threads)
    sys.stdout.write(json.dumps(found.to_dict()) + "\n")


if __name__ == "__main__":
    _main()
