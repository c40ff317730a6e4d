"""One frozen look at the line, the same for every outlet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.latency import LatencySummary
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.verdict_codes import VerdictCode, verdict_code


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process.

    Args:
        name: Such as ``engine`` or the camera's.
        state: starting, running, dying or gone.
        pid: Its process, while there is one.
        restarts: How often it was started again.
        ending: Why the last one ended.
        granted: What it asked the system for, and whether it was granted, a line each.
    """

    name: str
    state: str
    pid: int | None
    restarts: int
    ending: str
    granted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LastVerdict:
    """The last recorded verdict.

    Args:
        trigger_id: Of its trigger; None in a free-running line.
        sequence: Of its record.
        verdict: As recorded.
        reason: From the closed list.
        is_accepted: Whether a pass signal was given; an outlet shows a pass only with this.
        valid_until_ns: Until when that signal counts, on the monotonic clock.
        latency_ms: From the trigger (free-running: the exposure) to the record.
    """

    trigger_id: int | None
    sequence: int
    verdict: Verdict
    reason: Reason
    is_accepted: bool
    valid_until_ns: int | None
    latency_ms: float

    @property
    def code(self) -> VerdictCode:
        """The number for outlets without text; a pass that was not given is none."""
        if self.verdict is Verdict.PASS and not self.is_accepted:
            return VerdictCode.NONE
        return verdict_code(self.verdict)


@dataclass(frozen=True, slots=True)
class LineStatus:
    """The line at one moment.

    Args:
        state: OPC 40100-1 name.
        cause: Why it is in that state.
        since_ns: Since when, on the monotonic clock.
        at_ns: When this was looked at.
        counters: All counts since the start, by name.
        in_flight: Parts that wait for their verdict.
        last: The last verdict.
        workers: Every worker process.
        latency_ms: By stage; empty unless asked for, since it takes milliseconds to sum up.
        settings_id: The device settings in force.
        recipe: Which of their recipes.
    """

    state: LineState
    cause: str
    since_ns: int
    at_ns: int
    counters: Mapping[str, int]
    in_flight: int = 0
    last: LastVerdict | None = None
    workers: tuple[WorkerStatus, ...] = ()
    latency_ms: Mapping[str, LatencySummary] = field(default_factory=dict)
    settings_id: str | None = None
    recipe: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        last = None
        if self.last is not None:
            last = {
                "trigger_id": self.last.trigger_id,
                "sequence": self.last.sequence,
                "verdict": self.last.verdict.value,
                "reason": self.last.reason.value,
                "code": int(self.last.code),
                "is_accepted": self.last.is_accepted,
                "valid_until_ns": self.last.valid_until_ns,
                "latency_ms": self.last.latency_ms,
            }
        return {
            "state": self.state.value,
            "cause": self.cause,
            "since_ns": self.since_ns,
            "at_ns": self.at_ns,
            "counters": dict(self.counters),
            "in_flight": self.in_flight,
            "last": last,
            "workers": [asdict(each) for each in self.workers],
            "latency_ms": {stage: asdict(each) for stage, each in self.latency_ms.items()},
            "settings_id": self.settings_id,
            "recipe": self.recipe,
        }


class Outlet(Protocol):
    """What tells the line. Called by the authority's one thread: it must not wait.

    Silence is reject: an outlet gives a pass for `accept` alone, for that part alone, and takes it
    back at `until_monotonic_ns` by itself.
    """

    def accept(self, trigger_id: int | None, sequence: int, until_monotonic_ns: int) -> None:
        """Give the pass signal for one part now.

        Args:
            trigger_id: Of the part; None in a free-running line.
            sequence: Of its record.
            until_monotonic_ns: The signal's end, on the monotonic clock.
        """
        ...

    def show(self, status: LineStatus) -> None:
        """Show the line's state; no signal is to be made of it."""
        ...
