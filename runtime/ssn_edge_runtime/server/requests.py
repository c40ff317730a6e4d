"""What a request asks for: its query, checked, and its body's description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.frames import RawShape
from ssn_edge_runtime.server.limits import MAX_DEADLINE_MS, ServerLimits

RAW_TYPE = "application/octet-stream"
PART_ID = re.compile(r"[A-Za-z0-9._:/+-]{1,128}")
"""Printable, and without what would need escaping anywhere."""
CAMERA = re.compile(r"[a-z][a-z0-9_-]{0,63}")
RECIPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LARGEST_SIDE = 1 << 20
_SHAPE = ("height", "width", "channels")
_KNOWN = (*_SHAPE, "mask", "deadline_ms", "part_id")


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """A frame to be judged.

    Args:
        shape: Of a raw frame; None for a picture.
        with_mask: Whether the mask is wanted.
        deadline_ms: From the moment the request's head was read.
        part_id: To be repeated in the answer.
    """

    shape: RawShape | None
    with_mask: bool
    deadline_ms: float
    part_id: str | None


def inspect_request(query: str, content_type: str, limits: ServerLimits) -> InspectRequest:
    """Read the query of ``POST /v1/inspect``.

    Args:
        query: What follows the question mark.
        content_type: In lower case, without parameters.
        limits: For the deadline where none is named, and the largest frame.

    Raises:
        Refusal: Unknown, doubled, missing or impossible values.
    """
    values = query_values(query, _KNOWN)
    part_id = values.get("part_id")
    if part_id is not None and not PART_ID.fullmatch(part_id):
        raise wrong("part_id", part_id, "1 to 128 letters, digits and ._:/+-")
    mask = values.get("mask", "0")
    if mask not in ("0", "1"):
        raise wrong("mask", mask, "0 or 1")
    deadline_ms = _number(values, "deadline_ms", limits.deadline_ms)
    if not 0 < deadline_ms <= MAX_DEADLINE_MS:
        raise wrong("deadline_ms", values["deadline_ms"], f"above 0 and up to {MAX_DEADLINE_MS}")
    return InspectRequest(_shape(values, content_type, limits), mask == "1", deadline_ms, part_id)


def query_values(query: str, known: tuple[str, ...]) -> Mapping[str, str]:
    """A query as names and values.

    Raises:
        Refusal: An unknown name, or one that stands there twice.
    """
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            max_num_fields=32,
            errors="strict",
            strict_parsing=bool(query),
        )
    except ValueError:
        raise Refusal(400, Reason.BAD_FRAME, "the query cannot be read") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        raise Refusal(400, Reason.BAD_FRAME, "the query has a name twice")
    if unknown_names := sorted(set(values) - set(known)):
        raise Refusal(
            400,
            Reason.BAD_FRAME,
            f"the query has {unknown_names[0][:40]!r}; "
            + (f"known are {', '.join(known)}" if known else "none is wanted here"),
        )
    return values


def wrong(name: str, text: str, wanted: str) -> Refusal:
    """The refusal of an impossible value."""
    return Refusal(400, Reason.BAD_FRAME, f"{name} is {text[:40]!r}; {wanted} is wanted")


def _shape(values: Mapping[str, str], content_type: str, limits: ServerLimits) -> RawShape | None:
    given = [name for name in _SHAPE if name in values]
    if content_type.startswith("image/"):
        if given:
            raise Refusal(
                400, Reason.BAD_FRAME, f"{given[0]} is for {RAW_TYPE}; a picture tells its size"
            )
        return None
    if content_type != RAW_TYPE:
        raise Refusal(
            415,
            Reason.BAD_FRAME,
            f"the Content-Type is {content_type[:60]!r}; image/png, image/jpeg, image/bmp or "
            f"{RAW_TYPE} is wanted",
        )
    if len(given) < len(_SHAPE):
        raise Refusal(
            400, Reason.BAD_FRAME, "raw pixels need height, width and channels in the query"
        )
    height, width, channels = (_whole(values, name) for name in _SHAPE)
    if channels not in (1, 3):
        raise wrong("channels", values["channels"], "1 (mono) or 3 (BGR)")
    if height * width > limits.max_pixels:
        raise Refusal(
            413,
            Reason.BAD_FRAME,
            f"a frame of {width} x {height} pixels; at most {limits.max_pixels} are taken",
        )
    return RawShape(height, width, channels)


def _whole(values: Mapping[str, str], name: str) -> int:
    text = values[name]
    if text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= _LARGEST_SIDE:
        return int(text)
    raise wrong(name, text, f"a whole number from 1 to {_LARGEST_SIDE}")


def _number(values: Mapping[str, str], name: str, default: float) -> float:
    text = values.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise wrong(name, text, "a number")
    return float(text)
