"""Alarms: too many rejects in a row, or too many over time. They raise or halt, and judge nothing.

That parts turned bad is never a reason to judge otherwise: an alarm calls a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.record import Scalar
from ssn_edge_runtime.settings import LineSettings
from ssn_edge_runtime.supervision.counters import RejectRate

REARM_SHARE = 0.9
"""A rate must fall below this share of its limit before it can raise the alarm again."""


class AlarmKind(str, Enum):
    """What raised it; each equal to its text."""

    IN_A_ROW = "rejects_in_a_row"
    REJECT_RATE = "reject_rate"

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


@dataclass(frozen=True, slots=True)
class AlarmLimits:
    """When an alarm is raised or the line halts; None for never. See `LineSettings`."""

    alarm_after: int | None = None
    halt_after: int | None = None
    alarm_reject_rate: float | None = None
    halt_reject_rate: float | None = None
    reject_window_s: float = 600.0
    reject_min_parts: int = 50

    @classmethod
    def from_settings(cls, line: LineSettings) -> AlarmLimits:
        """Those of device settings."""
        return cls(
            alarm_after=line.alarm_after,
            halt_after=line.halt_after,
            alarm_reject_rate=line.alarm_reject_rate,
            halt_reject_rate=line.halt_reject_rate,
            reject_window_s=line.reject_window_s,
            reject_min_parts=line.reject_min_parts,
        )


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm.

    Args:
        kind: What raised it.
        value: How many in a row, or the share.
        limit: What it reached.
        is_halt: Whether the line is to halt.
        sequence: The record that raised it.
    """

    kind: AlarmKind
    value: float
    limit: float
    is_halt: bool
    sequence: int

    @property
    def detail(self) -> dict[str, Scalar]:
        """For an event record."""
        return {
            "alarm": self.kind.value,
            "value": self.value,
            "limit": self.limit,
            "halt": self.is_halt,
            "sequence": self.sequence,
        }

    def __str__(self) -> str:
        """One line for a person."""
        what = (
            f"{self.value:.0f} part{'s' * (self.value != 1)} in a row did not pass"
            if self.kind is AlarmKind.IN_A_ROW
            else f"{100 * self.value:.1f} % of the parts did not pass"
        )
        limit = f"{self.limit:.0f}" if self.kind is AlarmKind.IN_A_ROW else f"{self.limit:.1%}"
        return f"{what} (limit {limit}{', the line halts' if self.is_halt else ''})"


class Alarms:
    """Watches verdicts. Each limit raises once, and again only after things got better.

    In a row: better is a pass. Over time: better is a rate below `REARM_SHARE` of the limit. Not
    for use by several threads.

    Args:
        limits: When to raise.
    """

    def __init__(self, limits: AlarmLimits) -> None:
        self._limits = limits
        self._in_a_row = 0
        self._rate = RejectRate(limits.reject_window_s)
        self._is_raised: set[tuple[AlarmKind, bool]] = set()  # kind and whether it halts
        self._halted: Alarm | None = None

    @property
    def halted(self) -> Alarm | None:
        """The alarm that halts the line; it stays until the line is started again."""
        return self._halted

    @property
    def in_a_row(self) -> int:
        """Rejects since the last pass."""
        return self._in_a_row

    def rate(self, now_s: float) -> float | None:
        """Share of rejects within the window."""
        return self._rate.rate(now_s)

    def use(self, limits: AlarmLimits) -> None:
        """Other limits from now on. What was counted in a row stays; a new window begins empty."""
        if limits.reject_window_s != self._limits.reject_window_s:
            self._rate = RejectRate(limits.reject_window_s)
        self._limits = limits

    def add(self, verdict: Verdict, sequence: int, at_s: float) -> tuple[Alarm, ...]:
        """Take one verdict.

        Args:
            verdict: The part's.
            sequence: Its record's.
            at_s: A monotonic clock, in seconds.

        Returns:
            What it raises.
        """
        is_reject = verdict is not Verdict.PASS
        self._in_a_row = self._in_a_row + 1 if is_reject else 0
        self._rate.add(is_reject, at_s)
        raised = [*self._row_alarms(sequence), *self._rate_alarms(sequence, at_s)]
        if self._halted is None:
            self._halted = next((each for each in raised if each.is_halt), None)
        return tuple(raised)

    def _row_alarms(self, sequence: int) -> list[Alarm]:
        raised = []
        for limit, is_halt in (
            (self._limits.alarm_after, False),
            (self._limits.halt_after, True),
        ):
            if self._in_a_row == 0:
                self._is_raised.discard((AlarmKind.IN_A_ROW, is_halt))
            elif limit is not None and self._in_a_row >= limit:
                raised += self._once(AlarmKind.IN_A_ROW, self._in_a_row, limit, is_halt, sequence)
        return raised

    def _rate_alarms(self, sequence: int, at_s: float) -> list[Alarm]:
        raised = []
        rate = self._rate.rate(at_s)
        says_something = self._rate.parts(at_s) >= self._limits.reject_min_parts
        for limit, is_halt in (
            (self._limits.alarm_reject_rate, False),
            (self._limits.halt_reject_rate, True),
        ):
            if limit is None or rate is None:
                continue
            if says_something and rate >= limit:
                raised += self._once(AlarmKind.REJECT_RATE, rate, limit, is_halt, sequence)
            elif rate < REARM_SHARE * limit:
                self._is_raised.discard((AlarmKind.REJECT_RATE, is_halt))
        return raised

    def _once(
        self, kind: AlarmKind, value: float, limit: float, is_halt: bool, sequence: int
    ) -> list[Alarm]:
        if (kind, is_halt) in self._is_raised:
            return []
        self._is_raised.add((kind, is_halt))
        return [Alarm(kind, value, limit, is_halt, sequence)]
