"""Pass signals: given at once, or when the part is at the ejector, by time or by counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic_ns

from ssn_edge_runtime.line.encoder import CountedPasses
from ssn_edge_runtime.line.ledger import Part, TriggerLedger
from ssn_edge_runtime.line.rules import TriggerRules
from ssn_edge_runtime.line.states import StateMachine
from ssn_edge_runtime.line.status import Outlet

OnWithheld = Callable[[Part, str], None]


@dataclass(frozen=True, slots=True)
class _Timed:
    """A pass that waits until its part is at the ejector."""

    part: Part
    from_ns: int
    until_ns: int


class PassSignals:
    """The signals of one line. A pass that is not given any more is withheld, and that is told.

    Args:
        ledger: Knows when a part is at the ejector.
        states: No pass is given outside of the executing ones.
        outlets: What tells the line.
        rules: Of the line.
        on_withheld: Told of each pass that is not given, and why.
        on_failure: Told what an outlet raised.
    """

    def __init__(
        self,
        ledger: TriggerLedger,
        states: StateMachine,
        outlets: Sequence[Outlet],
        rules: TriggerRules,
        *,
        on_withheld: OnWithheld,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._ledger = ledger
        self._states = states
        self._outlets = outlets
        self._longest_ns = rules.ejector_window_ns
        self._on_withheld = on_withheld
        self._on_failure = on_failure
        self._timed: list[_Timed] = []
        self._counted = None if rules.encoder is None else CountedPasses(rules.encoder)
        self._parts: dict[int, Part] = {}  # those that wait for a count

    @property
    def is_empty(self) -> bool:
        """Whether no pass waits for its part to reach the ejector."""
        return not self._timed and (self._counted is None or self._counted.is_empty)

    def plan(self, part: Part, now_ns: int) -> int | None:
        """Give or plan the signal of a recorded pass; until when its answer counts, or None."""
        if now_ns >= part.deadline_ns:
            self._on_withheld(part, "the deadline passed while it was recorded")
            return None
        if not self._states.state.may_pass:
            self._on_withheld(part, f"the line is {self._states.state}")
            return None
        if self._counted is not None and part.frame is not None:
            self._parts[part.sequence] = part
            self._counted.wait(part.sequence, part.frame.age_ns)
            given = self._settle(now_ns)
            is_to_come = part.sequence in given or part.sequence in self._parts
            return part.deadline_ns if is_to_come else None
        from_ns, until_ns = self._ledger.accept_from_ns(part), self._ledger.accept_until_ns(part)
        if from_ns > now_ns:
            self._timed.append(_Timed(part, from_ns, until_ns))
            return until_ns
        return until_ns if self._give(part, until_ns) else None

    def read(self, count: int, at_ns: int) -> None:
        """Take a reading of the encoder."""
        if self._counted is not None:
            self._counted.read(count, at_ns)

    def due(self, now_ns: int) -> None:
        """Give the signals of the parts that are at the ejector now."""
        due = [signal for signal in self._timed if signal.from_ns <= now_ns]
        if due:
            self._timed = [signal for signal in self._timed if signal.from_ns > now_ns]
        for signal in due:
            self._give(signal.part, signal.until_ns)
        self._settle(now_ns)

    def next_ns(self) -> int | None:
        """When `due` has something to do."""
        times = [signal.from_ns for signal in self._timed]
        counted_ns = None if self._counted is None else self._counted.next_ns()
        return min(times if counted_ns is None else [*times, counted_ns], default=None)

    def withhold_all(self, why: str, now_ns: int) -> None:
        """Give none of the signals that are still to come."""
        timed, self._timed = self._timed, []
        for signal in timed:
            self._on_withheld(signal.part, why)
        if self._counted is not None:
            self._counted.withhold(why)
            self._settle(now_ns)

    def end_without_belt(self, now_ns: int) -> None:
        """The run is to end: wait no longer for parts that a standing belt does not bring."""
        if self._counted is not None and self._counted.stands(now_ns):
            self._counted.withhold("the run ended while the belt stood")
            self._settle(now_ns)

    def _settle(self, now_ns: int) -> set[int]:
        """Give and withhold what is due by counts; whose signals were given."""
        given: set[int] = set()
        if self._counted is None:
            return given
        for outcome in self._counted.settle(now_ns):
            part = self._parts.pop(outcome.sequence)
            if outcome.until_ns is None:
                self._on_withheld(part, outcome.why)
                continue
            # Whatever the belt does now, no signal stands for longer than it may.
            if self._give(part, min(outcome.until_ns, now_ns + self._longest_ns)):
                given.add(outcome.sequence)
        return given

    def _give(self, part: Part, until_ns: int) -> bool:
        if not self._states.state.may_pass:
            self._on_withheld(part, f"the line is {self._states.state}")
            return False
        # The last thing before the signal, and by the clock of this moment: whatever took its time
        # since the caller looked at it makes no late pass.
        if monotonic_ns() >= until_ns:
            self._on_withheld(part, "its time at the ejector had passed")
            return False
        for outlet in self._outlets:
            try:
                outlet.accept(part.trigger_id, part.sequence, until_ns)
            except Exception as error:  # noqa: BLE001 - no signal is reject: safe, and counted
                self._on_failure(error)
        return True
