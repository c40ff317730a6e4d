"""Is what a judge answered a decision at all? Asked before anything acts on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.defects import Defect
from ssn_edge_runtime.record import TIMING_STAGES


def is_sound(decision: object) -> TypeGuard[Decision]:
    """Whether a judge's answer is a decision that holds together and can be written down."""
    if (
        not isinstance(decision, Decision)
        or not isinstance(decision.verdict, Verdict)
        or not isinstance(decision.reason, Reason)
        or (decision.verdict is Verdict.PASS) != (decision.reason is Reason.NONE)
        or not isinstance(decision.defects, tuple)
        or not all(isinstance(defect, Defect) for defect in decision.defects)
        or not isinstance(decision.timings_ms, Mapping)
        or not isinstance(decision.settings_id, (str, type(None)))
        or not isinstance(decision.recipe, (str, type(None)))
        or not isinstance(decision.zone, (str, type(None)))
    ):
        return False
    numbers = [decision.score, decision.raw_score, decision.threshold, decision.brightness]
    numbers += (decision.timings_ms.get(stage) for stage in TIMING_STAGES)
    for defect in decision.defects:
        numbers += (defect.area_px, defect.peak, defect.mean, defect.min_area_px, *defect.box_xyxy)
    if not all(number is None or _is_number(number) for number in numbers):
        return False
    raw_score, threshold = decision.raw_score, decision.threshold
    contradicts = raw_score is not None and threshold is not None and raw_score >= threshold
    contradicts |= any(
        defect.min_area_px is not None and defect.area_px >= defect.min_area_px
        for defect in decision.defects
    )
    return not (decision.verdict is Verdict.PASS and contradicts)


def _is_number(value: object) -> bool:
    """Whether it is a number that JSON holds; NumPy's own are none, but for float64."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
