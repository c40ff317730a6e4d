from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.ledger import (
    Admission,
    FrameFate,
    JobFate,
    Part,
    SeenFrame,
    TriggerLedger,
)
from ssn_edge_runtime.line.rules import TriggerRules

PASS = Decision(Verdict.PASS, Reason.NONE, score=0.1, raw_score=-2.0, threshold=0.0)
RULES = TriggerRules(
    deadline_ns=100, exposure_window_ns=50, min_interval_ns=10, in_flight=3, remembered=8
)


def seen(exposed_ns: int | None, camera: str = "cam", **more: object) -> SeenFrame:
    frame = SeenFrame(camera, 0, 1, (4, 4), 0, captured_ns=exposed_ns or 0, exposed_ns=exposed_ns)
    return replace(frame, **more)  # type: ignore[arg-type]


def accepted(ledger: TriggerLedger, trigger_id: int, now_ns: int) -> Part:
    admitted = ledger.trigger("cam", trigger_id, now_ns)
    assert admitted.admission is Admission.ACCEPTED
    assert admitted.part is not None
    return admitted.part


def reason_of(part: Part) -> Reason:
    assert part.decision is not None
    return part.decision.reason


def test_a_part_whose_frame_was_judged_in_time_is_released_with_that_verdict() -> None:
    ledger = TriggerLedger(RULES, next_sequence=7)
    part = accepted(ledger, 3, 0)
    assert ledger.frame(seen(5), 6) == (FrameFate.MATCHED, part)
    assert ledger.judged(ledger.dispatch(part), PASS, 20) is JobFate.DECIDED
    assert ledger.release(21) is part
    assert (part.sequence, part.decision) == (7, PASS)
    assert ledger.is_empty


def test_a_part_whose_frame_may_be_the_one_that_was_lost_is_not_judged_by_the_next() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    has_one, waits = accepted(ledger, 1, 0), accepted(ledger, 2, 20)
    other = ledger.trigger("other", 3, 20).part
    assert other is not None
    assert ledger.frame(seen(10), 12) == (FrameFate.MATCHED, has_one)
    ledger.frame_lost("cam", 30, 31, Reason.BAD_FRAME, "cannot be read")
    assert reason_of(waits) is Reason.BAD_FRAME
    assert (has_one.decision, other.decision) == (None, None)
    assert ledger.frame(seen(40), 41) == (FrameFate.SURPLUS, None)
    ledger.frame_lost("cam", 5, 41, Reason.OVERRUN, "with a stamp that is too old")
    # One that we are told of late was at the camera before that as well; the next was not.
    late = ledger.trigger("cam", 4, 30).part
    assert late is not None
    assert reason_of(late) is Reason.BAD_FRAME
    later = accepted(ledger, 5, 45)
    assert ledger.frame(seen(46), 47) == (FrameFate.MATCHED, later)


def test_a_frame_exposed_before_its_trigger_is_stale_however_many_there_are() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 1000)
    for exposed_ns in range(980, 1000):
        assert ledger.frame(seen(exposed_ns), 1001)[0] is FrameFate.STALE
    assert ledger.frame(seen(1000), 1002) == (FrameFate.MATCHED, part)


def test_a_frame_that_shows_the_next_part_is_not_given_to_the_one_before() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    first, second = accepted(ledger, 1, 0), accepted(ledger, 2, 20)
    assert ledger.frame(seen(25), 26) == (FrameFate.MATCHED, second)
    assert reason_of(first) is Reason.NO_FRAME


@pytest.mark.parametrize("is_judged", [False, True])
def test_a_trigger_that_was_told_late_takes_its_frame_from_the_part_before(
    is_judged: bool,
) -> None:
    """Windows may overlap: then the frame seemed to be of the part before, which had none."""
    ledger = TriggerLedger(RULES, next_sequence=1)
    first = accepted(ledger, 1, 0)
    assert ledger.frame(seen(25), 26) == (FrameFate.MATCHED, first)
    job = ledger.dispatch(first)
    if is_judged:
        assert ledger.judged(job, PASS, 27) is JobFate.DECIDED
    second = accepted(ledger, 2, 20)  # it came at 20, and we hear of it at 28
    assert reason_of(first) is Reason.STALE_FRAME
    assert ledger.release(28) is first
    assert reason_of(first) is Reason.STALE_FRAME
    assert second.decision is None
    if not is_judged:
        assert ledger.judged(job, PASS, 29) is JobFate.LATE


