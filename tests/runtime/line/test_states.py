from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.line.states import ALLOWED, LineState, StateMachine

STATES = st.sampled_from(LineState)


@given(st.lists(STATES, max_size=30))
def test_only_steps_of_the_table_are_taken_and_execution_follows_ready(
    wanted: list[LineState],
) -> None:
    machine = StateMachine(0)
    for at_ns, state in enumerate(wanted, 1):
        before = machine.state
        if state in ALLOWED[before]:
            change = machine.go_to(state, "why", at_ns)
            assert (change.before, change.after, machine.since_ns) == (before, state, at_ns)
            assert not state.may_pass or before is LineState.READY
        else:
            with pytest.raises(ValueError, match="not followed"):
                machine.go_to(state, "why", at_ns)
            assert machine.state is before


def test_pass_is_possible_in_the_two_executing_states_alone() -> None:
    executing = {state.value for state in LineState if state.may_pass}
    assert executing == {"SingleExecution", "ContinuousExecution"}


def test_error_and_halted_can_be_reached_from_everywhere_and_left_only_by_a_reset() -> None:
    for state in LineState:
        if state is not LineState.ERROR:
            assert LineState.ERROR in ALLOWED[state]
        assert state in {LineState.ERROR, LineState.HALTED} or LineState.HALTED in ALLOWED[state]
    assert not any(state.may_pass for state in ALLOWED[LineState.ERROR] | ALLOWED[LineState.HALTED])
