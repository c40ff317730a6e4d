"""Small messages between the authority and its workers, one JSON object a packet.

JSON and not pickle: a worker that went mad may say anything, but it must not run anything.
"""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping

from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.defects import Defect
from ssn_edge_runtime.record import MAX_DEFECTS

LARGEST_MESSAGE = 256 * 1024
_NONE = object()


class MessageError(ValueError):
    """A packet that is no message of ours."""


class Message:
    """A received object; each look at a field checks its type."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields
        kind = fields.get("is")
        self.kind = kind if isinstance(kind, str) else ""

    def whole(self, name: str, default: object = _NONE) -> int:
        """A whole number."""
        value = self._fields.get(name, default)
        if type(value) is not int:
            raise MessageError(f"{name} is {value!r}, no whole number")
        if not -(2**63) <= value < 2**63:
            raise MessageError(f"{name} has more than 64 bit")
        return value

    def whole_or_none(self, name: str) -> int | None:
        """A whole number, or nothing."""
        return None if self._fields.get(name) is None else self.whole(name)

    def number(self, name: str) -> float | None:
        """A finite number, or nothing."""
        value = self._fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise MessageError(f"{name} is {value!r}, no number")
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond all floats
            number = math.inf
        if not math.isfinite(number):
            raise MessageError(f"{name} is {number}, not finite")
        return number

    def text(self, name: str) -> str:
        """A text."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            raise MessageError(f"{name} is {value!r}, no text")
        return value

    def text_or_none(self, name: str) -> str | None:
        """A text, or nothing."""
        return None if self._fields.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise MessageError(f"{name} is {value!r}, neither true nor false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.raw(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise MessageError(f"{name} is no list of texts")
        return tuple(value)

    def inner(self, name: str) -> Message:
        """An object within."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise MessageError(f"{name} is no object")
        return Message(value)

    def raw(self, name: str) -> object:
        """Whatever it is."""
        return self._fields.get(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """(H, W) or (H, W, 3)."""
        value = self._fields.get(name)
        if (
            not isinstance(value, list)
            or len(value) not in (2, 3)
            or not all(type(side) is int and 0 < side < 2**20 for side in value)
        ):
            raise MessageError(f"{name} is {value!r}, no shape of a frame")
        return tuple(value)


def encode(kind: str, fields: Mapping[str, object]) -> bytes:
    """A message as its packet. NaN goes through: whoever receives it refuses it by name."""
    return json.dumps({"is": kind, **fields}, separators=(",", ":")).encode()


def decode(packet: bytes) -> Message:
    """A packet as a message.

    Raises:
        MessageError: It is none.
    """
    try:
        fields = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{packet[:60]!r} is no message") from error
    if not isinstance(fields, dict):
        raise MessageError(f"{packet[:60]!r} is no message")
    return Message(fields)


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a link: packets whole and in order, and an end that shows when a side dies."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST_MESSAGE)
    ours.setblocking(False)
    return ours, theirs


def decision_fields(decision: Decision) -> dict[str, object]:
    """A decision for a message: all but its arrays and geometry."""
    return {
        "is": "decision",
        "verdict": decision.verdict.value,
        "reason": decision.reason.value,
        "detail": decision.detail,
        "score": decision.score,
        "raw_score": decision.raw_score,
        "threshold": decision.threshold,
        "brightness": decision.brightness,
        "defect_count": len(decision.defects),
        "defects": [
            [list(each.box_xyxy), each.area_px, each.peak, each.mean, each.min_area_px]
            for each in decision.defects[:MAX_DEFECTS]
        ],
        "timings_ms": dict(decision.timings_ms),
        "settings_id": decision.settings_id,
        "recipe": decision.recipe,
        "zone": decision.zone,
    }


def decision_from(message: Message) -> tuple[Decision, int]:
    """The decision of a message, and how many defects there were.

    Raises:
        MessageError: It is none.
    """
    try:
        verdict, reason = Verdict(message.text("verdict")), Reason(message.text("reason"))
    except ValueError as error:
        raise MessageError(str(error)) from error
    listed = message.raw("defects")
    timings = message.raw("timings_ms")
    if not isinstance(listed, list) or len(listed) > MAX_DEFECTS or not isinstance(timings, dict):
        raise MessageError("defects or timings are missing")
    inner = Message(timings)
    decision = Decision(
        verdict=verdict,
        reason=reason,
        detail=message.text("detail")[:500],
        score=message.number("score"),
        raw_score=message.number("raw_score"),
        threshold=message.number("threshold"),
        brightness=message.number("brightness"),
        defects=tuple(_defect(each) for each in listed),
        timings_ms={
            name: ms for name in timings if name != "is" and (ms := inner.number(name)) is not None
        },
        settings_id=message.text_or_none("settings_id"),
        recipe=message.text_or_none("recipe"),
        zone=message.text_or_none("zone"),
    )
    return decision, max(message.whole("defect_count"), len(decision.defects))


def _defect(listed: object) -> Defect:
    if not isinstance(listed, list) or len(listed) != 5 or not isinstance(listed[0], list):
        raise MessageError(f"{listed!r} is no defect")
    box = listed[0]
    if len(box) != 4 or not all(type(side) is int for side in box):
        raise MessageError(f"{box!r} is no box")
    numbers = Message({"area": listed[1], "peak": listed[2], "mean": listed[3], "least": listed[4]})
    area, peak, mean, least = (numbers.number(name) for name in ("area", "peak", "mean", "least"))
    if area is None or peak is None or mean is None:
        raise MessageError(f"{listed!r} is no defect")
    return Defect((box[0], box[1], box[2], box[3]), area, peak, mean, least)