def test_a_camera_that_triggers_itself_and_does_not_tell_an_exposure_shows_no_part() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    frame = seen(None, captured_ns=5)
    part = ledger.frame_is_part(frame, 6, is_trigger=True).part
    assert part is not None
    assert reason_of(part) is Reason.CLOCK
    assert part.frame is frame
    part = ledger.frame_is_part(frame, 6, is_trigger=False).part  # it runs freely
    assert part is not None
    assert part.decision is None


def test_after_the_clock_stood_still_nothing_from_before_passes() -> None:
    ledger = TriggerLedger(replace(RULES, in_flight=8), next_sequence=1)
    judged, waiting, empty = (accepted(ledger, number, 10 * number) for number in (1, 2, 3))
    ledger.frame(seen(11), 12)
    ledger.judged(ledger.dispatch(judged), PASS, 13)
    ledger.frame(seen(25), 26)
    job = ledger.dispatch(waiting)
    ledger.distrust_all("the machine was suspended for 3600.0 s", 45)
    assert {reason_of(part) for part in (judged, waiting, empty)} == {Reason.CLOCK}
    assert ledger.judged(job, PASS, 46) is JobFate.LATE
    assert [ledger.release(46) for _ in range(3)] == [judged, waiting, empty]
    late = accepted(ledger, 4, 42)  # given before, taken behind
    ledger.frame(seen(47), 48)
    assert reason_of(late) is Reason.CLOCK
    queued = ledger.frame_is_part(seen(44), 49, is_trigger=True).part  # it lay in a queue
    assert queued is not None
    assert reason_of(queued) is Reason.CLOCK
    fresh = accepted(ledger, 5, 60)
    assert ledger.frame(seen(61), 62) == (FrameFate.MATCHED, fresh)
    assert ledger.judged(ledger.dispatch(fresh), PASS, 63) is JobFate.DECIDED


def test_a_frame_of_a_part_that_found_no_room_is_not_given_to_the_one_before() -> None:
    ledger = TriggerLedger(replace(RULES, in_flight=1), next_sequence=1)
    first = accepted(ledger, 1, 0)
    assert ledger.trigger("cam", 2, 20).admission is Admission.OVERRUN
    assert ledger.frame(seen(25), 26) == (FrameFate.SURPLUS, None)
    assert reason_of(first) is Reason.NO_FRAME


def test_the_exposure_delay_keeps_parts_on_their_way_to_the_camera_apart() -> None:
    rules = replace(RULES, exposure_delay_ns=40, exposure_window_ns=15)
    ledger = TriggerLedger(rules, next_sequence=1)
    first, second = accepted(ledger, 1, 0), accepted(ledger, 2, 20)
    assert ledger.frame(seen(30), 31)[0] is FrameFate.STALE
    assert ledger.frame(seen(41), 42) == (FrameFate.MATCHED, first)
    assert ledger.frame(seen(61), 62) == (FrameFate.MATCHED, second)


def test_a_frame_after_the_window_is_nobody_s() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    assert ledger.frame(seen(51), 60) == (FrameFate.SURPLUS, None)
    assert reason_of(part) is Reason.NO_FRAME


def test_a_camera_with_less_than_its_share_finds_room_whoever_took_it_all() -> None:
    ledger = TriggerLedger(replace(RULES, in_flight=4), next_sequence=1, cameras=2)
    fast = [ledger.trigger("fast", 100 + n, 20 * n).admission for n in range(5)]
    assert fast == [*[Admission.ACCEPTED] * 4, Admission.OVERRUN]
    slow = [ledger.trigger("slow", 200 + n, 20 * n).admission for n in range(3)]
    assert slow == [*[Admission.ACCEPTED] * 2, Admission.OVERRUN]
    assert ledger.trigger("fast", 110, 200).admission is Admission.OVERRUN


@pytest.mark.parametrize("exposed_ns", [None, 900])
def test_a_frame_without_a_credible_exposure_is_unknown(exposed_ns: int | None) -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    ledger.frame(seen(exposed_ns), 10)
    assert reason_of(part) is Reason.CLOCK


