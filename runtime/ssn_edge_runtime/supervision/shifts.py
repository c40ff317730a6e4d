"""Shifts: local times of day at which counting begins anew, over changes of the clocks, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ssn_edge_runtime.errors import ConfigError

_LOCALTIME = Path("/etc/localtime")


@dataclass(frozen=True, slots=True, order=True)
class Shift:
    """One shift.

    Args:
        begins_at: UTC.
        ends_at: UTC, the beginning of the next.
        name: Its beginning in local time with the offset, such as ``2026-11-28T06:00+01:00``.
    """

    begins_at: datetime
    ends_at: datetime
    name: str


class ShiftCalendar:
    """Which shift a moment belongs to: exactly one, whatever the clocks do.

    A beginning that a change of the clocks leaves out is moved on by as much; one that comes twice
    counts the first time.

    Args:
        starts: Times of day such as ``06:00``.
        zone: Name of a time zone; empty for the device's own.
    """

    def __init__(self, starts: Sequence[str], zone: str = "") -> None:
        if not starts:
            raise ConfigError("shifts: at least one beginning is wanted, such as 06:00")
        try:
            self._starts = sorted({time.fromisoformat(start) for start in starts})
        except ValueError as error:
            raise ConfigError(f"shifts begin at {', '.join(starts)}; 06:00 is a time") from error
        self._zone = _zone(zone)

    def shift_of(self, moment: datetime) -> Shift:
        """The shift that holds a moment.

        Args:
            moment: With a time zone.
        """
        moment = moment.astimezone(timezone.utc)
        today = moment.astimezone(self._zone).date()
        begins = self._begins(today)
        at = max(index for index, (begin, _) in enumerate(begins) if begin <= moment)
        begins_at, local = begins[at]
        return Shift(begins_at, begins[at + 1][0], local.isoformat(timespec="minutes"))

    def _begins(self, day: date) -> list[tuple[datetime, datetime]]:
        """All beginnings around a day, in UTC and in local time, in order, each moment once."""
        found: dict[datetime, datetime] = {}
        for days in (-2, -1, 0, 1, 2):
            for start in self._starts:
                local = datetime.combine(day + timedelta(days=days), start, self._zone)
                begin = local.astimezone(timezone.utc)
                found.setdefault(begin, begin.astimezone(self._zone))
        return sorted(found.items())


def _zone(name: str) -> tzinfo:
    try:
        if name:
            return ZoneInfo(name)
        # Not the C library's idea of local time, which knows one offset: the rules themselves.
        with _LOCALTIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not name:
            return timezone.utc  # a device without /etc/localtime keeps UTC
        raise ConfigError(
            f"time zone {name!r} is not known here; one such as Europe/Berlin is wanted (and the "
            "system's tzdata package)"
        ) from error
