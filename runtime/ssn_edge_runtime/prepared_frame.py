"""Everything before the engine: a frame checked, brought to the network's size, and looked at."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, unknown
from ssn_edge_runtime.frame_checks import check_input, measure_input
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.preprocess import FrameError, check_frame, preprocess

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFrame:
    """A frame on its way to the engine.

    Args:
        decision: What it is already; None where the engine is to look at it.
        timings_ms: Of the preparation.
        pixels: The network input, (h, w, 3) uint8; None where there is a decision.
        frame_size_hw: Height and width of the frame in camera pixels.
        brightness: Mean level of the network input.
    """

    decision: Decision | None
    timings_ms: Mapping[str, float]
    pixels: ByteImage | None = None
    frame_size_hw: tuple[int, int] | None = None
    brightness: float | None = None


def prepare_frame(frame: ByteImage | None, manifest: Manifest) -> PreparedFrame:
    """Check, resize and measure a frame as a package wants it; see `Inspector.prepare`.

    Raises:
        TypeError: The frame is not an array.
    """
    if frame is not None and not isinstance(frame, np.ndarray):
        raise TypeError(f"a frame must be a NumPy array, this one is a {type(frame).__name__}")
    timings = Stopwatch()
    if frame is None:
        return PreparedFrame(unknown(Reason.NO_FRAME, "there is no frame"), timings.stop())
    failure = Reason.BAD_FRAME  # what it is if something is wrong now
    try:
        check_frame(frame)
        failure = Reason.FRAME_SIZE
        frame_size_hw = (frame.shape[0], frame.shape[1])
        _check_frame_size(frame_size_hw, manifest)
        failure = Reason.BAD_FRAME
        pixels = preprocess(frame, manifest.geometry)
        measurement = measure_input(pixels)
        fault = check_input(measurement, manifest.input_statistics)
    except FrameError as error:
        return PreparedFrame(unknown(failure, str(error)), timings.stop())
    except Exception as error:  # noqa: BLE001 - whatever a frame does, its part needs an answer
        return PreparedFrame(unforeseen(failure, error), timings.stop())
    timings.lap("preprocess")
    if fault is not None:
        decision = replace(unknown(*fault), brightness=measurement.brightness)
        return PreparedFrame(decision, timings.stop())
    return PreparedFrame(
        None, timings.stop(), pixels, frame_size_hw, brightness=measurement.brightness
    )


def _check_frame_size(frame_size_hw: tuple[int, int], manifest: Manifest) -> None:
    """Refuse a frame that is not the camera's whose parts were learnt."""
    trained = manifest.frame_size_hw
    if trained is not None and frame_size_hw != trained:
        (height, width), (trained_height, trained_width) = frame_size_hw, trained
        raise FrameError(
            f"the frame has {width} x {height} pixels, the training pictures had "
            f"{trained_width} x {trained_height}; set the camera back, or train on its pictures"
        )
    manifest.geometry.region_xywh(frame_size_hw)


def unforeseen(reason: Reason, error: Exception) -> Decision:
    """The decision for what nobody thought of."""
    logger.debug("frame judged unknown", exc_info=error)
    first_line = (str(error).splitlines() or [""])[0]
    return unknown(reason, f"{type(error).__name__}: {first_line}")


class Stopwatch:
    """Milliseconds by stage of one call.

    Args:
        before: What was measured before, in another call.
    """

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._timings_ms = dict(before or {})
        self._total_before_ms = self._timings_ms.pop("total", 0.0)
        self._start = self._lap = time.perf_counter_ns()

    def skip(self) -> None:
        """Begin the next stage now, and count the time since the last one to none."""
        self._lap = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        """End a stage, and begin the next."""
        now = time.perf_counter_ns()
        self._timings_ms[stage] = (now - self._lap) / 1e6
        self._lap = now

    def stop(self) -> dict[str, float]:
        """All stages, and their total."""
        own_ms = (time.perf_counter_ns() - self._start) / 1e6
        self._timings_ms["total"] = self._total_before_ms + own_ms
        return self._timings_ms