def test_a_faulty_frame_decides_its_part_at_once() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    frame = seen(5, fault=Reason.FROZEN_FRAME, fault_detail="repeats")
    assert ledger.frame(frame, 6) == (FrameFate.MATCHED, part)
    assert reason_of(part) is Reason.FROZEN_FRAME
    with pytest.raises(ValueError, match="not waiting"):
        ledger.dispatch(part)


def test_the_same_trigger_again_is_the_same_part_decided_or_not() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    assert ledger.trigger("cam", 1, 50).part is part
    ledger.expire(100)
    ledger.release(100)
    again = ledger.trigger("cam", 1, 500)
    assert (again.admission, again.part) == (Admission.DUPLICATE, part)
    assert ledger.next_sequence == 2


def test_a_bounce_is_no_part() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    accepted(ledger, 1, 0)
    assert ledger.trigger("cam", 2, 9).admission is Admission.BOUNCE
    assert ledger.trigger("cam", 2, 10).admission is Admission.ACCEPTED


def test_a_late_answer_is_discarded_and_an_unasked_one_is_strange() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    ledger.frame(seen(1), 2)
    job = ledger.dispatch(part)
    ledger.expire(100)
    assert ledger.judged(job, PASS, 101) is JobFate.LATE
    assert ledger.judged(job, PASS, 102) is JobFate.STRANGE
    assert reason_of(part) is Reason.DEADLINE


def test_an_answer_at_the_deadline_is_late() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    ledger.frame(seen(1), 2)
    assert ledger.judged(ledger.dispatch(part), PASS, 100) is JobFate.LATE
    assert reason_of(part) is Reason.DEADLINE


def test_a_pass_that_waited_for_its_turn_until_its_deadline_is_none() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    accepted(ledger, 1, 0)
    part = accepted(ledger, 2, 10)
    ledger.frame(seen(11), 12)
    ledger.judged(ledger.dispatch(part), PASS, 20)
    assert ledger.release(110) is not part
    assert ledger.release(110) is part
    assert reason_of(part) is Reason.DEADLINE


def test_the_pass_signal_is_due_when_the_part_is_at_the_ejector() -> None:
    rules = replace(RULES, ejector_delay_ns=300, ejector_window_ns=20)
    ledger = TriggerLedger(rules, next_sequence=1)
    part = accepted(ledger, 1, 0)
    ledger.frame(seen(5), 6)
    assert (ledger.accept_from_ns(part), ledger.accept_until_ns(part)) == (305, 325)


def test_jobs_of_a_lost_engine_wait_again() -> None:
    ledger = TriggerLedger(RULES, next_sequence=1)
    part = accepted(ledger, 1, 0)
    ledger.frame(seen(1), 2)
    job = ledger.dispatch(part)
    assert ledger.lost_jobs() == [part]
    assert ledger.judged(job, PASS, 3) is JobFate.STRANGE
    assert ledger.judged(ledger.dispatch(part), PASS, 4) is JobFate.DECIDED


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline_ns": 0},
        {"exposure_window_ns": 0},
        {"exposure_delay_ns": -1},
        {"exposure_delay_ns": 100},
        {"in_flight": 0},
        {"remembered": 2},
        {"ejector_delay_ns": -1},
    ],
)
def test_rules_that_no_part_could_meet_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        replace(RULES, **wrong)  # type: ignore[arg-type]


