"""The drift monitor: have scores or brightness of the parts changed since the reference was learnt?

It calls a person and judges nothing. Each judged part counts, whatever its verdict: passes alone
would hide a rise of the scores, since whatever rose far enough no longer passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord, Scalar
from ssn_edge_runtime.supervision.drift_chart import (
    REFERENCE_PARTS,
    Direction,
    Drift,
    DriftChart,
)

ALARM_EVERY_PARTS = 10_000_000
"""At ten parts a second one false alarm in eleven days, at most; a rarer one costs few parts."""
LEAST_ALARM_EVERY_PARTS = 1000


class Quantity(str, Enum):
    """What is watched; each equal to its text."""

    SCORE = "score"
    """`raw_score`."""
    BRIGHTNESS = "brightness"
    """Mean level of the network input, of its channels."""

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """A quantity drifted.

    Args:
        quantity: Which.
        source: Name of the camera.
        drift: Where to, how far, since when.
        every_parts: The stated rate: at most one false alarm in so many parts.
        sequence: The record that raised it.
    """

    quantity: Quantity
    source: str
    drift: Drift
    every_parts: int
    sequence: int

    @property
    def detail(self) -> dict[str, Scalar]:
        """For an event record."""
        deviations = self.drift.deviations
        return {
            "alarm": f"{self.quantity.value}_drift",
            "source": self.source,
            "direction": self.drift.direction.value,
            "deviations": None if deviations is None else round(deviations, 2),
            "since_sequence": self.drift.since,
            "false_alarm_every_parts": self.every_parts,
            "halt": False,
            "sequence": self.sequence,
        }

    def __str__(self) -> str:
        """One line for a person."""
        deviations, since = self.drift.deviations, self.drift.since
        what = "score" if self.quantity is Quantity.SCORE else "brightness"
        if self.drift.direction is Direction.WIDER:
            size = "" if deviations is None else f", {deviations:.1f} times as wide"
            went = f"the parts' {what} varies more{size}"
        else:
            size = "" if deviations is None else f", by {abs(deviations):.1f} deviations"
            went = f"the parts' {what} went {self.drift.direction}{size}"
        return (
            f"{went}, since about part {since} "
            f"(one false alarm in {self.every_parts:,} parts at most)"
        )


class DriftMonitor:
    """Watches scores and brightness of each camera; each raises once, until the line's next start.

    A camera's reference is learnt from its first `reference_parts` judged parts, and again when
    its package, engine, settings or recipe change: other scores are then no drift. Not for use by
    several threads.

    Args:
        every_parts: At most one false alarm in so many parts, of all cameras and quantities
            together.
        reference_parts: To learn from.

    Raises:
        ConfigError: So many false alarms would drown the true ones.
    """

    def __init__(
        self, every_parts: int = ALARM_EVERY_PARTS, *, reference_parts: int = REFERENCE_PARTS
    ) -> None:
        if not every_parts >= LEAST_ALARM_EVERY_PARTS:
            raise ConfigError(
                f"one false drift alarm in {every_parts} parts; {LEAST_ALARM_EVERY_PARTS} or more "
                "are wanted, or 0 for no alarms"
            )
        self._every_parts = every_parts
        self._reference_parts = reference_parts
        self._judges: dict[str, tuple[str | None, ...]] = {}  # by the camera's name
        self._charts: dict[str, dict[Quantity, DriftChart]] = {}

    def add(self, record: DecisionRecord) -> tuple[DriftAlarm, ...]:
        """Take one record; returns what it raises."""
        source = record.source
        judge = (record.package_id, record.engine_sha256, record.settings_id, record.recipe)
        is_judged = record.raw_score is not None
        if source not in self._charts or (is_judged and judge != self._judges.get(source, judge)):
            self._charts[source] = self._new_charts()
        if is_judged:
            self._judges[source] = judge
        raised = []
        values = {Quantity.SCORE: record.raw_score, Quantity.BRIGHTNESS: record.brightness}
        for quantity, value in values.items():
            if value is None or not math.isfinite(value):
                continue
            drift = self._charts[source][quantity].add(value, record.sequence)
            if drift is not None:
                raised.append(
                    DriftAlarm(quantity, source, drift, self._every_parts, record.sequence)
                )
        return tuple(raised)

    def to_dict(self) -> dict[str, object]:
        """For JSON: the stated rate, and for each camera how far the watch is."""
        return {
            "false_alarm_every_parts": self._every_parts,
            "cameras": {
                source: {quantity.value: _state(chart) for quantity, chart in charts.items()}
                for source, charts in self._charts.items()
            },
        }

    def __str__(self) -> str:
        """One line for a person."""
        states = ", ".join(
            f"{quantity} of {source} {_word(chart)}"
            for source, charts in self._charts.items()
            for quantity, chart in charts.items()
        )
        return f"{states or 'no part'} (one false alarm in {self._every_parts:,} parts at most)"

    def _new_charts(self) -> dict[Quantity, DriftChart]:
        # Each camera's charts count their own parts, so that the rates of cameras do not add up.
        return {
            quantity: DriftChart(
                len(Quantity) * self._every_parts, reference_parts=self._reference_parts
            )
            for quantity in Quantity
        }


def _word(chart: DriftChart) -> str:
    if chart.found is not None:
        return "drifted"
    return "watched" if chart.is_watching else "still learnt"


def _state(chart: DriftChart) -> dict[str, object]:
    reference = chart.reference
    return {
        "state": _word(chart),
        "median": None if reference is None else reference[0],
        "deviation": None if reference is None else reference[1],
        "stride": chart.stride,
    }
