"""What the page knows from the line's journal: read from another process, at no cost to the line.

Once, from the journal's end back as far as the page shows; then whatever is added.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.latency import StageLatencies
from ssn_edge_runtime.record import EventKind, LineKind, parse_utc
from ssn_edge_runtime.sinks.backward import lines_backward
from ssn_edge_runtime.sinks.links import line_sha256
from ssn_edge_runtime.sinks.tail import Tail
from ssn_edge_runtime.supervision.alarms import Alarm, AlarmKind
from ssn_edge_runtime.supervision.counters import ShiftCounters
from ssn_edge_runtime.supervision.journal_reading import verdicts_since
from ssn_edge_runtime.supervision.shifts import ShiftCalendar

SCORES_KEPT = 2000
RECENT_KEPT = 120
REJECTS_KEPT = 24
MINUTES_KEPT = 60
ALARMS_KEPT = 50
READ_BACK_BYTES = 8 * 2**20
SHOWN = (
    "sequence", "source", "part_id", "trigger_id", "decided_at", "verdict", "reason", "detail",
    "score", "raw_score", "threshold", "defect_count", "recipe",
)  # fmt: skip
"""Fields of a record that the page shows."""

_OF_OUTLETS = tuple(
    each.value for each in (EventKind.OUTLET_LOST, EventKind.OUTLET_BACK, EventKind.UNDELIVERED)
)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a question about thresholds needs of a part."""

    raw_score: float | None
    threshold: float | None
    verdict: str
    reason: str


@dataclass(slots=True)
class PageAlarm:
    """An alarm of this run.

    Args:
        line: Of the journal: its name.
        at: UTC, as the journal spells it.
        text: For a person.
        halts: Whether the line halted by it.
        kind: As in the journal.
        acknowledged_by: Whoever has seen it.
    """

    line: int
    at: str
    text: str
    halts: bool
    kind: str
    acknowledged_by: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"line": self.line, "at": self.at, "text": self.text, "halts": self.halts,
                "acknowledged_by": self.acknowledged_by}  # fmt: skip


@dataclass(slots=True)
class OutletLosses:
    """What an outlet lost in this run, as the journal says it.

    Args:
        is_lost: Whether it is away, as far as was told.
        losses: How often it went.
        undelivered: Messages that its peer is never given.
    """

    is_lost: bool = False
    losses: int = 0
    undelivered: int = 0


@dataclass(slots=True)
class RunLog:
    """What is known of the run; begins anew with each.

    Args:
        latencies: By stage.
        sums_ms: All durations of a stage, added.
        alarms: By the number of their line.
        outlets: By outlet and what it lost, `peer` or `process`.
    """

    latencies: StageLatencies = field(default_factory=StageLatencies)
    sums_ms: dict[str, float] = field(default_factory=dict)
    alarms: OrderedDict[int, PageAlarm] = field(default_factory=OrderedDict)
    outlets: dict[tuple[str, str], OutletLosses] = field(default_factory=dict)


