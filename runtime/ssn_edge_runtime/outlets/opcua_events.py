"""A line's journal as OPC UA events: each verdict once and in order, also faster than any sampling.

They tell of their moment and are no signal to pass.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.events import Event

from ssn_edge_runtime.outlets.backlog import Gap, Message
from ssn_edge_runtime.outlets.feed import Feed, Place, PlaceFile
from ssn_edge_runtime.outlets.line_view import DEAD, LineView
from ssn_edge_runtime.outlets.opcua_nodes import NAMESPACE
from ssn_edge_runtime.record import EventKind, LineKind, parse_utc
from ssn_edge_runtime.sinks.links import line_sha256
from ssn_edge_runtime.sinks.tail import TailLine

MOST_MESSAGES = 2000
MOST_BYTES = 8 * 2**20
MOST_AT_ONCE = 200
"""Told in one look: a subscriber's queue holds several of them, and readers need not wait."""
LONGEST_TEXT = 2000
UNKNOWN = "Unknown"
"""State of a line that does not tell, as the node `State` says it, too."""

_V = ua.VariantType
RESULT, STATE, WITHHELD, ALARM = (
    f"{name}EventType" for name in ("ResultReady", "StateChanged", "PassWithheld", "AlarmRaised")
)
_SEQUENCE = {"Sequence": (_V.UInt64, "running number of the part, without gaps")}
_LINE = {"JournalLine": (_V.UInt64, "of the journal; 0: not from there")}
EVENTS: Mapping[str, Mapping[str, tuple[ua.VariantType, str]]] = {
    RESULT: {
        **_SEQUENCE,
        "TriggerId": (_V.Int64, "of its trigger"),
        "PartId": (_V.String, "of the part"),
        "Source": (_V.String, "its camera"),
        "Verdict": (_V.String, "`pass`, `fail` or `unknown`, as recorded"),
        "Reason": (_V.String, "from the closed list"),
        "Detail": (_V.String, "for a person"),
        "Score": (_V.Double, "0.5 is the threshold"),
        "RawScore": (_V.Double, "the logit behind it"),
        "Threshold": (_V.Double, "the logit that it was compared with"),
        "Recipe": (_V.String, "that it was judged by"),
        "SettingsId": (_V.String, "of the settings in force"),
        "PackageId": (_V.String, "of the package"),
        "DeadlineMet": (_V.Boolean, "whether the verdict was in time"),
        "CapturedAt": (_V.DateTime, "of the frame"),
        "DecidedAt": (_V.DateTime, "of the verdict; `Time` as well"),
        **_LINE,
    },
    STATE: {
        "From": (_V.String, "name of OPC 40100-1; `Unknown`: the line did not tell"),
        "To": (_V.String, "the same; `Unknown`: the line does not tell any more"),
        "Cause": (_V.String, "why"),
        **_LINE,
    },
    WITHHELD: {
        **_SEQUENCE,
        "TriggerId": (_V.Int64, "of its trigger"),
        "Cause": (_V.String, "why the signal of a recorded `pass` was not given"),
        **_LINE,
    },
    ALARM: {
        "Alarm": (
            _V.String,
            "`in_a_row`, `rate`, a drift, `source_lost`, `worker_restart`, `drop_range`; "
            "`outlet_dropped`: events are missing here",
        ),
        "Sequence": (_V.UInt64, "of the part that raised it"),
        "Value": (_V.Double, "what was reached"),
        "Limit": (_V.Double, "the limit"),
        "Halt": (_V.Boolean, "whether the line halts"),
        "Detail": (_V.String, "all that is known, as JSON"),
        **_LINE,
    },
}
"""Type and meaning of each field of each event type; `Time`, `Message`, ... are BaseEventType's."""

SEVERITIES = {"pass": 100, "fail": 400, "unknown": 500, STATE: 300, WITHHELD: 600, ALARM: 700}
STOPPED = ("Error", "Halted", UNKNOWN)
STOPPED_SEVERITY = 800
_ALARMS = {
    EventKind.ALARM.value, EventKind.SOURCE_LOST.value, EventKind.WORKER_RESTART.value,
    EventKind.DROP_RANGE.value,
}  # fmt: skip
_KINDS = _ALARMS | {EventKind.STATE.value, EventKind.WITHHELD.value}


def table_of_events() -> str:
    """The event types as the README has them."""
    lines = ["| event type | field | type | |", "|---|---|---|---|"]
    for name, fields in EVENTS.items():
        for number, (field, (kind, meaning)) in enumerate(fields.items()):
            shown = "" if number else f"`{name}`"
            lines.append(f"| {shown} | `{field}` | {kind.name} | {meaning} |")
    return "\n".join(lines)


