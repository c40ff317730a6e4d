"""The rules alone: what is shown, to whom, and for how long."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.outlets.modbus.handshake import (
    IDS,
    LINE_SILENT_NS,
    MOST_OPEN,
    PLC_SILENT_NS,
    GiveTrigger,
    Handshake,
    UseRecipe,
)
from ssn_edge_runtime.outlets.modbus.registers import (
    GENERAL_SETTINGS,
    RECIPE_REFUSED,
    RECIPE_WAITING,
    HandshakeState,
)
from ssn_edge_runtime.verdict_codes import VerdictCode

MS = 1_000_000
DEADLINE_NS = 200 * MS
EXECUTING = LineState.CONTINUOUS_EXECUTION
PASS, FAIL, NONE = int(VerdictCode.PASS), int(VerdictCode.FAIL), int(VerdictCode.NONE)


class Bench:
    """A handshake with a clock, a beating PLC and a line that answers."""

    def __init__(self, recipes: tuple[str, ...] = ()) -> None:
        self.now_ns = 10**12
        self.epochs = iter(range(1, 10**6))
        self.handshake = Handshake(
            deadline_ns=DEADLINE_NS, recipes=recipes, next_epoch=lambda: next(self.epochs)
        )
        self.beat = 0

    def begin(self) -> None:
        self.hear()
        self.write(trigger_id=0)
        assert self.shown["handshake"] == HandshakeState.READY

    def hear(self, state: LineState = EXECUTING) -> list[object]:
        return list(self.handshake.line_said(state, self.now_ns))

    def write(self, **values: int) -> list[object]:
        self.beat = self.beat % 0xFFFF + 1
        return list(self.handshake.write({"plc_heartbeat": self.beat, **values}, self.now_ns))

    def trigger(self, plc_id: int) -> int:
        """The line's id of it."""
        (order,) = self.write(trigger_id=plc_id)
        assert isinstance(order, GiveTrigger)
        assert order.line_id % IDS == plc_id
        assert self.shown["accepted_id"] == plc_id
        return order.line_id

    def answer(self, line_id: int, verdict: Verdict | None = Verdict.PASS) -> None:
        reason = {Verdict.PASS: Reason.NONE, Verdict.FAIL: Reason.DEFECT}.get(
            verdict or Verdict.UNKNOWN, Reason.MISSED_TRIGGER
        )
        self.handshake.answered(line_id, verdict, reason, self.now_ns)

    def wait(self, milliseconds: float, *, alive: bool = True) -> None:
        """Time goes by, in which both sides beat."""
        until_ns = self.now_ns + round(milliseconds * MS)
        while alive and self.now_ns + 100 * MS < until_ns:
            self.now_ns += 100 * MS
            self.hear()
            self.write()
        self.now_ns = until_ns
        if alive:
            self.hear()
            self.write()

    @property
    def shown(self) -> dict[str, int]:
        return self.handshake.registers(self.now_ns)

    @property
    def block(self) -> tuple[int, int]:
        shown = self.shown
        assert shown["result_id"] == shown["result_id_again"]
        return shown["result_id"], shown["result_code"]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.begin()
    return bench


def test_a_pass_is_shown_with_its_id_until_it_is_acknowledged(bench: Bench) -> None:
    line_id = bench.trigger(7)
    assert bench.block == (0, NONE)
    bench.answer(line_id)
    assert bench.block == (7, PASS)
    bench.write(acked_id=7)
    assert bench.block == (0, NONE)


def test_a_pass_is_over_at_its_deadline_and_can_still_be_acknowledged(bench: Bench) -> None:
    bench.answer(bench.trigger(7))
    bench.now_ns += DEADLINE_NS - 1
    assert bench.block == (7, PASS)
    bench.now_ns += 1
    assert bench.block == (7, NONE)
    bench.write(acked_id=7)
    assert bench.block == (0, NONE)


def test_a_pass_that_comes_after_the_deadline_is_none(bench: Bench) -> None:
    line_id = bench.trigger(7)
    bench.wait(DEADLINE_NS / MS)
    bench.answer(line_id)
    assert bench.block == (7, int(VerdictCode.UNKNOWN))


def test_the_same_id_again_is_no_trigger_before_and_after_its_acknowledgement(
    bench: Bench,
) -> None:
    line_id = bench.trigger(7)
    assert bench.write(trigger_id=7) == []
    bench.answer(line_id)
    assert bench.write(trigger_id=7) == []
    assert bench.block == (7, PASS)
    bench.write(acked_id=7)
    assert bench.write(trigger_id=7) == []
    assert bench.block == (0, NONE)


def test_ids_that_wrap_or_begin_again_are_parts_that_the_line_does_not_know(bench: Bench) -> None:
    plc_ids = [1, 2, 65534, 65535, 1, 2, 1, 2]
    line_ids = [bench.trigger(each) for each in plc_ids]
    assert len(set(line_ids)) == len(plc_ids)
    assert line_ids == sorted(line_ids)


