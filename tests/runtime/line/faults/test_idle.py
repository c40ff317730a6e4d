from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import simulated_line

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import ENGINE_MODULE
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.sinks import Journal


@pytest.mark.parametrize("hangs", [False, True])
def test_an_idle_engine_is_kept_warm_and_one_that_hangs_in_it_is_replaced(
    tmp_path: Path, nothing_is_left: None, hangs: bool
) -> None:
    notes = tmp_path / "notes"
    planned = simulated_line.plan(1, often=0.0, spacing=0)
    answers: list[Answer] = []
    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(planned)},
            WorkerCommand("warm_judge:make", {"notes": str(notes), "hangs": hangs}, ENGINE_MODULE),
            journal,
            simulated_line.options(),
        )

        def pause_and_go_on() -> None:
            try:
                until_s = time.monotonic() + 30
                while not (notes.exists() and _restarts(authority) == int(hangs)):
                    assert time.monotonic() < until_s
                    time.sleep(0.05)
                for attempt in range(100):  # one of them comes at the right moment for its frame
                    number = (time.monotonic_ns() - planned.start_ns) // planned.interval_ns + 2
                    time.sleep(max(0, planned.triggered_ns(number) - time.monotonic_ns()) / 1e9)
                    at_ns = planned.triggered_ns(number)
                    answer = authority.ask(attempt + 1, at_ns=at_ns).result(10)
                    if answer.verdict is not None:
                        answers.append(answer)
                    if answer.verdict in (Verdict.PASS, Verdict.FAIL):
                        return
            finally:
                authority.stop()

        thread = threading.Thread(target=pause_and_go_on, name="pause")
        thread.start()
        authority.run()
        thread.join()
    assert answers[-1].verdict in (Verdict.PASS, Verdict.FAIL)
    events = [line for line in simulated_line.read_lines(tmp_path / "out") if "event" in line]
    restarts = [line for line in events if line["event"] == "worker_restart"]
    assert len(restarts) == int(hangs)
    if hangs:
        assert restarts[0]["detail"]["why"] == "hung in one call for 1 s"  # type: ignore[index]


def _restarts(authority: Authority) -> int:
    (engine,) = [each for each in authority.status().workers if each.name == "engine"]
    return engine.restarts if engine.state == "running" else -1