class LineEvent(Event):  # type: ignore[misc]
    """One event; its fields are made once, however many subscribed to it.

    Args:
        kind: Name of its type, one of `EVENTS`.
        type_id: Of its type.
        event_id: Its own, the same wherever it is told.
        time: Of what it tells.
        message: For a person.
        severity: 1 to 1000.
        values: By name of the field; what is missing is null.
    """

    def __init__(
        self,
        kind: str,
        type_id: ua.NodeId,
        *,
        event_id: bytes,
        time: datetime,
        message: str,
        severity: int,
        values: Mapping[str, object],
    ) -> None:
        super().__init__()
        now = datetime.now(timezone.utc)
        for name, value, data_type in (
            ("EventId", event_id, _V.ByteString),
            ("EventType", type_id, _V.NodeId),
            ("SourceName", "Line", _V.String),
            ("Time", time, _V.DateTime),
            ("ReceiveTime", now, _V.DateTime),
            ("Message", ua.LocalizedText(_text(message) or ""), _V.LocalizedText),
            ("Severity", severity, _V.UInt16),
        ):
            self.add_property(name, value, data_type)
        for name, (data_type, _) in EVENTS[kind].items():
            self.add_property(name, _as(data_type, values.get(name)), data_type)
        self._fields: dict[str, ua.Variant] = {}

    def to_event_fields(self, select_clauses: list[ua.SimpleAttributeOperand]) -> list[ua.Variant]:
        """What a client selected; null for what there is not, whatever it asked for."""
        return [self._field(each.BrowsePath or []) for each in select_clauses or []]

    def _field(self, path: list[ua.QualifiedName]) -> ua.Variant:
        name = path[0].Name if len(path) == 1 else None
        if name is None or name not in self.data_types:
            return _NULL
        if name not in self._fields:
            value = getattr(self, name)
            kind = self.data_types[name]
            self._fields[name] = _NULL if value is None else ua.Variant(value, kind)
        return self._fields[name]


_NULL = ua.Variant(None)


