"""Alarms call a person or halt the line, once each, and judge nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.settings import LineSettings
from ssn_edge_runtime.supervision import Alarm, AlarmKind, AlarmLimits, Alarms

verdicts = st.lists(st.sampled_from(list(Verdict)), max_size=120)


def raised(alarms: Alarms, sequence: list[Verdict], step_s: float = 1.0) -> list[Alarm]:
    found = []
    for index, verdict in enumerate(sequence, start=1):
        found += alarms.add(verdict, index, index * step_s)
    return found


@given(sequence=verdicts, alarm_after=st.integers(1, 6), halt_after=st.integers(1, 9))
def test_so_many_rejects_in_a_row_raise_once_until_a_part_passes(
    sequence: list[Verdict], alarm_after: int, halt_after: int
) -> None:
    alarms = Alarms(AlarmLimits(alarm_after=alarm_after, halt_after=halt_after))
    found = raised(alarms, sequence)
    wanted, in_a_row = [], 0
    for index, verdict in enumerate(sequence, start=1):
        in_a_row = 0 if verdict is Verdict.PASS else in_a_row + 1
        for limit, is_halt in ((alarm_after, False), (halt_after, True)):
            if in_a_row == limit:
                wanted.append((index, limit, is_halt))
    assert [(each.sequence, each.limit, each.is_halt) for each in found] == wanted
    assert alarms.in_a_row == in_a_row
    halts = [each for each in found if each.is_halt]
    assert alarms.halted == (halts[0] if halts else None)


@given(sequence=verdicts)
def test_without_limits_nothing_is_raised(sequence: list[Verdict]) -> None:
    alarms = Alarms(AlarmLimits())
    assert raised(alarms, sequence) == []
    assert alarms.halted is None


def test_unknowns_count_as_much_as_fails() -> None:
    alarms = Alarms(AlarmLimits(alarm_after=3))
    (alarm,) = raised(alarms, [Verdict.UNKNOWN, Verdict.FAIL, Verdict.UNKNOWN, Verdict.FAIL])
    assert (alarm.kind, alarm.value, alarm.sequence) == (AlarmKind.IN_A_ROW, 3, 3)
    assert str(alarm) == "3 parts in a row did not pass (limit 3)"


def test_a_rate_raises_once_and_again_only_after_it_fell() -> None:
    limits = AlarmLimits(alarm_reject_rate=0.5, reject_window_s=60, reject_min_parts=10)
    alarms = Alarms(limits)
    bad, good = [Verdict.FAIL], [Verdict.PASS]
    found = raised(alarms, bad * 9 + good * 5 + bad * 20 + good * 90 + bad * 60)
    assert [each.sequence for each in found] == [10, 154]  # half of the last 60
    assert all(each.value >= 0.5 and not each.is_halt for each in found)
    assert "% of the parts did not pass (limit 50.0%)" in str(found[0])


@given(sequence=verdicts, limit=st.floats(0.05, 1), least=st.integers(1, 30))
def test_a_rate_below_its_limit_or_of_few_parts_never_raises(
    sequence: list[Verdict], limit: float, least: int
) -> None:
    alarms = Alarms(
        AlarmLimits(halt_reject_rate=limit, reject_window_s=1e6, reject_min_parts=least)
    )
    rejects = 0
    for index, verdict in enumerate(sequence, start=1):
        rejects += verdict is not Verdict.PASS
        found = alarms.add(verdict, index, float(index))
        if found:
            assert index >= least
            assert rejects / index >= limit
            assert found[0].is_halt


def test_a_lower_limit_strikes_at_the_next_reject() -> None:
    alarms = Alarms(AlarmLimits(alarm_after=10))
    assert raised(alarms, [Verdict.FAIL] * 5) == []
    alarms.use(AlarmLimits(alarm_after=3))
    (alarm,) = alarms.add(Verdict.FAIL, 6, 6.0)
    assert alarm.value == 6


def test_limits_are_those_of_the_settings() -> None:
    line = LineSettings(alarm_after=5, halt_after=20, halt_reject_rate=0.3)
    limits = AlarmLimits.from_settings(line)
    assert (limits.alarm_after, limits.halt_after, limits.halt_reject_rate) == (5, 20, 0.3)
