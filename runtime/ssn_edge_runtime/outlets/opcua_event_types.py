"""The types of a line's OPC UA events, and one event: its fields are made once for all clients."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from asyncua import ua
from asyncua.common.events import Event

from ssn_edge_runtime.record import parse_utc

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
        return None if found is None else time_of(found)
    low, high = (0, 2**64) if kind is _V.UInt64 else (-(2**63), 2**63)
    return found if type(found) is int and low <= found < high else None


def _text(found: object) -> str | None:
    if found is None:
        return None
    return str(found)[:LONGEST_TEXT].encode("utf-8", "replace").decode()


def time_of(found: object) -> datetime:
    """The moment that a journal's field spells; now for what spells none."""
    try:
        return parse_utc(str(found))
    except ValueError:
        return datetime.now(timezone.utc)
