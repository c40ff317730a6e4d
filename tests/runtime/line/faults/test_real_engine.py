from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import simulated_line

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.engines.openvino import missing
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.options import (
    CAPTURE_MODULE,
    FreePolicy,
    TriggerKind,
    package_command,
)
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.line.status import LineStatus
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.line.workers import WAITING
from ssn_edge_runtime.sinks import Journal, audit_log


@pytest.mark.parametrize(
    "parts",
    [pytest.param(300, id="short"), pytest.param(20_000, id="long", marks=pytest.mark.soak)],
)
def test_a_real_engine_that_is_stopped_and_killed_still_gives_only_its_own_verdicts(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    part: Callable[..., ByteImage],
    parts: int,
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    images = [part(seed, defect=seed % 3 == 0) for seed in range(9)]
    with Inspector.open(package_path, threads=1) as inspector:
        truth = [inspector.inspect(image) for image in images]
    assert {decision.verdict for decision in truth} == {"pass", "fail"}
    for number, image in enumerate(images):
        np.save(frames / f"{number}.npy", image)
    camera = WorkerCommand(
        "looping_camera:make", {"folder": str(frames), "period_ms": 10}, CAPTURE_MODULE
    )
    options = simulated_line.options(
        trigger=TriggerKind.FREE, policy=FreePolicy.EVERY, max_parts=parts
    )
    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"loop": camera}, package_command(str(package_path), threads=1), journal, options
        )
        over = threading.Event()

        def harm() -> None:
            random = Random(2)
            while not over.wait(random.uniform(0.6, 1.2)):
                for worker in authority.status().workers:
                    if worker.name == "engine" and worker.state == "running" and worker.pid:
                        os.kill(worker.pid, random.choice([signal.SIGSTOP, signal.SIGKILL]))

        thread = threading.Thread(target=harm, name="harm")
        thread.start()
        try:
            authority.run()
        finally:
            over.set()
            thread.join()
    lines = simulated_line.read_lines(tmp_path / "out")
    verdicts = [line for line in lines if line["kind"] == "verdict"]
    assert [line["sequence"] for line in verdicts] == list(range(1, parts + 1))
    judged = [line for line in verdicts if line["verdict"] != "unknown"]
    assert len(judged) > parts // 10
    for line in judged:
        expected = truth[int(str(line["part_id"]))]
        assert line["verdict"] == expected.verdict.value
        assert line["raw_score"] == expected.raw_score
    assert any(line["reason"] in ("deadline", "engine_error") for line in verdicts)
    assert audit_log(tmp_path / "out").problems == ()


def test_without_a_certified_engine_the_line_stays_preoperational(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    gate = simulated_line.Gate()
    with Journal(tmp_path) as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(simulated_line.plan(1))},
            package_command(str(package_path), engine="openvino"),
            journal,
            simulated_line.options(),
            outlets=[gate],
        )
        with pytest.raises(EngineError, match="the line was Preoperational"):
            authority.run()
    assert LineState.CONTINUOUS_EXECUTION not in gate.states
    assert gate.accepted == []


needs_openvino = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@needs_openvino
def test_a_line_that_waits_for_its_engine_comes_up_once_it_is_certified(
    tmp_path: Path, nothing_is_left: None, package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSN_EDGE_CACHE", str(tmp_path / "cache"))
    causes: list[str] = []
    refused: list[Answer] = []

    def look(status: LineStatus) -> None:
        if not causes or causes[-1] != status.cause:
            causes.append(status.cause)
            if status.cause.startswith(WAITING):
                assert status.state is LineState.PREOPERATIONAL
                authority.trigger(1, on_answer=refused.append)
                waiting.set()
        if status.state.may_pass:
            authority.stop()

    waiting = threading.Event()

    def certify() -> None:
        assert waiting.wait(60)
        subprocess.run(
            [sys.executable, "-m", "ssn_edge", "-q", "verify", str(package_path),
             "--engine", "openvino", "--precision", "fp32"],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip

    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(simulated_line.plan(1))},
            package_command(str(package_path), engine="openvino"),
            journal,
            simulated_line.options(waits_for_engine=True),
            on_status=look,
        )
        helper = threading.Thread(target=certify, name="certify")
        helper.start()
        authority.run()
        helper.join()
    assert any("it has no device certificate" in cause for cause in causes)
    assert [answer.verdict for answer in refused] == [None] * len(refused)
    assert refused
    states = [
        line["detail"]["after"]  # type: ignore[index]
        for line in simulated_line.read_lines(tmp_path / "out")
        if line.get("event") == "state"
    ]
    assert states[:3] == ["Initialized", "Ready", "ContinuousExecution"]


@needs_openvino
def test_a_line_that_waits_for_its_engine_ends_when_it_is_told_to(
    tmp_path: Path, nothing_is_left: None, package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSN_EDGE_CACHE", str(tmp_path / "cache"))
    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(simulated_line.plan(1))},
            package_command(str(package_path), engine="openvino"),
            journal,
            simulated_line.options(waits_for_engine=True),
            on_status=lambda status: authority.stop() if status.cause.startswith(WAITING) else None,
        )
        authority.run()
    assert authority.status().state is LineState.HALTED
