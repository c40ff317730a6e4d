"""The drift monitor: have scores or brightness of the parts changed since the reference was learnt?

It calls a person and judges nothing. Each judged part counts, whatever its verdict: passes alone
would hide a rise of the scores, since whatever rose far enough no longer passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord, Scalar
from ssn_edge_runtime.settings import ALARM_EVERY_PARTS, LEAST_ALARM_EVERY_PARTS
from ssn_edge_runtime.supervision.drift_chart import Direction, Drift, DriftChart
from ssn_edge_runtime.supervision.drift_reference import REFERENCE_PARTS, Reference
from ssn_edge_runtime.supervision.drift_store import MOST_WATCHED, DriftStore, Watched


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

    A camera's reference is learnt from its first `reference_parts` judged parts, apart for each
    package, engine, settings and recipe: other scores are then no drift. What was learnt is kept
    in a file, and used again at the next start, but for what raised an alarm. Not for use by
    several threads.

    Args:
        every_parts: At most one false alarm in so many parts, of all cameras and quantities
            together.
        reference_parts: To learn from.
        path: Where references are kept; None keeps none.

    Raises:
        ConfigError: So many false alarms would drown the true ones.
    """

    def __init__(
        self,
        every_parts: int = ALARM_EVERY_PARTS,
        *,
        reference_parts: int = REFERENCE_PARTS,
        path: Path | None = None,
    ) -> None:
        if not every_parts >= LEAST_ALARM_EVERY_PARTS:
            raise ConfigError(
                f"one false drift alarm in {every_parts} parts; {LEAST_ALARM_EVERY_PARTS} or more "
                "are wanted, or 0 for no alarms"
            )
        self._every_parts = every_parts
        self._reference_parts = reference_parts
        self._store = None if path is None else DriftStore(path)
        self._kept: dict[Watched, dict[str, Reference]] = {}
        self._charts: dict[Watched, dict[Quantity, DriftChart]] = {}
        self._now: dict[str, Watched] = {}  # by the camera's name

    def open(self) -> None:
        """Read what earlier runs learnt."""
        if self._store is not None:
            self._kept = self._store.read()

    def close(self) -> None:
        """Keep what was learnt."""
        if self._store is not None and self._charts:
            self._keep()
            self._store.wait()

    def add(self, record: DecisionRecord) -> tuple[DriftAlarm, ...]:
        """Take one record; returns what it raises."""
        if record.raw_score is not None:
            self._now[record.source] = Watched.of(record)
        watched = self._now.get(record.source)
        if watched is None:
            return ()  # nothing was judged yet: by whom, is not known
        charts = self._charts.get(watched) or self._begin(watched)
        raised = []
        has_learnt = False
        values = {Quantity.SCORE: record.raw_score, Quantity.BRIGHTNESS: record.brightness}
        for quantity, value in values.items():
            if value is None or not math.isfinite(value):
                continue
            chart = charts[quantity]
            was_watching = chart.is_watching
            drift = chart.add(value, record.sequence)
            if drift is not None:
                raised.append(
                    DriftAlarm(quantity, record.source, drift, self._every_parts, record.sequence)
                )
            has_learnt |= chart.is_watching is not was_watching
        if raised or has_learnt:
            self._keep()
        return tuple(raised)

    def to_dict(self) -> dict[str, object]:
        """For JSON: the stated rate, and for each camera how far the watch is."""
        return {
            "false_alarm_every_parts": self._every_parts,
            "cameras": {
                source: {quantity.value: _state(chart) for quantity, chart in charts.items()}
                for source, charts in self._of_cameras().items()
            },
        }

    def __str__(self) -> str:
        """One line for a person."""
        states = ", ".join(
            f"{quantity} of {source} {_word(chart)}"
            for source, charts in self._of_cameras().items()
            for quantity, chart in charts.items()
        )
        return f"{states or 'no part'} (one false alarm in {self._every_parts:,} parts at most)"

    def _of_cameras(self) -> dict[str, dict[Quantity, DriftChart]]:
        return {source: self._charts[watched] for source, watched in self._now.items()}

    def _begin(self, watched: Watched) -> dict[Quantity, DriftChart]:
        while len(self._charts) >= MOST_WATCHED:  # each new one is a person's doing
            oldest = next(iter(self._charts))
            self._kept[oldest] = self._references(oldest)
            del self._charts[oldest]
            self._now = {name: each for name, each in self._now.items() if each != oldest}
        kept = self._kept.pop(watched, {})
        # Each camera's charts count their own parts, so that the rates of cameras do not add up.
        charts = {
            quantity: DriftChart(
                len(Quantity) * self._every_parts,
                reference_parts=self._reference_parts,
                reference=kept.get(quantity.value),
            )
            for quantity in Quantity
        }
        self._charts[watched] = charts
        return charts

    def _keep(self) -> None:
        if self._store is not None:
            self._store.write(
                {**self._kept, **{watched: self._references(watched) for watched in self._charts}}
            )

    def _references(self, watched: Watched) -> dict[str, Reference]:
        """What is to be compared with at the next start: not what a person is to look at."""
        return {
            quantity.value: reference
            for quantity, chart in self._charts[watched].items()
            if chart.found is None and (reference := chart.reference) is not None
        }


def _word(chart: DriftChart) -> str:
    if chart.found is not None:
        return "drifted"
    return "watched" if chart.is_watching else "still learnt"


def _state(chart: DriftChart) -> dict[str, object]:
    reference = chart.reference
    return {
        "state": _word(chart),
        "median": None if reference is None else reference.centre,
        "deviation": None if reference is None else reference.deviation,
        "stride": chart.stride,
    }