def test_after_zero_the_same_id_is_a_new_part_and_the_old_answer_is_nobody_s(
    bench: Bench,
) -> None:
    first = bench.trigger(1)
    bench.answer(first)
    bench.write(trigger_id=0)
    assert bench.block == (0, NONE)
    second = bench.trigger(1)
    bench.answer(first)
    assert (second != first, bench.block) == (True, (0, NONE))
    bench.answer(second, Verdict.FAIL)
    assert bench.block == (1, FAIL)


def test_an_acknowledgement_of_another_id_takes_nothing_away(bench: Bench) -> None:
    bench.answer(bench.trigger(7))
    bench.write(acked_id=6)
    assert bench.block == (7, PASS)


def test_results_come_in_the_order_of_the_triggers_one_after_the_other(bench: Bench) -> None:
    first, second = bench.trigger(1), bench.trigger(2)
    bench.answer(second, Verdict.FAIL)
    assert bench.block == (0, NONE)
    bench.answer(first)
    assert bench.block == (1, PASS)
    bench.write(acked_id=1)
    assert bench.block == (2, FAIL)


def test_a_result_that_nobody_acknowledges_makes_room_when_its_time_is_over(bench: Bench) -> None:
    bench.answer(bench.trigger(1))
    bench.wait(150)
    bench.answer(bench.trigger(2))
    assert bench.block == (1, PASS)
    bench.wait(50)
    assert bench.block == (2, PASS)
    assert bench.shown["dropped_results"] == 1


def test_a_plc_that_only_triggers_fills_no_memory(bench: Bench) -> None:
    line_ids = [bench.trigger(each) for each in range(1, MOST_OPEN + 5)]
    for each in line_ids:
        bench.answer(each)
    assert bench.block == (5, PASS)
    assert len(bench.handshake._parts) == MOST_OPEN


def test_a_lost_heartbeat_of_the_plc_takes_the_pass_back_and_wants_a_zero() -> None:
    bench = Bench()
    bench.begin()
    bench.handshake._deadline_ns = 10**10
    bench.answer(bench.trigger(7))
    until_ns = bench.now_ns + PLC_SILENT_NS
    while bench.now_ns + 100 * MS <= until_ns:
        assert bench.block == (7, PASS)
        bench.now_ns += 100 * MS
        bench.hear()
        bench.handshake.write({"plc_heartbeat": bench.beat}, bench.now_ns)  # the same: no beat
    bench.now_ns = until_ns + 1
    assert bench.block == (0, NONE)
    assert bench.shown["handshake"] == HandshakeState.NO_PLC
    assert bench.write(trigger_id=8) == []
    assert bench.shown["handshake"] == HandshakeState.WANTS_ZERO
    bench.write(trigger_id=0)
    assert bench.write(trigger_id=7) != []


def test_a_loss_that_nobody_looked_at_counts_all_the_same(bench: Bench) -> None:
    bench.handshake._deadline_ns = 10**11
    bench.answer(bench.trigger(7))
    bench.now_ns += PLC_SILENT_NS + 1
    bench.hear()
    bench.write()  # beats again
    assert bench.block == (0, NONE)
    assert bench.shown["plc_losses"] == 1


@pytest.mark.parametrize("how", ["hangs", "hangs up", "does not execute"])
def test_without_a_line_nothing_is_shown_and_no_later_line_brings_it_back(
    bench: Bench, how: str
) -> None:
    bench.handshake._deadline_ns = 10**11
    line_id = bench.trigger(7)
    bench.answer(line_id)
    before = bench.shown["device_heartbeat"]
    if how == "hangs":
        bench.now_ns += LINE_SILENT_NS + 1
        assert bench.shown["line_state"] == 0
        assert bench.shown["device_heartbeat"] == before  # it stands
    elif how == "hangs up":
        bench.handshake.line_lost()
    else:
        bench.hear(LineState.ERROR)
        assert bench.shown["line_state"] == 3
    assert bench.block == (0, NONE)
    assert bench.shown["handshake"] == HandshakeState.NO_LINE
    assert bench.write(trigger_id=8) == []
    bench.hear()
    bench.answer(line_id)
    assert bench.block == (0, NONE)
    assert bench.write(trigger_id=8) == []  # seen, and not taken later
    assert bench.shown["untaken_triggers"] == 1
    assert bench.write(trigger_id=9) != []


def test_a_trigger_that_makes_no_part_is_answered_with_none(bench: Bench) -> None:
    bench.answer(bench.trigger(7), None)
    assert bench.block == (7, NONE)
    assert bench.shown["result_reason"] == 15