class LineEvents:
    """Makes events out of a journal and tells them to whoever subscribed.

    Begins at the journal's end: what was decided before is in the journal.

    Args:
        server: Whose address space has the line's object.
        folder: Of the journal.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._service = server.iserver.subscription_service
        self._feed = Feed(
            folder,
            _NoPlace(),
            is_wanted=_is_wanted,
            most_messages=MOST_MESSAGES,
            most_bytes=MOST_BYTES,
        )
        self._types: dict[str, ua.NodeId] = {}
        self._notifiers: list[ua.NodeId] = []
        self._view: LineView | None = None

    async def build(self, line: Node) -> None:
        """Make the types, and let line and server notify."""
        index = await self._server.get_namespace_index(NAMESPACE)
        base = self._server.get_node(ua.ObjectIds.BaseEventType)
        for name, fields in EVENTS.items():
            kind = await base.add_object_type(ua.NodeId(name, index), ua.QualifiedName(name, index))
            for field, (data_type, _) in fields.items():
                await kind.add_property(
                    ua.NodeId(f"{name}.{field}", index),
                    ua.QualifiedName(field, index),
                    ua.get_default_value(data_type),
                    varianttype=data_type,
                )
            await line.add_reference(kind, ua.ObjectIds.GeneratesEvent, bidirectional=False)
            self._types[name] = kind.nodeid
        above = self._server.nodes.server
        for node in (above, line):
            await node.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        await above.add_reference(line, ua.ObjectIds.HasNotifier)
        self._notifiers = [line.nodeid, above.nodeid]

    async def step(self) -> None:
        """Tell what the journal has since. Never raises for a journal's trouble."""
        backlog = self._feed.backlog
        if backlog.is_empty:
            await asyncio.to_thread(self._feed.step)
        for _ in range(MOST_AT_ONCE):
            owed = backlog.take()
            if owed is None:
                return
            for event in self._gap(owed) if isinstance(owed, Gap) else self._of_line(owed):
                await self._tell(event)
            backlog.settle(owed)

    async def look(self, view: LineView) -> None:
        """Tell if the line stopped to tell, or tells again: its journal has no word of it."""
        before, self._view = self._view, view
        if before is None or before.is_connected == view.is_connected:
            return
        values = {
            "From": before.state if before.is_connected else UNKNOWN,
            "To": view.state if view.is_connected else UNKNOWN,
            "Cause": view.cause if view.is_connected else DEAD.cause,
            "JournalLine": 0,
        }
        now = datetime.now(timezone.utc)
        await self._tell(self._state(values, now, str(now).encode()))

    def close(self) -> None:
        """Let the journal go."""
        self._feed.close()

    def _of_line(self, message: Message) -> Iterator[LineEvent]:
        document: Mapping[str, Any] = json.loads(message.payload)
        event_id = bytes.fromhex(line_sha256(message.payload))
        place = {"JournalLine": message.line}
        if message.kind == LineKind.VERDICT.value:
            yield self._result(document, event_id)
            return
        detail = document.get("detail")
        detail = detail if isinstance(detail, dict) else {}
        time = _time(document.get("at"))
        if document.get("event") == EventKind.STATE.value:
            values = {
                "From": detail.get("before"),
                "To": detail.get("after", detail.get("state")),
                "Cause": detail.get("cause"),
            }
            yield self._state(values | place, time, event_id)
        elif document.get("event") == EventKind.WITHHELD.value:
            numbers = {"Sequence": detail.get("sequence"), "TriggerId": detail.get("trigger_id")}
            message_ = f"part {detail.get('sequence')}: pass withheld, {detail.get('why')}"
            values = numbers | {"Cause": detail.get("why")} | place
            yield self._made(WITHHELD, event_id, time, message_, SEVERITIES[WITHHELD], values)
        else:
            yield self._alarm(str(document.get("event")), detail, place, time, event_id)

    def _result(self, document: Mapping[str, Any], event_id: bytes) -> LineEvent:
        named = {
            "Sequence": "sequence", "TriggerId": "trigger_id", "PartId": "part_id",
            "Source": "source", "Verdict": "verdict", "Reason": "reason", "Detail": "detail",
            "Score": "score", "RawScore": "raw_score", "Threshold": "threshold",
            "Recipe": "recipe", "SettingsId": "settings_id", "PackageId": "package_id",
            "DeadlineMet": "deadline_met", "CapturedAt": "captured_at",
            "DecidedAt": "decided_at", "JournalLine": "line",
        }  # fmt: skip
        values = {field: document.get(name) for field, name in named.items()}
        verdict = str(values["Verdict"])
        message = f"part {values['Sequence']}: {verdict} ({values['Reason']})"
        severity = SEVERITIES.get(verdict, SEVERITIES["unknown"])
        time = _time(values["DecidedAt"])
        return self._made(RESULT, event_id, time, message, severity, values)

    def _state(self, values: Mapping[str, object], time: datetime, event_id: bytes) -> LineEvent:
        is_stopped = values["To"] in STOPPED
        severity = STOPPED_SEVERITY if is_stopped else SEVERITIES[STATE]
        message = f"{values['To']}: {values['Cause']}"
        return self._made(STATE, event_id, time, message, severity, values)

    def _alarm(
        self,
        name: str,
        detail: Mapping[str, object],
        place: Mapping[str, object],
        time: datetime,
        event_id: bytes,
    ) -> LineEvent:
        values = {
            "Alarm": detail.get("alarm", name),
            "Sequence": detail.get("sequence"),
            "Value": detail.get("value"),
            "Limit": detail.get("limit"),
            "Halt": detail.get("halt"),
            "Detail": json.dumps(detail, sort_keys=True),
        }
        message = f"{values['Alarm']}: {values['Detail']}"
        return self._made(ALARM, event_id, time, message, SEVERITIES[ALARM], {**values, **place})

    def _gap(self, gap: Gap) -> Iterator[LineEvent]:
        detail = {
            "messages": gap.messages, "first_line": gap.first_line, "last_line": gap.last_line
        }  # fmt: skip
        now = datetime.now(timezone.utc)
        place = {"JournalLine": gap.last_line}
        yield self._alarm("outlet_dropped", detail, place, now, str(now).encode())

    def _made(
        self,
        kind: str,
        event_id: bytes,
        time: datetime,
        message: str,
        severity: int,
        values: Mapping[str, object],
    ) -> LineEvent:
        return LineEvent(
            kind, self._types[kind], event_id=event_id, time=time, message=message,
            severity=severity, values=values,
        )  # fmt: skip

    async def _tell(self, event: LineEvent) -> None:
        event.add_property("SourceNode", self._notifiers[0], _V.NodeId)
        for notifier in self._notifiers:
            event.emitting_node = notifier
            for each in list(self._service.subscriptions.values()):
                await each.monitored_item_srv.trigger_event(event)


class _NoPlace(PlaceFile):
    """Nobody is remembered: a subscription ends with its connection."""

    def __init__(self) -> None:
        pass

    def read(self) -> Place | None:
        """None."""
        return None

    def write(self, place: Place) -> None:
        """Nothing."""


def _is_wanted(line: TailLine) -> bool:
    return line.kind == LineKind.VERDICT.value or (
        line.kind == LineKind.EVENT.value and line.document.get("event") in _KINDS
    )


def _as(kind: ua.VariantType, found: object) -> object:
    """A value that can be sent as a type; None for what is none of it."""
    if kind is _V.String:
        return _text(found)
    if kind is _V.Boolean:
        return found if isinstance(found, bool) else None
    if kind is _V.Double:
        is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
        return float(found) if is_number else None  # type: ignore[arg-type]
    if kind is _V.DateTime:
        return None if found is None else _time(found)
    low, high = (0, 2**64) if kind is _V.UInt64 else (-(2**63), 2**63)
    return found if type(found) is int and low <= found < high else None


def _text(found: object) -> str | None:
    if found is None:
        return None
    return str(found)[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def _time(found: object) -> datetime:
    try:
        return parse_utc(str(found))
    except ValueError:
        return datetime.now(timezone.utc)
