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

from ssn_edge_runtime.outlets.backlog import Gap, Message
from ssn_edge_runtime.outlets.feed import Feed, Place, PlaceFile
from ssn_edge_runtime.outlets.line_view import DEAD, LineView
from ssn_edge_runtime.outlets.opcua_event_types import (
    ALARM,
    EVENTS,
    RESULT,
    SEVERITIES,
    STATE,
    STOPPED,
    STOPPED_SEVERITY,
    UNKNOWN,
    WITHHELD,
    LineEvent,
    time_of,
)
from ssn_edge_runtime.outlets.opcua_nodes import NAMESPACE
from ssn_edge_runtime.record import EventKind, LineKind
from ssn_edge_runtime.sinks.links import line_sha256
from ssn_edge_runtime.sinks.tail import TailLine

MOST_MESSAGES = 2000
MOST_BYTES = 8 * 2**20
MOST_AT_ONCE = 200
"""Told in one look: a subscriber's queue holds several of them, and readers need not wait."""
_V = ua.VariantType
_KINDS = {
    EventKind.ALARM.value, EventKind.SOURCE_LOST.value, EventKind.WORKER_RESTART.value,
    EventKind.DROP_RANGE.value, EventKind.STATE.value, EventKind.WITHHELD.value,
}  # fmt: skip


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
        time = time_of(document.get("at"))
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
        time = time_of(values["DecidedAt"])
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
