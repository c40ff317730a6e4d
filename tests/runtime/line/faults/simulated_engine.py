"""An engine worker whose judge reads in the pixels which part it sees, and fails as planned."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType

import numpy as np
from fault_plan import SCORES, Fault, Plan

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    Reason,
    ScoringRule,
    Thresholds,
    decide,
    unknown,
)
from ssn_edge_runtime.errors import EngineError, ScoreError
from ssn_edge_runtime.line import engine_worker
from ssn_edge_runtime.line.worker_side import WorkerLink
from ssn_edge_runtime.preprocess import Geometry

SIZE = (32, 32)
THRESHOLDS = Thresholds(image=0.0, pixel=0.0)


class SimulatedJudge(AbstractContextManager["SimulatedJudge"]):
    package_id = "ab" * 32
    precision = "fp32"
    engine_name = "simulated"
    engine_sha256 = "cd" * 32
    thresholds = THRESHOLDS
    wrong_job = False
    nonsense = False

    def __init__(self, plan: Plan, work_ms: float, hold_s: int) -> None:
        self._plan = plan
        self._work_s = work_ms / 1000
        self._hold_s = hold_s

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def inspect(self, frame: ByteImage) -> Decision:
        if frame.ndim == 3:
            return unknown(Reason.BAD_FRAME, "the warm-up")
        part = int(np.frombuffer(frame[0, :4].tobytes(), dtype=np.uint32)[0])
        time.sleep(self._work_s)
        fault = self._plan.fault(part)
        # First of all: a part that raises must not leave the last one's in force.
        SimulatedJudge.wrong_job = fault is Fault.WRONG_JOB
        SimulatedJudge.nonsense = fault is Fault.NONSENSE
        if fault is Fault.RAISES:
            raise EngineError("as planned")
        if fault is Fault.SLOW:
            time.sleep(0.15)
        if fault is Fault.HOLDS_INTERPRETER:
            ctypes.PyDLL(None).sleep(self._hold_s)
        if fault is Fault.CRASHES:
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault is Fault.STOPS_ITSELF:
            os.kill(os.getpid(), signal.SIGSTOP)
        logit = float(part % SCORES + 1) * (1 if frame[0, 4] else -1)
        size = (4, 4) if fault is Fault.WRONG_SHAPE else SIZE
        anomaly_map = np.full(size, logit, dtype=np.float32)
        try:
            decision = decide(
                Judgement(
                    classification_logit=float("nan") if fault is Fault.NAN else logit,
                    map_max_logit=logit,
                    anomaly_map=anomaly_map,
                    defect_mask=(anomaly_map >= 0).astype(np.uint8),
                ),
                thresholds=THRESHOLDS,
                rule=ScoringRule.CLASSIFICATION,
                geometry=Geometry(SIZE),
                frame_size_hw=(frame.shape[0], frame.shape[1]),
            )
        except ScoreError as error:
            return unknown(Reason.INVALID_OUTPUT, str(error))
        if fault is Fault.OTHER_THRESHOLD:
            return replace(decision, threshold=1e6)
        return decision


def make(work_ms: float, hold_s: int, plan: dict[str, object]) -> SimulatedJudge:
    return SimulatedJudge(Plan(**plan), work_ms, hold_s)  # type: ignore[arg-type]


class RogueLink(WorkerLink):
    """Says what no engine worker says."""

    def send(self, kind: str, **fields: object) -> None:
        if kind == "result" and SimulatedJudge.wrong_job:
            fields["job"] = 10**6
        if kind == "result" and SimulatedJudge.nonsense:
            fields["decision"] = {"verdict": "pass", "score": "very good"}
        super().send(kind, **fields)


def run_rogue() -> None:
    engine_worker.WorkerLink = RogueLink  # type: ignore[misc]
    engine_worker.main()


if __name__ == "__main__":
    # The factory imports this file by its name: the flags are those of that copy.
    from simulated_engine import run_rogue as run

    run()