class LedgerMachine(RuleBasedStateMachine):
    """Random triggers, frames, answers and waits against the promises of the contract."""

    @initialize(
        delay=st.integers(0, 30), window=st.integers(1, 120), ejector=st.none() | st.integers(0, 99)
    )
    def start(self, delay: int, window: int, ejector: int | None) -> None:
        self.rules = replace(
            RULES, exposure_delay_ns=delay, exposure_window_ns=window, ejector_delay_ns=ejector
        )
        self.ledger = TriggerLedger(self.rules, next_sequence=1, cameras=2)
        self.now = 1000
        self.exposed = {"a": 0, "b": 0}
        self.lost = {"a": -1, "b": -1}
        self.accepted: list[Part] = []
        self.released: list[Part] = []
        self.jobs: list[int] = []
        self.ids: dict[int, Part] = {}

    @rule(step=st.integers(1, 60))
    def time_passes(self, step: int) -> None:
        self.now += step
        for part in self.ledger.expire(self.now):
            assert part.deadline_ns <= self.now

    @rule(camera=st.sampled_from("ab"), trigger_id=st.integers(1, 6), late=st.integers(0, 30))
    def trigger(self, camera: str, trigger_id: int, late: int) -> None:
        admitted = self.ledger.trigger(camera, trigger_id, self.now - late)
        if admitted.admission is Admission.BOUNCE:
            assert admitted.part is None
        elif admitted.admission is Admission.DUPLICATE:
            assert admitted.part is self.ids[trigger_id]
        else:
            assert admitted.part is not None
            self.accepted.append(admitted.part)
            self.ids[trigger_id] = admitted.part
            is_overrun = admitted.admission is Admission.OVERRUN
            is_lost = admitted.part.earliest_ns <= self.lost[camera]
            assert (is_overrun or is_lost) == (admitted.part.decision is not None)

    @rule(camera=st.sampled_from("ab"), age=st.integers(-5, 150), faulty=st.booleans())
    def frame(self, camera: str, age: int, faulty: bool) -> None:
        exposed_ns = max(self.exposed[camera], self.now - age)  # a camera's frames come in order
        self.exposed[camera] = exposed_ns
        fault = Reason.BAD_FRAME if faulty else None
        _, part = self.ledger.frame(seen(exposed_ns, camera, fault=fault), self.now)
        if part is not None and part.decision is None:
            self.jobs.append(self.ledger.dispatch(part))

    @rule(camera=st.sampled_from("ab"), age=st.integers(0, 40))
    def frame_lost(self, camera: str, age: int) -> None:
        by_ns = self.now - age
        self.lost[camera] = max(by_ns, self.lost[camera])
        waited = [part for part in self.ledger.undecided if part.frame is None]
        self.ledger.frame_lost(camera, by_ns, self.now, Reason.BAD_FRAME, "lost")
        for part in waited:
            is_lost = part.camera == camera and part.earliest_ns <= by_ns
            assert (part.decision is not None) == is_lost

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), good=st.booleans())
    def answer(self, data: st.DataObject, good: bool) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self.jobs.remove(job)
        decision = PASS if good else replace(PASS, verdict=Verdict.FAIL, reason=Reason.DEFECT)
        assert self.ledger.judged(job, decision, self.now) is not JobFate.STRANGE

    @rule()
    def unasked_answer(self) -> None:
        assert self.ledger.judged(10**9, PASS, self.now) is JobFate.STRANGE

    @rule()
    def engine_dies(self) -> None:
        lost = self.ledger.lost_jobs()
        self.jobs = []
        for part in lost[:1]:
            self.ledger.fail(part, Reason.ENGINE_ERROR, "gone", self.now)
        self.jobs = [self.ledger.dispatch(part) for part in lost[1:]]

    @rule()
    def missed(self) -> None:
        self.accepted.append(self.ledger.missed("a", self.now, "gap"))

    @rule()
    def release(self) -> None:
        while (part := self.ledger.release(self.now)) is not None:
            assert part.decision is not None
            self.released.append(part)
            if part.decision.verdict is Verdict.PASS:
                assert self.now < part.deadline_ns
                assert part.frame is not None
                assert part.frame.exposed_ns is not None
                assert part.frame.exposed_ns >= part.triggered_ns + self.rules.exposure_delay_ns
                newer = [each for each in self.accepted if each.sequence > part.sequence]
                same = [each.earliest_ns for each in newer if each.camera == part.camera]
                # Whoever was told of a trigger late, its part's frame is no other part's.
                assert not [at for at in same if at <= part.frame.exposed_ns]

    @invariant()
    def each_accepted_part_is_released_once_and_in_order(self) -> None:
        if hasattr(self, "ledger"):
            assert self.released == self.accepted[: len(self.released)]
            assert [each.sequence for each in self.accepted] == list(
                range(1, len(self.accepted) + 1)
            )
            share = self.rules.in_flight // 2
            assert len(self.ledger.undecided) <= self.rules.in_flight + share

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.now += 10**6
            self.ledger.expire(self.now)
            self.release()
            assert self.released == self.accepted
            assert self.ledger.is_empty


LedgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase
