"""Watching one run of the line: counters, alarms, health, settings, the service manager."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Protocol

from ssn_edge_runtime.decision import Decision, Reason, Verdict, unknown
from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord
from ssn_edge_runtime.settings import DeviceSettings, LineSettings
from ssn_edge_runtime.supervision.alarms import Alarm, AlarmLimits, Alarms
from ssn_edge_runtime.supervision.counters import ShiftCounters
from ssn_edge_runtime.supervision.drift import DriftAlarm, DriftMonitor
from ssn_edge_runtime.supervision.hardware_watchdog import HardwareWatchdog
from ssn_edge_runtime.supervision.health import Health, HealthSampler
from ssn_edge_runtime.supervision.health_notes import HealthNotes
from ssn_edge_runtime.supervision.heartbeat import Heartbeat
from ssn_edge_runtime.supervision.journal_reading import verdicts_since
from ssn_edge_runtime.supervision.notify import Notifier
from ssn_edge_runtime.supervision.shifts import ShiftCalendar

STATUS_EVERY_S = 2.0
STALE_HEALTH_S = 30.0
"""A sensor thread that is silent for so long hangs; its last look is no proof of anything."""

logger = logging.getLogger(__name__)


class AppliesSettings(Protocol):
    """What a supervisor needs of an `Inspector`."""

    @property
    def settings(self) -> DeviceSettings | None:
        """In force now."""
        ...

    @property
    def recipe(self) -> str | None:
        """Which of their recipes."""
        ...

    def apply_settings(self, settings: Path, recipe: str | None = None) -> None:
        """Judge with these from the next part on."""
        ...


@dataclass(frozen=True, slots=True)
class Overrides:
    """Limits that the command line states; None leaves the settings' own."""

    alarm_after: int | None = None
    halt_after: int | None = None
    alarm_reject_rate: float | None = None
    halt_reject_rate: float | None = None
    max_temperature_c: float | None = None

    def over(self, line: LineSettings) -> LineSettings:
        """The settings' limits with these in their place."""
        stated = {name: getattr(self, name) for name in self.__slots__}
        return replace(line, **{name: each for name, each in stated.items() if each is not None})