class LogWatch:
    """Follows one journal; for one thread.

    Args:
        folder: Of the journal; need not be there yet.
        calendar: Of the shifts that parts are counted by.
    """

    def __init__(self, folder: Path, calendar: ShiftCalendar) -> None:
        self._folder = folder
        self._calendar = calendar
        self._tail: Tail | None = None
        self.version = 0
        self.error: str | None = None
        self._begin()

    def _begin(self) -> None:
        self.last: dict[str, Any] = {}
        self.identity: Mapping[str, Any] = {}
        self.recent: deque[tuple[int, str]] = deque(maxlen=RECENT_KEPT)
        self.scores: deque[Scored] = deque(maxlen=SCORES_KEPT)
        self.rejects: deque[dict[str, Any]] = deque(maxlen=REJECTS_KEPT)
        self.minutes: OrderedDict[int, list[int]] = OrderedDict()
        self.health: Mapping[str, Any] = {}
        self.run = RunLog()
        self.shifts = ShiftCounters(self._calendar)
        self.is_shift_whole = True

    def look(self) -> bool:
        """Take what was added; whether anything was."""
        try:
            if self._tail is None:
                self._read_back()
            assert self._tail is not None
            lines = self._tail.read(500)
        except StorageError as error:
            # Power loss took lines back, or they were retired: what is there now is the truth.
            self.error = str(error)
            self.close()
            self._begin()
            self.version += 1
            return False
        for line in lines:
            self._take(line.document, counts_shift=True)
        if lines or self.error is not None:
            self.error = None
            self.version += 1
        return bool(lines)

    def close(self) -> None:
        """Let the journal's files go."""
        tail, self._tail = self._tail, None
        if tail is not None:
            tail.close()

    def _read_back(self) -> None:
        found: list[Mapping[str, Any]] = []
        last_line, last_sha256, left = 0, None, READ_BACK_BYTES
        for raw in lines_backward(self._folder):
            left -= len(raw)
            try:
                document = json.loads(raw)
                number = document["line"]
            except (ValueError, TypeError, KeyError, RecursionError):
                raise StorageError(
                    f"{self._folder}: holds a line that is none of a journal; see ssn-edge audit"
                ) from None
            if not last_line:
                last_line, last_sha256 = number, line_sha256(raw)
            found.append(document)
            if left < 0 or len(found) >= 2 * SCORES_KEPT:
                break
        for document in reversed(found):
            self._take(document, counts_shift=False)
        shift = self._calendar.shift_of(datetime.now(timezone.utc))
        documents, self.is_shift_whole = verdicts_since(self._folder, shift.begins_at)
        self.shifts.rebuild(each for each in documents if _line_of(each) <= last_line)
        self._tail = Tail(self._folder, after_line=last_line, after_sha256=last_sha256)
        self.version += 1

    def _take(self, document: Mapping[str, Any], *, counts_shift: bool) -> None:
        kind = document.get("kind")
        if kind == LineKind.VERDICT.value:
            self._take_verdict(document)
            if counts_shift:
                self.shifts.rebuild([document])
        elif kind == LineKind.EVENT.value:
            detail = document.get("detail")
            self._take_event(document, detail if isinstance(detail, dict) else {})

    def _take_verdict(self, record: Mapping[str, Any]) -> None:
        shown = {name: record.get(name) for name in SHOWN}
        verdict, reason = str(record.get("verdict")), str(record.get("reason"))
        shown["withheld"] = False
        shown["total_ms"] = (record.get("timings_ms") or {}).get("total")
        self.last, self.identity = shown, record
        self.recent.append((int(record.get("sequence") or 0), verdict))
        self.scores.append(
            Scored(record.get("raw_score"), record.get("threshold"), verdict, reason)
        )
        if verdict != Verdict.PASS.value:
            self.rejects.append({**shown, "overlay": record.get("overlay")})
        minute = self.minutes.setdefault(_minute(record), [0, 0, 0])
        minute[0] += 1
        minute[1] += verdict == Verdict.FAIL.value
        minute[2] += verdict not in (Verdict.PASS.value, Verdict.FAIL.value)
        while len(self.minutes) > MINUTES_KEPT:
            self.minutes.popitem(last=False)
        timings_ms = record.get("timings_ms") or {}
        self.run.latencies.record_ms(timings_ms)
        for stage, ms in timings_ms.items():
            if ms is not None:
                self.run.sums_ms[stage] = self.run.sums_ms.get(stage, 0.0) + ms

    def _take_event(self, event: Mapping[str, Any], detail: Mapping[str, Any]) -> None:
        kind = event.get("event")
        if kind == EventKind.START.value:
            self.run, self.last = RunLog(), {}
        elif kind == EventKind.ALARM.value:
            line = _line_of(event)
            self.run.alarms[line] = PageAlarm(
                line,
                str(event.get("at")),
                _alarm_text(detail),
                detail.get("halt") is True,
                str(detail.get("alarm")),
            )
            while len(self.run.alarms) > ALARMS_KEPT:
                self.run.alarms.popitem(last=False)
        elif kind == EventKind.USER_ACTION.value and detail.get("action") == "acknowledge":
            alarm = self.run.alarms.get(_whole(detail.get("line")))
            if alarm is not None:
                alarm.acknowledged_by = str(detail.get("user"))
        elif kind == EventKind.HEALTH.value:
            self.health = detail
        elif kind in _OF_OUTLETS:
            self._take_loss(str(kind), detail)
        elif kind == EventKind.WITHHELD.value and (
            detail.get("sequence") == self.last.get("sequence")
        ):
            self.last["withheld"] = True

    def _take_loss(self, kind: str, detail: Mapping[str, Any]) -> None:
        whose = (str(detail.get("outlet")), str(detail.get("what")))
        found = self.run.outlets.setdefault(whose, OutletLosses())
        if kind == EventKind.UNDELIVERED.value:
            found.undelivered += _whole(detail.get("dropped")) + _whole(detail.get("refused"))
            return
        found.is_lost = kind == EventKind.OUTLET_LOST.value
        found.losses += _whole(detail.get("losses"))


def _alarm_text(detail: Mapping[str, Any]) -> str:
    try:
        kind = AlarmKind(detail["alarm"])
        value, limit = float(detail["value"]), float(detail["limit"])
        return str(Alarm(kind, value, limit, detail.get("halt") is True, 0))
    except (KeyError, ValueError, TypeError):
        said = ", ".join(f"{name} {value}" for name, value in detail.items() if name != "alarm")
        return f"{str(detail.get('alarm')).replace('_', ' ')}: {said}"


def _minute(record: Mapping[str, Any]) -> int:
    try:
        return int(parse_utc(str(record.get("decided_at"))).timestamp() // 60)
    except ValueError:
        return 0


def _line_of(document: Mapping[str, Any]) -> int:
    return _whole(document.get("line"))


def _whole(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        return 0
