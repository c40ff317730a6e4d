from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.defects import Defect
from ssn_edge_runtime.line.engine_desk import JudgeIdentity, checked_decision
from ssn_edge_runtime.line.messages import (
    Message,
    MessageError,
    decision_fields,
    decision_from,
    decode,
    encode,
)
from ssn_edge_runtime.line.wall_clock import WallClock
from ssn_edge_runtime.line.worker_process import SECOND_NS, RestartBudget, WorkerLimits
from ssn_edge_runtime.line.zone_limits import ZoneLimits
from ssn_edge_runtime.sound_decision import is_sound

IDENTITY = JudgeIdentity("ab" * 32, "fp32", "simulated", "cd" * 32, 0.0, 50.0)
GOOD = Decision(Verdict.PASS, Reason.NONE, score=0.1, raw_score=-2.0, threshold=0.0)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def result(fields: dict[str, object]) -> Message:
    return decode(encode("result", {"decision": fields}))


def test_a_decision_comes_over_as_it_was_sent() -> None:
    decision = Decision(
        Verdict.FAIL,
        Reason.DEFECT,
        score=0.9,
        raw_score=3.0,
        threshold=0.0,
        defects=(Defect((1, 2, 3, 4), 4.0, 0.9, 0.8),),
        timings_ms={"infer": 2.5},
    )
    came, count = decision_from(result(decision_fields(decision)).inner("decision"))
    assert (decision_fields(came), count) == (decision_fields(decision), 1)


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**63, -(2**63) - 1])
def test_a_number_that_no_clock_and_no_database_holds_is_a_message_error(number: int) -> None:
    message = decode(encode("frame", {"exposed_ns": number}))
    with pytest.raises(MessageError, match="64 bit"):
        message.whole_or_none("exposed_ns")
    if abs(number) > 2**64:
        with pytest.raises(MessageError, match="finite"):
            message.number("exposed_ns")
        decision, _ = checked_decision(result(decision_fields(GOOD) | {"score": number}), IDENTITY)
        assert (decision.verdict, decision.reason) == ("unknown", "invalid_output")
        assert not is_sound(replace(GOOD, score=number))


@given(packet=st.binary(max_size=80) | JSON.map(lambda each: json.dumps(each).encode()))
def test_any_packet_is_a_message_or_a_message_error(packet: bytes) -> None:
    try:
        message = decode(packet)
        message.whole("job")
    except MessageError:
        pass


@given(name=st.sampled_from(sorted(decision_fields(GOOD))), value=JSON)
def test_an_answer_with_one_wrong_field_is_no_pass_but_a_sound_one(
    name: str, value: object
) -> None:
    decision, _ = checked_decision(result(decision_fields(GOOD) | {name: value}), IDENTITY)
    if decision.verdict is Verdict.PASS:
        assert decision.reason is Reason.NONE
        assert decision.raw_score is not None
        assert math.isfinite(decision.raw_score)
        assert decision.raw_score < 0.0 == decision.threshold


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GOOD, threshold=1.0),
        replace(GOOD, raw_score=None),
        replace(GOOD, raw_score=0.0),
        replace(GOOD, reason=Reason.DEFECT),
        replace(GOOD, defects=(Defect((0, 0, 9, 9), 50.0, 0.9, 0.8),)),
    ],
)
def test_a_pass_that_does_not_hold_together_is_unknown(wrong: Decision) -> None:
    decision, _ = checked_decision(result(decision_fields(wrong)), IDENTITY)
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.INVALID_OUTPUT)


IN_ZONES = replace(
    IDENTITY, zones=ZoneLimits({"weld": -1.0, "rim": 3.0}, {"weld": 20.0, "rim": None})
)
SMALL = Defect((0, 0, 4, 4), 19.0, 0.9, 0.8, 20.0)


@pytest.mark.parametrize(
    "sound",
    [
        GOOD,
        replace(GOOD, zone="weld", threshold=-1.0),
        replace(GOOD, zone="rim", threshold=3.0, raw_score=2.5),
        replace(GOOD, defects=(SMALL,)),
        replace(GOOD, defects=(Defect((0, 0, 99, 99), 999.0, 0.9, 0.8, None),)),
    ],
)
def test_a_pass_is_held_to_the_threshold_and_the_area_of_its_zone(sound: Decision) -> None:
    decision, _ = checked_decision(result(decision_fields(sound)), IN_ZONES)
    assert decision.verdict is Verdict.PASS
    assert decision.zone == sound.zone
    assert decision.defects == sound.defects


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (replace(GOOD, threshold=3.0), "another threshold"),
        (replace(GOOD, zone="weld"), "another threshold"),
        (replace(GOOD, zone="weld", threshold=3.0), "another threshold"),
        (replace(GOOD, zone="rim", threshold=3.0, raw_score=3.0), "contradicts itself"),
        (replace(GOOD, zone="other"), "a zone that is not in force"),
        (replace(GOOD, zone="rim", threshold=None), "without a score"),
        (replace(GOOD, defects=(replace(SMALL, area_px=20.0),)), "contradicts itself"),
        (replace(GOOD, defects=(replace(SMALL, min_area_px=99.0),)), "another minimum area"),
    ],
)
def test_a_pass_by_another_zone_than_those_in_force_is_unknown(
    wrong: Decision, complaint: str
) -> None:
    decision, _ = checked_decision(result(decision_fields(wrong)), IN_ZONES)
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.INVALID_OUTPUT)
    assert complaint in decision.detail


def test_without_zones_no_answer_may_name_one() -> None:
    for wrong in (replace(GOOD, zone="weld"), replace(GOOD, defects=(SMALL,))):
        decision, _ = checked_decision(result(decision_fields(wrong)), IDENTITY)
        assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.INVALID_OUTPUT)


@given(told=JSON)
def test_zones_that_are_none_are_a_message_error(told: object) -> None:
    try:
        limits = ZoneLimits.of(result({}) if told is None else decode(encode("", {"zones": told})))
    except MessageError:
        return
    assert all(math.isfinite(each) for each in limits.thresholds.values())


def test_nobody_passes_before_the_engine_said_who_it_is() -> None:
    assert checked_decision(result(decision_fields(GOOD)), None)[0].verdict is Verdict.UNKNOWN


@given(st.lists(st.integers(0, 40 * SECOND_NS), max_size=20))
def test_the_restart_budget_never_gives_more_than_its_number_in_a_window(
    steps: list[int],
) -> None:
    limits = WorkerLimits(restarts=3, window_ns=60 * SECOND_NS)
    budget = RestartBudget(limits)
    now_ns, taken = 0, []
    for step in steps:
        now_ns += step
        if budget.take(now_ns) is not None:
            taken.append(now_ns)
        in_window = [each for each in taken if now_ns - each < limits.window_ns]
        assert len(in_window) <= 3
    assert budget.ever == len(taken)


@pytest.mark.parametrize("step_s", [3600, -7200])
def test_a_step_of_the_wall_clock_is_seen_once_and_slewing_is_not(step_s: int) -> None:
    offset_ns, now_ns = 0, 0
    clock = WallClock(lambda: now_ns + offset_ns, monotonic=lambda: now_ns)
    now_ns, offset_ns = SECOND_NS, 1_000_000
    assert clock.step_ns() == 0
    offset_ns += step_s * SECOND_NS
    assert clock.step_ns() == step_s * SECOND_NS
    assert clock.step_ns() == 0
    assert clock.utc(now_ns).timestamp() == pytest.approx((now_ns + offset_ns) / 1e9)
