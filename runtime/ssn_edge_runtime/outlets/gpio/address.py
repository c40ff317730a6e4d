"""Which wire, and for how long: ``/dev/gpiochip0:105,20``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError

PULSE_MS = 20.0
LONGEST_PULSE_MS = 10_000.0
_CHIP = re.compile(r"(/dev/)?gpiochip\d+")


@dataclass(frozen=True, slots=True)
class GpioLine:
    """One line of one chip.

    Args:
        chip: Its device file.
        line: Offset within the chip, or the line's name.
        pulse_ms: How long a pulse is; it ends sooner where its part's time does.
    """

    chip: str
    line: int | str
    pulse_ms: float = PULSE_MS

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{self.chip}:{self.line},{self.pulse_ms:g}"


def parse_gpio(text: str) -> GpioLine:
    """``gpiochip0:105``, ``/dev/gpiochip0:PQ.05`` or ``gpiochip0:105,50`` for 50 ms.

    Raises:
        ConfigError: Anything else.
    """
    where, comma, pulse = text.partition(",")
    chip, colon, line = where.partition(":")
    if not _CHIP.fullmatch(chip) or not colon or not re.fullmatch(r"[\w.+-]{1,31}", line):
        raise ConfigError(
            f"--gpio {text}: CHIP:LINE[,PULSE_MS] is wanted, such as gpiochip0:105 or "
            "gpiochip0:PQ.05,20; gpioinfo lists them"
        )
    try:
        pulse_ms = float(pulse) if comma else PULSE_MS
    except ValueError:
        pulse_ms = 0.0
    if not 1 <= pulse_ms <= LONGEST_PULSE_MS:
        raise ConfigError(
            f"--gpio {text}: a pulse of 1 to {LONGEST_PULSE_MS:g} ms is wanted after the comma"
        )
    device = chip if chip.startswith("/dev/") else f"/dev/{chip}"
    is_offset = line.isascii() and line.isdecimal()
    return GpioLine(device, int(line) if is_offset else line, pulse_ms)
