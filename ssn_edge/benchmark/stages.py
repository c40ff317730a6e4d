"""One frame from picture to verdict, by the functions that the line calls, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, ScoringRule, Thresholds, decide
from ssn_edge_runtime.engines.base import Engine, StageTimings
from ssn_edge_runtime.frame_checks import check_input, measure_input
from ssn_edge_runtime.manifest import InputStatistics, Manifest
from ssn_edge_runtime.preprocess import Geometry, check_frame, preprocess

READ = "read"
RESIZE = "resize"
CHECK = "check"
COPY_IN = "copy_in"
INFER = "infer"
COPY_OUT = "copy_out"
THRESHOLD = "threshold"
DEFECTS = "defects"
STAGES = (READ, RESIZE, CHECK, COPY_IN, INFER, COPY_OUT, THRESHOLD, DEFECTS)
"""In order. `read` decodes a picture and is no part of what follows; `check` asks whether it is a
picture of a part at all; an engine on a CPU has no `copy_in` and `copy_out`."""

HOST = "host"
"""All from frame to verdict but the engine."""
VERDICT = "verdict"
"""From frame to verdict: all but `read`."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What of a package takes part in a verdict, beside its model.

    Args:
        geometry: How a frame becomes the network input.
        statistics: What normal training pictures showed.
        thresholds: The cut-offs of the precision.
        rule: Makes the score.
    """

    geometry: Geometry
    statistics: InputStatistics
    thresholds: Thresholds
    rule: ScoringRule

    @classmethod
    def of(cls, manifest: Manifest, precision: str) -> Judging:
        """What a manifest says for one of its precisions."""
        return cls(
            geometry=manifest.geometry,
            statistics=manifest.input_statistics,
            thresholds=manifest.precisions[precision].thresholds,
            rule=manifest.scoring_rule,
        )


@dataclass(frozen=True, slots=True)
class TimedDecision:
    """One frame's verdict and where its time went.

    Args:
        decision: As the inspector would give it, had the frame checks not spoken.
        fault: What the frame checks say; the inspector answers `unknown` then. The engine runs all
            the same: a frame that is refused early would make it look fast.
        stages_ms: Milliseconds by stage; a stage that nobody timed is not there.
    """

    decision: Decision
    fault: tuple[Reason, str] | None
    stages_ms: Mapping[str, float]


class _Laps:
    """Milliseconds by stage, and the time since the first began."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._start = self._last = clock_ns()
        self.stages_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = self._clock_ns()
        self.stages_ms[stage] = (now - self._last) / 1e6
        self._last = now

    def since_start_ms(self) -> float:
        return (self._last - self._start) / 1e6


def timed_decision(
    frame: ByteImage,
    engine: Engine,
    judging: Judging,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> TimedDecision:
    """Judge one frame and tell where the time went.

    Args:
        frame: (H, W, 3) uint8 BGR, or (H, W) uint8.
        engine: Of batch size 1. If it tells its own `StageTimings`, those are taken.
        judging: Of the engine's package and precision.
        clock_ns: What tells the time.

    Raises:
        FrameError: No picture, or smaller than the region of interest.
        EngineError: The engine failed.
        ScoreError: It gave what is no judgement.
    """
    laps = _Laps(clock_ns)
    check_frame(frame)
    pixels = preprocess(frame, judging.geometry)
    laps.lap(RESIZE)
    fault = check_input(measure_input(pixels), judging.statistics)
    laps.lap(CHECK)
    judgement = engine.infer(pixels, pixel_threshold=judging.thresholds.pixel)
    laps.lap(INFER)
    decision = decide(
        judgement,
        thresholds=judging.thresholds,
        rule=judging.rule,
        geometry=judging.geometry,
        frame_size_hw=(frame.shape[0], frame.shape[1]),
        on_stage=laps.lap,
    )
    laps.lap("verdict made")
    verdict_ms = laps.since_start_ms()
    # What follows the last stage is a part of none, yet of the whole.
    del laps.stages_ms["verdict made"]
    stages_ms = {
        **laps.stages_ms,
        HOST: verdict_ms - laps.stages_ms[INFER],
        VERDICT: verdict_ms,
    }
    if isinstance(engine, StageTimings):
        stages_ms |= engine.last_stage_ms
    return TimedDecision(decision, fault, stages_ms)
