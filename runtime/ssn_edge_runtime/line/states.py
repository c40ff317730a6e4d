"""The line's state, with the names of OPC 40100-1; pure, times are arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class LineState(str, Enum):
    """Where the line stands; each equal to its OPC 40100-1 name."""

    PREOPERATIONAL = "Preoperational"
    """Not fit to judge: no certified engine, or workers that are not up."""
    HALTED = "Halted"
    """Stopped on request; stays so until it is reset."""
    ERROR = "Error"
    """Something that a restart within the budgets did not mend."""
    INITIALIZED = "Initialized"
    """Engine and cameras are up; nothing was asked for yet."""
    READY = "Ready"
    """May start at once."""
    SINGLE_EXECUTION = "SingleExecution"
    """Judging one part."""
    CONTINUOUS_EXECUTION = "ContinuousExecution"
    """Judging part after part."""

    def __str__(self) -> str:
        """The name, on every Python version."""
        return self.value

    @property
    def may_pass(self) -> bool:
        """Whether a pass signal may be given."""
        return self in _EXECUTING


_S = LineState
_EXECUTING = frozenset({_S.SINGLE_EXECUTION, _S.CONTINUOUS_EXECUTION})

ALLOWED: Mapping[LineState, frozenset[LineState]] = {
    _S.PREOPERATIONAL: frozenset({_S.INITIALIZED, _S.HALTED, _S.ERROR}),
    _S.HALTED: frozenset({_S.PREOPERATIONAL, _S.ERROR}),
    _S.ERROR: frozenset({_S.PREOPERATIONAL, _S.HALTED}),
    _S.INITIALIZED: frozenset({_S.READY, _S.PREOPERATIONAL, _S.HALTED, _S.ERROR}),
    _S.READY: frozenset({*_EXECUTING, _S.INITIALIZED, _S.PREOPERATIONAL, _S.HALTED, _S.ERROR}),
    _S.SINGLE_EXECUTION: frozenset({_S.READY, _S.PREOPERATIONAL, _S.HALTED, _S.ERROR}),
    _S.CONTINUOUS_EXECUTION: frozenset({_S.READY, _S.PREOPERATIONAL, _S.HALTED, _S.ERROR}),
}
"""From each state, those that may follow. Any state may end in Halted or Error; execution is
reached from Ready alone."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One step of the machine.

    Args:
        before: Left.
        after: Entered.
        cause: One line for a person.
        at_ns: When, on the monotonic clock.
    """

    before: LineState
    after: LineState
    cause: str
    at_ns: int


class StateMachine:
    """Holds the state; only steps of the table are possible.

    Args:
        at_ns: Now, on the monotonic clock.
    """

    def __init__(self, at_ns: int) -> None:
        self._state = LineState.PREOPERATIONAL
        self._cause = "starting"
        self._since_ns = at_ns

    @property
    def state(self) -> LineState:
        """Where the line stands."""
        return self._state

    @property
    def cause(self) -> str:
        """Why."""
        return self._cause

    @property
    def since_ns(self) -> int:
        """Since when, on the monotonic clock."""
        return self._since_ns

    def explain(self, cause: str) -> None:
        """Say anew why the machine is where it is."""
        self._cause = cause

    def can_go_to(self, state: LineState) -> bool:
        """Whether the table has that step."""
        return state in ALLOWED[self._state]

    def go_to(self, state: LineState, cause: str, at_ns: int) -> StateChange:
        """Take a step.

        Raises:
            ValueError: The table does not have it: a mistake of the caller.
        """
        if not self.can_go_to(state):
            raise ValueError(f"{self._state} is not followed by {state}")
        change = StateChange(self._state, state, cause, at_ns)
        self._state, self._cause, self._since_ns = state, cause, at_ns
        return change
