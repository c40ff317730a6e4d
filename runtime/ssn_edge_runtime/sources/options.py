"""What an address may ask of its source: the options behind the question mark, and their values."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal
from urllib.parse import unquote

from ssn_edge_runtime.errors import ConfigError

Auto = Literal["auto"]

_FAULT = re.compile(r"([a-z]+)@(\d+)(?:x(\d+))?")


class TriggerMode(Enum):
    """What starts a GenICam camera's exposure."""

    OFF = "off"
    """The camera runs freely."""
    SOFTWARE = "software"
    """`trigger_now` of the source."""
    LINE = "line"
    """The camera's own input."""


class FaultKind(Enum):
    """What a test pattern can be made to do wrong."""

    FROZEN = "frozen"
    STILL = "still"
    BLACK = "black"
    INCOMPLETE = "incomplete"
    SIZE = "size"
    STALE = "stale"
    GAP = "gap"
    DAMAGED = "damaged"
    STALL = "stall"
    LOST = "lost"
    DIM = "dim"


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault of a test pattern: which, from which frame on, for how many frames."""

    kind: FaultKind
    at: int
    count: int = 1

    def covers(self, index: int) -> bool:
        """Whether a frame has it."""
        return self.at <= index < self.at + self.count


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What an address asks of its source; None is what the source does by itself.

    Args:
        width: Of the frame, in pixels.
        height: Of the frame, in pixels.
        format: Pixel format in the source's own words: ``MJPG``, ``YUYV``; ``Mono8``; ``mono``.
        fps: Frames a second.
        exposure: Exposure time in microseconds, or the camera's own choice.
        gain: In the camera's own unit, or the camera's own choice.
        packet_size: Of a GigE camera, in bytes.
        trigger: What starts a GenICam camera's exposure.
        line: Name of the camera's input, for `TriggerMode.LINE`.
        transport: ``tcp`` or ``udp``, for RTSP.
        stamps: What the time stamps of a GStreamer pipeline stand for.
        existing: Whether pictures that a watched folder already holds are parts.
        frames: A test pattern ends after so many.
        defect_every: Each so many-th frame of a test pattern has a bright spot.
        seed: Of a test pattern.
        faults: Of a test pattern.
    """

    width: int | None = None
    height: int | None = None
    format: str | None = None
    fps: float | None = None
    exposure: float | Auto | None = None
    gain: float | Auto | None = None
    packet_size: int | None = None
    trigger: TriggerMode = TriggerMode.OFF
    line: str | None = None
    transport: str = "tcp"
    stamps: str | None = None
    existing: bool = False
    frames: int | None = None
    defect_every: int | None = None
    seed: int = 0
    faults: tuple[InjectedFault, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether nothing is asked for."""
        return self == SourceOptions()


def parse_options(text: str, query: str, keys: tuple[str, ...]) -> SourceOptions:
    """Read ``key=value&key=value``.

    Args:
        text: The whole address, for messages.
        query: What stands behind its question mark.
        keys: The keys that this kind of source knows.

    Raises:
        ConfigError: An unknown key or value; the message names the nearest known one.
    """
    found: dict[str, object] = {}
    for item in query.split("&") if query else ():
        key, equals, value = item.partition("=")
        if key not in keys:
            raise ConfigError(
                f"--device {text}: {key or 'an empty key'} is no option here; "
                f"{did_you_mean(key, keys)}"
            )
        name = "faults" if key == "fault" else key
        if not equals or not value:
            raise ConfigError(f"--device {text}: {key} has no value; {key}=... is wanted")
        if name in found:
            raise ConfigError(f"--device {text}: {key} stands there twice")
        try:
            found[name] = _VALUES[key](unquote(value, errors="strict"))
        except (ValueError, UnicodeDecodeError) as error:
            raise ConfigError(f"--device {text}: {key}={value}: {error}") from None
    return SourceOptions(**found)  # type: ignore[arg-type]


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdecimal() or not low <= int(value[:12]) <= high:
            raise ValueError(f"a whole number from {low} to {high} is wanted")
        return int(value)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:  # false for NaN, too
            raise ValueError(f"a number from {low:g} to {high:g} is wanted")
        return number

    return parse


def _auto_or(parse: Callable[[str], float]) -> Callable[[str], float | Auto]:
    def parse_auto(value: str) -> float | Auto:
        try:
            return "auto" if value == "auto" else parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return parse_auto


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(did_you_mean(value, words))
        return value

    return parse


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_ .-]{1,32}", value):
        raise ValueError("letters and digits are wanted")
    return value


def _faults(value: str) -> tuple[InjectedFault, ...]:
    kinds = [each.value for each in FaultKind]
    faults = []
    for item in value.split(","):
        match = _FAULT.fullmatch(item)
        if match is None:
            raise ValueError("KIND@FRAME or KIND@FRAMExCOUNT is wanted, as in frozen@50x3")
        if match[1] not in kinds:
            raise ValueError(did_you_mean(match[1], kinds))
        at, count = int(match[2]), int(match[3] or 1)
        if at < 1 or count < 1:
            raise ValueError("frame 0 has no faults, and a fault is 1 frame long at least")
        faults.append(InjectedFault(FaultKind(match[1]), at, count))
    return tuple(faults)


_VALUES: Mapping[str, Callable[[str], object]] = {
    "width": _count(1, 65535),
    "height": _count(1, 65535),
    "format": _word,
    "fps": _number(0.001, 100_000),
    "exposure": _auto_or(_number(0.001, 1e9)),
    "gain": _auto_or(_number(-1e6, 1e9)),
    "packet_size": _count(220, 65535),
    "trigger": lambda value: TriggerMode(_one_of("off", "software", "line")(value)),
    "line": _word,
    "transport": _one_of("tcp", "udp"),
    "stamps": _one_of("exposure"),
    "existing": lambda value: _one_of("yes", "no")(value) == "yes",
    "frames": _count(1, 10**9),
    "defect_every": _count(1, 10**9),
    "seed": _count(0, 2**31),
    "fault": _faults,
}


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The end of a message: the nearest known word, and all of them."""
    known = list(known)
    near = difflib.get_close_matches(found, known, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}Known here: {', '.join(known)}"
