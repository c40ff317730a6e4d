"""Each moment belongs to one shift, on the days when the clocks change, too."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.supervision import ShiftCalendar

UTC = timezone.utc
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
starts = st.lists(
    st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 30])),
    min_size=1,
    max_size=4,
    unique=True,
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@given(moment=moments, starts=starts, zone=st.sampled_from(ZONES))
def test_shifts_follow_each_other_without_a_gap_and_hold_their_moments(
    moment: datetime, starts: list[str], zone: str
) -> None:
    calendar = ShiftCalendar(starts, zone)
    shift = calendar.shift_of(moment)
    assert shift.begins_at <= moment < shift.ends_at
    assert timedelta(0) < shift.ends_at - shift.begins_at <= timedelta(hours=25)
    assert calendar.shift_of(shift.begins_at) == shift
    assert calendar.shift_of(shift.ends_at - timedelta(microseconds=1)) == shift
    following = calendar.shift_of(shift.ends_at)
    assert following.begins_at == shift.ends_at
    assert following.name != shift.name


@given(moment=moments, starts=starts, zone=st.sampled_from(ZONES), hours=st.integers(-12, 12))
def test_the_zone_in_which_a_moment_is_written_does_not_matter(
    moment: datetime, starts: list[str], zone: str, hours: int
) -> None:
    calendar = ShiftCalendar(starts, zone)
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    assert calendar.shift_of(elsewhere) == calendar.shift_of(moment)


@pytest.mark.parametrize(
    ("moment", "name", "hours"),
    [
        ("2026-03-28T23:00+01:00", "2026-03-28T22:00+01:00", 7),  # the clocks go forward
        ("2026-10-24T23:00+02:00", "2026-10-24T22:00+02:00", 9),  # and back
        ("2026-11-28T05:59+01:00", "2026-11-27T22:00+01:00", 8),
        ("2026-11-28T06:00+01:00", "2026-11-28T06:00+01:00", 8),
    ],
)
def test_a_night_shift_is_as_long_as_the_night(moment: str, name: str, hours: int) -> None:
    shift = ShiftCalendar(("06:00", "14:00", "22:00"), "Europe/Berlin").shift_of(at(moment))
    assert shift.name == name
    assert shift.ends_at - shift.begins_at == timedelta(hours=hours)


def test_a_beginning_that_the_clocks_leave_out_is_moved_on() -> None:
    calendar = ShiftCalendar(("02:30",), "Europe/Berlin")
    assert calendar.shift_of(at("2026-03-29T12:00+02:00")).name == "2026-03-29T03:30+02:00"


def test_a_beginning_that_comes_twice_counts_the_first_time() -> None:
    calendar = ShiftCalendar(("02:30",), "Europe/Berlin")
    assert calendar.shift_of(at("2026-10-25T02:45+02:00")).name == "2026-10-25T02:30+02:00"
    assert calendar.shift_of(at("2026-10-25T02:45+01:00")).name == "2026-10-25T02:30+02:00"


def test_the_device_has_a_zone_of_its_own() -> None:
    now = datetime.now(UTC)
    assert ShiftCalendar(("00:00",)).shift_of(now).begins_at <= now


@pytest.mark.parametrize(
    ("starts", "zone", "complaint"),
    [
        ((), "UTC", "at least one"),
        (("6 o'clock",), "UTC", "06:00 is a time"),
        (("06:00",), "Mars/Olympus", "time zone 'Mars/Olympus' is not known here"),
        (("06:00",), "../etc", "is not known here"),
    ],
)
def test_a_calendar_that_is_none_is_refused(
    starts: tuple[str, ...], zone: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ShiftCalendar(starts, zone)