def test_an_answer_that_is_lost_is_none_once_its_time_is_over(bench: Bench) -> None:
    bench.trigger(7)
    second = bench.trigger(8)
    bench.wait(DEADLINE_NS / MS + LINE_SILENT_NS / MS + 1)
    assert bench.block == (7, NONE)
    bench.answer(second)
    bench.write(acked_id=7)
    assert bench.block == (8, NONE)


def test_without_a_number_that_is_new_no_trigger_is_taken() -> None:
    numbers: list[int | None] = [None, 5]
    handshake = Handshake(deadline_ns=DEADLINE_NS, next_epoch=lambda: numbers.pop(0))
    handshake.line_said(EXECUTING, 1)
    handshake.write({"plc_heartbeat": 1, "trigger_id": 0}, 1)
    assert handshake.write({"trigger_id": 3}, 1) == []
    assert handshake.registers(1)["accepted_id"] == 0
    assert handshake.write({"trigger_id": 4}, 1) == [GiveTrigger(5 * IDS + 4)]


def test_no_trigger_is_taken_until_the_plc_s_recipe_is_in_force() -> None:
    bench = Bench(("brass", "steel"))
    bench.begin()
    assert bench.write(recipe=2) == [UseRecipe("steel")]
    assert bench.write(recipe=2, trigger_id=1) == []
    assert bench.shown["recipe_answer"] == RECIPE_WAITING
    bench.handshake.recipe_used("steel")
    assert bench.shown["recipe_answer"] == 2
    bench.trigger(2)
    assert bench.write(recipe=GENERAL_SETTINGS) == [UseRecipe(None)]
    bench.handshake.recipe_used(None)
    bench.trigger(3)


def test_a_recipe_that_is_refused_stops_triggers_until_the_plc_says_otherwise() -> None:
    bench = Bench(("brass",))
    bench.begin()
    bench.write(recipe=1)
    bench.handshake.complained(bench.now_ns)
    assert bench.shown["recipe_answer"] == RECIPE_REFUSED
    assert bench.write(recipe=1, trigger_id=5) == []
    assert bench.write(recipe=0) == []
    bench.trigger(6)
    assert bench.write(recipe=1) == [UseRecipe("brass")]


def test_the_last_recipe_that_was_asked_for_counts() -> None:
    bench = Bench(("brass", "steel"))
    bench.begin()
    for number in (1, 2, 1):
        bench.write(recipe=number)
    bench.handshake.recipe_used("brass")
    assert bench.shown["handshake"] == HandshakeState.RECIPE
    bench.handshake.recipe_used("steel")
    bench.handshake.complained(bench.now_ns)
    assert bench.shown["recipe_answer"] == RECIPE_REFUSED
    bench.write(recipe=0)
    assert bench.write(recipe=2) == [UseRecipe("steel")]
    bench.write(recipe=0)
    assert bench.shown["handshake"] == HandshakeState.RECIPE  # the line still changes it
    bench.handshake.recipe_used("steel")
    assert bench.shown["handshake"] == HandshakeState.READY


def test_a_line_that_comes_back_is_asked_for_the_recipe_again() -> None:
    bench = Bench(("brass",))
    bench.begin()
    bench.write(recipe=1)
    bench.handshake.recipe_used("brass")
    bench.handshake.line_lost()
    assert bench.shown["recipe_answer"] == RECIPE_WAITING
    assert bench.hear() == [UseRecipe("brass")]
    assert bench.shown["handshake"] == HandshakeState.RECIPE
    bench.handshake.recipe_used("brass")
    assert bench.shown["handshake"] == HandshakeState.READY


PLC_IDS = st.sampled_from([1, 2, 3, 7, 65535])


