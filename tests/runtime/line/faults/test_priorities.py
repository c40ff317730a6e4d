"""Real-time priority: the authority first, then the cameras, the engine's pulse, and the engine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import simulated_line

from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import LineOptions
from ssn_edge_runtime.sinks import Journal


def _may_have_realtime() -> bool:
    code = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return asked.returncode == 0


needs_realtime = pytest.mark.skipif(
    not _may_have_realtime(), reason="real-time priority is not granted here"
)


def _priorities(pid: int) -> list[int]:
    """Of each thread of a process; 0 for none."""
    return sorted(
        os.sched_getparam(int(task.name)).sched_priority
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


@needs_realtime
def test_the_engine_s_pulse_stands_above_it_and_both_below_the_cameras_and_the_authority(
    tmp_path: Path, nothing_is_left: None
) -> None:
    found: dict[str, list[int]] = {}
    with Journal(tmp_path) as journal:
        planned = simulated_line.plan(1, often=0.0, spacing=0)
        authority = Authority(
            {"belt": simulated_line.camera_command(planned)},
            simulated_line.engine_command(planned),
            journal,
            simulated_line.options(realtime=10),
        )

        def look() -> None:
            try:
                until_s = time.monotonic() + 30
                while not authority.status().state.may_pass:
                    assert time.monotonic() < until_s
                    time.sleep(0.02)
                time.sleep(0.3)  # the pulse's thread asks for itself
                for worker in authority.status().workers:
                    assert worker.pid is not None
                    found[worker.name] = _priorities(worker.pid)
            finally:
                authority.stop()

        thread = threading.Thread(target=look, name="look")
        thread.start()
        authority.run()
        thread.join()
    assert found["engine"][-2:] == [8, 9]  # itself, and its pulse
    assert found["camera belt"][-1] == 9


@needs_realtime
def test_a_worker_does_not_start_with_the_priority_of_the_authority() -> None:
    code = """
import os
from ssn_edge_runtime.line.worker_process import WorkerCommand, WorkerLimits, WorkerProcess
from ssn_edge_runtime.supervision import ask_realtime
assert ask_realtime(10).is_granted
command = WorkerCommand("nothing:make", {}, "ssn_edge_runtime.line.engine_worker")
worker = WorkerProcess("engine", command, WorkerLimits())
worker.start({}, [], 0)
print(os.sched_getscheduler(0) == os.SCHED_FIFO, os.sched_getscheduler(worker.pid))
worker.kill("seen")
while not worker.reap():
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout.split() == ["True", str(os.SCHED_OTHER)], done.stderr


@pytest.mark.parametrize(
    ("realtime", "capture", "engine"),
    [(None, None, None), (1, None, None), (2, 1, None), (50, 49, 48)],
)
def test_nobody_asks_for_a_priority_below_the_lowest(
    realtime: int | None, capture: int | None, engine: int | None
) -> None:
    options = LineOptions(realtime=realtime)
    assert options.asks(below=1)["realtime"] == capture
    assert options.asks(below=2)["realtime"] == engine
