"""Counters add up, whatever comes when; and the rate of rejects is that of its window."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.supervision import ShiftCalendar, ShiftCounters
from ssn_edge_runtime.supervision.counters import SHIFTS_KEPT, RejectRate

BEGIN = datetime(2026, 11, 28, tzinfo=timezone.utc)
CALENDAR = ShiftCalendar(("06:00", "14:00", "22:00"), "Europe/Berlin")

outcomes = st.sampled_from(
    [("pass", "none"), ("fail", "defect"), ("unknown", "no_frame"), ("unknown", "deadline")]
)
parts = st.lists(
    st.tuples(st.integers(0, 40 * 3600), outcomes, st.sampled_from([None, "large", "small"])),
    max_size=80,
)


@given(parts=parts)
def test_each_part_is_counted_once_in_its_shift_and_recipe(
    parts: list[tuple[int, tuple[str, str], str | None]],
) -> None:
    counters, wanted = ShiftCounters(CALENDAR), Counter[tuple[str, str | None, str]]()
    for second, (verdict, reason), recipe in parts:
        moment = BEGIN + timedelta(seconds=second)
        shift = counters.add(moment, verdict, reason, recipe)
        assert shift == CALENDAR.shift_of(moment)
        wanted[shift.name, recipe, verdict] += 1
    found = Counter[tuple[str, str | None, str]]()
    for row in counters.to_list():
        verdicts = row["verdicts"]
        assert isinstance(verdicts, dict)
        assert isinstance(row["reasons"], dict)
        assert row["parts"] == sum(verdicts.values())
        assert sum(row["reasons"].values()) == verdicts["fail"] + verdicts["unknown"]
        found.update({(row["shift"], row["recipe"], v): n for v, n in verdicts.items()})  # type: ignore[misc]
    assert +found == wanted
    json.dumps(counters.to_list(), allow_nan=False)


@given(parts=parts, cut=st.integers(0, 80))
def test_counters_come_back_from_the_journal_as_they_were(
    parts: list[tuple[int, tuple[str, str], str | None]], cut: int
) -> None:
    whole, restarted = ShiftCounters(CALENDAR), ShiftCounters(CALENDAR)
    lines: list[dict[str, object]] = [{"kind": "event", "event": "start"}, {"kind": "verdict"}]
    for second, (verdict, reason), recipe in parts:
        moment = BEGIN + timedelta(seconds=second)
        whole.add(moment, verdict, reason, recipe)
        lines.append(
            {
                "kind": "verdict",
                "decided_at": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "verdict": verdict,
                "reason": reason,
                "recipe": recipe,
            }
        )
    before, after = lines[: cut + 2], lines[cut + 2 :]
    assert restarted.rebuild(before) == len(before) - 2
    restarted.rebuild(after)
    assert restarted.to_list() == whole.to_list()


def test_old_shifts_are_forgotten() -> None:
    counters = ShiftCounters(CALENDAR)
    for hour in range(0, 24 * 30, 4):
        counters.add(BEGIN + timedelta(hours=hour), "pass", "none", None)
    assert len(counters.to_list()) == SHIFTS_KEPT


def test_a_wall_clock_that_steps_back_counts_in_the_earlier_shift() -> None:
    counters = ShiftCounters(CALENDAR)
    later = counters.add(BEGIN + timedelta(hours=9), "pass", "none", None)
    earlier = counters.add(BEGIN, "fail", "defect", None)
    assert earlier < later
    assert counters.of(earlier)[""].verdicts["fail"] == 1
    assert counters.of(later)[""].reject_rate == 0.0


@given(
    steps=st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=200),
    window_s=st.sampled_from([1.0, 6.0, 60.0]),
)
def test_the_rate_is_of_the_parts_within_the_window(
    steps: list[tuple[float, bool]], window_s: float
) -> None:
    rate, now_s, seen = RejectRate(window_s), 1000.0, []
    bucket_s = window_s / 60
    for step, is_reject in steps:
        now_s += step
        rate.add(is_reject, now_s)
        seen.append((now_s, is_reject))
        surely = [each for each in seen if now_s - each[0] < window_s - bucket_s * 1.001]
        perhaps = [each for each in seen if now_s - each[0] <= window_s * 1.001]
        assert len(surely) <= rate.parts(now_s) <= len(perhaps)
        found = rate.rate(now_s)
        assert found is not None
        rejects = found * rate.parts(now_s)
        low, high = (sum(reject for _, reject in some) for some in (surely, perhaps))
        assert low - 1e-6 <= rejects <= high + 1e-6
    assert rate.rate(now_s + window_s * 1.1) is None


def test_a_window_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        RejectRate(0)
