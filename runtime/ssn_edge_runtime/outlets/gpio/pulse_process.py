"""The process that holds a wire: it takes ``UNTIL_NS`` as lines, and ends with its line.

The first that it does is to make the wire inactive: it may be there because another was killed.

The pulse ends by this process' clock: a line that hangs or is killed in the middle of one makes it
no longer.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from time import monotonic_ns

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.outlets.gpio.address import parse_gpio
from ssn_edge_runtime.outlets.gpio.chip import ChipLine
from ssn_edge_runtime.outlets.gpio.pulses import Pulses
from ssn_edge_runtime.outlets.seldom import log_seldom
from ssn_edge_runtime.outlets.words import tell

LONGEST_LINE = 64

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Give pulses until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.outlets.gpio.pulse_process",
        description="Give pulses on a GPIO line: one for each line of standard input.",
    )
    parser.add_argument("line", help="CHIP:LINE[,PULSE_MS]")
    parser.add_argument("--leave", action="store_true", help="only leave it inactive, and end")
    options = parser.parse_args(arguments)
    log_seldom("gpio")
    stop_reads, stop_writes = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(stop_writes, b"x"))
    try:
        address = parse_gpio(options.line)
        with ChipLine(address) as wire:
            if options.leave:
                return 0
            tell(listens=f"{address.chip}:{address.line}")
            _give(Pulses(wire, round(address.pulse_ms * 1e6)), stop_reads)
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


def _give(pulses: Pulses, stop: int) -> None:
    """Until the end of standard input, or until told to stop; nonsense is the end, too."""
    buffer = b""
    merged = 0
    while True:
        end_ns = pulses.end_ns
        timeout_s = None if end_ns is None else max(0.0, (end_ns - monotonic_ns()) / 1e9)
        ready = select.select([0, stop], [], [], timeout_s)[0]
        pulses.tick(monotonic_ns())
        if stop in ready:
            return
        if not ready:
            continue
        data = os.read(0, 4096)
        *lines, buffer = (buffer + data).split(b"\n")
        if not data or len(buffer) > LONGEST_LINE:
            return
        for line in lines:
            if not line.isdigit():
                return
            pulses.give(int(line), monotonic_ns())
        if pulses.merged != merged:
            merged = pulses.merged
            logger.warning(
                "%d parts got no pulse of their own: the one before still lasted", merged
            )


if __name__ == "__main__":
    sys.exit(main())