class Model(RuleBasedStateMachine):
    """Both sides do what they like; the ledger below is kept by other means than the rules'.

    A pass is earned by this alone: the line said `pass` to the trigger that the PLC gave last under
    this id, within the deadline, and since that trigger nothing took it away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 10**12
        self.epoch = 0
        self.given: dict[int, int] = {}  # the line's ids, and when
        self.passed: set[int] = set()
        self.ever: list[int] = []
        self.beat, self.beaten_ns = 0, -(10**12)
        self.said_ns, self.said = -(10**12), LineState.HALTED
        self.register = 0
        self.deadline_ns = DEADLINE_NS
        self.new()

    def new(self) -> None:
        self.handshake = Handshake(deadline_ns=self.deadline_ns, next_epoch=self.next_epoch)

    def next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    def is_up(self) -> bool:
        return (
            self.now_ns - self.beaten_ns <= PLC_SILENT_NS
            and self.now_ns - self.said_ns <= LINE_SILENT_NS
            and self.said.may_pass
        )

    def forget(self) -> None:
        self.given.clear()

    @initialize(deadline_ms=st.sampled_from([200, 5000]))
    def both_are_up(self, deadline_ms: int) -> None:
        self.deadline_ns = deadline_ms * MS  # beyond it, or before it, both are taken for lost
        self.new()
        self.line_says(EXECUTING)
        self.plc_writes(0, beats=True)

    @rule(plc_id=PLC_IDS, begins_anew=st.booleans())
    def a_part_passes(self, plc_id: int, begins_anew: bool) -> None:
        """What is usual must be usual here, too, or little is tried out on a pass."""
        self.line_says(EXECUTING)
        if begins_anew:
            self.plc_writes(0, beats=True)
        self.plc_writes(plc_id, beats=True)
        self.line_answers(0, Verdict.PASS)

    @rule(state=st.sampled_from([EXECUTING, EXECUTING, EXECUTING, LineState.READY]))
    def line_says(self, state: LineState) -> None:
        self.look()
        self.said_ns, self.said = self.now_ns, state
        if not state.may_pass:
            self.forget()
        self.handshake.line_said(state, self.now_ns)

    @rule()
    def line_hangs_up(self) -> None:
        self.said_ns = -(10**12)
        self.forget()
        self.handshake.line_lost()

    @rule(plc_id=st.one_of(st.just(0), PLC_IDS), beats=st.booleans())
    def plc_writes(self, plc_id: int, beats: bool) -> None:
        self.look()
        values = {"trigger_id": plc_id}
        if beats:
            self.beat = self.beat % 0xFFFF + 1
            self.beaten_ns = self.now_ns
            values["plc_heartbeat"] = self.beat
        if plc_id == 0:
            self.forget()
        orders = self.handshake.write(values, self.now_ns)
        assert len(orders) <= 1
        for order in orders:
            assert isinstance(order, GiveTrigger)
            assert self.is_up()
            assert plc_id not in (0, self.register), "the same id is no trigger"
            assert order.line_id % IDS == plc_id
            assert order.line_id > max(self.ever, default=0), "the line has seen this id"
            self.ever.append(order.line_id)
            self.given[order.line_id] = self.now_ns
        self.register = plc_id

    @rule(plc_id=PLC_IDS)
    def plc_acknowledges(self, plc_id: int) -> None:
        self.look()
        shown = self.handshake.registers(self.now_ns)
        self.handshake.write({"acked_id": plc_id}, self.now_ns)
        if shown["result_id"] == plc_id:
            oldest = min(each for each in self.given if each % IDS == plc_id)
            del self.given[oldest]

    @rule(which=st.integers(0, 7), verdict=st.sampled_from([*Verdict, None]))
    def line_answers(self, which: int, verdict: Verdict | None) -> None:
        self.look()
        if not self.ever:
            return
        line_id = self.ever[-1 - which % len(self.ever)]
        given_ns = self.given.get(line_id)
        if verdict is Verdict.PASS and given_ns is not None:
            self.passed.add(line_id)
        self.handshake.answered(line_id, verdict, Reason.DEFECT, self.now_ns)

    @rule(milliseconds=st.sampled_from([1, 30, 99, 199, 200, 201, 400, 501, 999, 1001]))
    def time_goes_by(self, milliseconds: int) -> None:
        self.now_ns += milliseconds * MS

    @rule(times=st.integers(1, 4))
    def time_goes_by_for_a_silent_plc(self, times: int) -> None:
        for _ in range(times):
            self.now_ns += 400 * MS
            self.line_says(EXECUTING)

    @rule()
    def the_server_is_started_again(self) -> None:
        self.forget()
        self.said_ns = self.beaten_ns = -(10**12)
        self.beat = self.register = 0
        self.new()

    @invariant()
    def look(self) -> None:
        if not self.is_up():
            self.forget()
            if self.now_ns - self.beaten_ns > PLC_SILENT_NS:
                self.register = 0
        shown = self.handshake.registers(self.now_ns)
        assert shown["result_id"] == shown["result_id_again"]
        assert shown["result_code"] in set(VerdictCode)
        if shown["result_code"] != VerdictCode.PASS:
            return
        assert self.is_up()
        earned = [
            line_id
            for line_id, given_ns in self.given.items()
            if line_id % IDS == shown["result_id"]
            and line_id in self.passed
            and self.now_ns - given_ns < self.deadline_ns
        ]
        assert earned, shown


Model.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
test_nothing_that_either_side_does_makes_a_pass_that_was_not_earned = Model.TestCase


@pytest.mark.parametrize("first", [1, 65530])
def test_a_plc_that_keeps_to_the_handshake_sees_each_of_its_passes(first: int) -> None:
    bench = Bench()
    bench.begin()
    for plc_id in [(first + step) % 65535 or 65535 for step in range(20)]:
        bench.answer(bench.trigger(plc_id))
        assert bench.block == (plc_id, PASS)
        bench.write(acked_id=plc_id)