class Supervisor:
    """A `LineObserver`, and a context manager around a run. It changes no verdict.

    An overheated device gives `unknown(overheated)` before a part is judged; a limit on rejects
    raises an alarm or halts. A settings file that was replaced is applied between two parts; one
    that does not fit is refused, with an event, and the old settings stay in force.

    Args:
        judge: Whose settings are watched.
        settings_path: The file in force; None where there is none.
        overrides: Limits that beat the settings'.
        drift: Watches scores and brightness; None watches neither.
        health: Of this device; the supervisor opens and closes it. None looks at nothing.
        notifier: The service manager; the caller closes it.
        hardware: The board's watchdog; the supervisor opens and closes it. None for none.
        on_alarm: Told each alarm, as it is raised.
        on_record: Told each record.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        judge: AppliesSettings,
        *,
        settings_path: Path | None = None,
        overrides: Overrides | None = None,
        drift: DriftMonitor | None = None,
        health: HealthSampler | None = None,
        notifier: Notifier | None = None,
        hardware: HardwareWatchdog | None = None,
        on_alarm: Callable[[Alarm | DriftAlarm], None] = lambda alarm: None,
        on_record: Callable[[DecisionRecord], None] = lambda record: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judge = judge
        self._settings_path = settings_path
        self._overrides = overrides or Overrides()
        self._drift = drift
        self._health = health
        self._health_notes = HealthNotes()
        self._notifier = notifier or Notifier()
        self._on_alarm = on_alarm
        self._on_record = on_record
        self._clock = clock
        self._line = self._limits()
        self._alarms = Alarms(AlarmLimits.from_settings(self._line))
        self._counters = ShiftCounters(ShiftCalendar(self._line.shifts, self._line.time_zone))
        self._hardware = hardware
        self._heartbeat = Heartbeat(self._notifier, hardware)
        self._events: list[EventRecord] = []
        self._raised: list[Alarm | DriftAlarm] = []
        # As if it were new: between opening and now it may have been replaced.
        self._file_state: tuple[int, int, int] | None = None
        self._is_halt_told = False
        self._told_s = -STATUS_EVERY_S
        self._told_heat_s: float | None = None
        self._counts = {each.value: 0 for each in Verdict}
        self._is_counting_complete = True
        self._opened = ExitStack()

    @property
    def halted(self) -> str | None:
        """Why the line must not go on; None for no reason."""
        return None if self._alarms.halted is None else str(self._alarms.halted)

    @property
    def health(self) -> Health | None:
        """The last look at the device."""
        return None if self._health is None else self._health.latest

    @property
    def counters(self) -> ShiftCounters:
        """By shift and recipe."""
        return self._counters

    @property
    def alarms(self) -> tuple[Alarm | DriftAlarm, ...]:
        """All that this run raised."""
        return tuple(self._raised)

    @property
    def drift(self) -> DriftMonitor | None:
        """What watches scores and brightness."""
        return self._drift

    def count_again(self, folder: Path) -> None:
        """Bring the running shift's counters back from the journal, before the run begins.

        Raises:
            StorageError: The journal cannot be read.
        """
        now = datetime.now(timezone.utc)
        shift = ShiftCalendar(self._line.shifts, self._line.time_zone).shift_of(now)
        documents, self._is_counting_complete = verdicts_since(folder, shift.begins_at)
        self._counters.rebuild(documents)

    def before_part(self) -> Decision | None:
        """Apply settings that were replaced; `unknown` if the device is too hot to trust."""
        self._heartbeat.begin()
        self.look_at_settings()
        return self._overheated()

    def look_at_settings(self) -> None:
        """Have settings applied whose file was replaced; a look costs microseconds."""
        if self._settings_path is not None:
            state = _file_state(self._settings_path)
            if state not in (None, self._file_state):
                self._file_state = state
                self._apply(self._settings_path)

    def settings_changed(self) -> None:
        """Take limits and shifts from what the judge has in force now."""
        line, self._line = self._line, self._limits()
        self._alarms.use(AlarmLimits.from_settings(self._line))
        if (line.shifts, line.time_zone) != (self._line.shifts, self._line.time_zone):
            try:
                calendar = ShiftCalendar(self._line.shifts, self._line.time_zone)
            except SsnEdgeError as error:  # such as a zone that only another device knows
                logger.warning("shifts stay as they were: %s", error)
                return
            self._counters = ShiftCounters(calendar)
            self._is_counting_complete = False

    def after_part(self, record: DecisionRecord) -> None:
        """Count a record, and raise what it raises."""
        self._heartbeat.end()
        self._counts[record.verdict.value] += 1
        self._counters.add(
            record.decided_at, record.verdict.value, record.reason.value, record.recipe
        )
        now_s = self._clock()
        raised: list[Alarm | DriftAlarm] = []
        raised += self._alarms.add(record.verdict, record.sequence, now_s)
        raised += () if self._drift is None else self._drift.add(record)
        for alarm in raised:
            self._raised.append(alarm)
            self._events.append(EventRecord.now(EventKind.ALARM, alarm.detail))
            logger.warning("alarm: %s", alarm)
            self._on_alarm(alarm)
        if self._health is not None:
            noted = self._health_notes.look(self._health.latest, now_s)
            if noted is not None:
                self._events.append(noted)
        if self.halted is not None and not self._is_halt_told:
            self._is_halt_told = True
            self._events.append(
                EventRecord.now(EventKind.STATE, {"state": "Halted", "cause": self.halted})
            )
        if self._notifier.is_enabled and now_s - self._told_s >= STATUS_EVERY_S:
            self._told_s = now_s
            counts = ", ".join(f"{count} {name}" for name, count in self._counts.items())
            self._notifier.status(f"{self.halted or 'judging'}: {counts}")
        self._on_record(record)

    def still_here(self) -> None:
        """A line without a loop of parts is alive now; one that no longer says so is stuck."""
        self._heartbeat.begin()

    def take_events(self) -> Sequence[EventRecord]:
        """What the journal is to note, once each."""
        events, self._events = self._events, []
        return events

    def to_dict(self) -> dict[str, object]:
        """For JSON: counters of the shifts, alarms, why it halted, the device's last look."""
        return {
            "shifts": self._counters.to_list(),
            "shifts_complete": self._is_counting_complete,
            "alarms": [{**each.detail, "text": str(each)} for each in self._raised],
            "drift": None if self._drift is None else self._drift.to_dict(),
            "halted": self.halted,
            "health": None if self.health is None else self.health.to_dict(),
        }

    def __enter__(self) -> Supervisor:
        """Begin to look at the device and to give signs of life.

        Raises:
            SourceError: The board's watchdog cannot be opened.
        """
        if self._health is not None:
            self._opened.enter_context(self._health)
        if self._hardware is not None:
            self._opened.enter_context(self._hardware)
        self._opened.enter_context(self._heartbeat)
        if self._drift is not None:
            self._drift.open()
            self._opened.callback(self._drift.close)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End both."""
        self._opened.close()

    def inhibit(self) -> tuple[Reason, str] | None:
        """Why a part must not pass now, for a line that asks before each pass."""
        decision = self._overheated()
        return None if decision is None else (decision.reason, decision.detail)

    def _overheated(self) -> Decision | None:
        health = self.health
        if health is None:
            return None
        hot = health.overheated(self._line.max_temperature_c)
        if health.temperatures_c:
            self._told_heat_s = health.monotonic_s
        if hot is None and self._told_heat_s is not None:
            # Silent, or without a number where there was one: no proof that it is cool.
            age_s = self._clock() - self._told_heat_s
            if age_s > STALE_HEALTH_S:
                hot = f"the device's sensors have not answered for {age_s:.0f} s"
        return None if hot is None else unknown(Reason.OVERHEATED, hot)

    def _limits(self) -> LineSettings:
        settings = self._judge.settings
        return self._overrides.over(LineSettings() if settings is None else settings.line)

    def _apply(self, path: Path) -> None:
        try:
            self._judge.apply_settings(path, self._judge.recipe)
        except SsnEdgeError as error:
            logger.warning("new settings are refused, the old ones stay in force: %s", error)
            detail = " ".join(str(error).split())[:500]
            self._events.append(EventRecord.now(EventKind.SETTINGS, {"refused": detail}))
            return
        self.settings_changed()


def _file_state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is none at this moment."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
