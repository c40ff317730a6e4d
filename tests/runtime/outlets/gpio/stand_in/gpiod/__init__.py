"""In place of libgpiod 2: the calls that are used, and a file of what they did, with its times."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

from gpiod.line import Direction, Value


@dataclass
class LineSettings:
    direction: Direction
    output_value: Value = Value.INACTIVE


def _write(what: str) -> None:
    with Path(os.environ["SSN_EDGE_TEST_WIRE"]).open("a") as file:
        file.write(f"{monotonic_ns()} {what}\n")


class LineRequest:
    def __init__(self, line: int | str) -> None:
        self._line = line
        self._is_output = True

    def set_value(self, line: int | str, value: Value) -> None:
        assert line == self._line
        assert self._is_output
        _write("high" if value is Value.ACTIVE else "low")

    def reconfigure_lines(self, config: dict[int | str, LineSettings]) -> None:
        assert list(config) == [self._line]
        self._is_output = config[self._line].direction is Direction.OUTPUT
        _write("output" if self._is_output else "input")

    def release(self) -> None:
        _write("release")


_busy = [int(os.environ.get("SSN_EDGE_TEST_BUSY", "0"))]
"""So often the wire is another's, as the kernel says it."""


def request_lines(
    path: str, *, consumer: str, config: dict[int | str, LineSettings]
) -> LineRequest:
    ((line, settings),) = config.items()
    assert settings.direction is Direction.OUTPUT
    assert settings.output_value is Value.INACTIVE
    assert path.startswith("/dev/gpiochip")
    if _busy[0] > 0:
        _busy[0] -= 1
        raise OSError(errno.EBUSY, "Device or resource busy")
    _write("take low")
    return LineRequest(line)
