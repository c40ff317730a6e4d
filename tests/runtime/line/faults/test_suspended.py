"""A machine that was suspended: deadlines stood still, and the parts went on."""

from __future__ import annotations

from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime_ns, monotonic_ns, sleep

import simulated_line
from hypothesis import given
from hypothesis import strategies as st
from test_ends import QUIET, events, run_beside, verdicts

from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.wall_clock import SLEPT_NS, SleepWatch
from ssn_edge_runtime.line.worker_process import SECOND_NS
from ssn_edge_runtime.sinks import Journal


class Slept:
    """The boot's clock of a machine that slept."""

    def __init__(self) -> None:
        self.slept_ns = 0

    def __call__(self) -> int:
        return clock_gettime_ns(CLOCK_BOOTTIME) + self.slept_ns


def test_nothing_in_hand_passes_after_the_machine_was_suspended(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    gate, clock = simulated_line.Gate(), Slept()
    awake: list[Answer] = []
    slept: dict[int, Answer] = {}
    slept_from_ns: dict[int, int] = {}
    with Journal(tmp_path) as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(planned)},
            simulated_line.engine_command(planned, work_ms=20.0),
            journal,
            simulated_line.options(),
            outlets=[gate],
            with_sleep=clock,
        )

        def part(trigger_id: int) -> int:
            """Wait for a part of the belt, and tell when it comes."""
            number = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 2
            sleep(max(0, planned.triggered_ns(number) - monotonic_ns()) / 1e9)
            return planned.triggered_ns(number)

        def drive() -> None:
            for number in range(1, 41):
                at_ns = part(number)
                asked = authority.ask(number, at_ns=at_ns)
                if number % 2:  # while it is in flight
                    slept_from_ns[number] = monotonic_ns()
                    clock.slept_ns += 3600 * SECOND_NS
                    slept[number] = asked.result(10)
                else:
                    awake.append(asked.result(10))

        run_beside(authority, drive)
    assert any(answer.is_pass for answer in awake)
    assert "clock" in {str(answer.reason) for answer in slept.values()}
    given_ns = {trigger_id: at_ns for trigger_id, _, _, at_ns in gate.accepted}
    for number, answer in slept.items():
        # On a machine so busy that it passed before we came to it: not after.
        assert given_ns.get(number, 0) < slept_from_ns[number]
        assert not answer.is_pass or number in given_ns
    steps = [event["detail"] for event in events(tmp_path, "clock_step")]
    told = [each["suspended_ms"] for each in steps if "suspended_ms" in each]  # type: ignore[operator, index]
    assert len(told) == 20
    assert all(abs(each - 3600e3) < 1e3 for each in told)
    assert len(verdicts(tmp_path)) == 40


@given(
    looks=st.lists(
        st.tuples(
            st.integers(0, 10**10),  # awake before the look
            st.integers(0, 10**10),  # a pause between the looks at both clocks
            st.sampled_from([0, SLEPT_NS, 10**9, 10**13]),  # asleep before the look
        ),
        max_size=30,
    )
)
def test_each_sleep_is_told_once_and_no_pause_is_taken_for_one(
    looks: list[tuple[int, int, int]],
) -> None:
    now = [0, 0]  # awake, asleep
    pause = [0]

    def monotonic() -> int:
        now[0] += pause[0]
        return now[0]

    watch = SleepWatch(lambda: now[0] + now[1], monotonic=monotonic)
    told = slept = longest_pause = 0
    for awake, between, asleep in looks:
        now[0] += awake
        now[1] += asleep
        pause[0], slept = between, slept + asleep
        told += watch.slept_ns()
        longest_pause = max(longest_pause, between)
        assert told <= slept
    pause[0] = 0
    told += watch.slept_ns()
    assert slept - told < SLEPT_NS
