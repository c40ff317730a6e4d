"""In the emulated machine: pulses on a wire of the kernel's, seen from the wire's other end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.outlets import process as outlet_process
from ssn_edge_runtime.outlets.gpio.outlet import GpioOutlet

outlet_process.START_S = 600.0  # an emulated machine reads its files slowly

CHIP, WIRE = sys.argv[1], Path(sys.argv[2])
SECOND_NS = 10**9


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def level() -> int:
    """What the controller sees: what drives the wire, or else the resistor."""
    driver = "driven" if int((WIRE / "is_output").read_text()) else "pull"
    return int((WIRE / driver).read_text())


def until(what: Callable[[], bool]) -> None:
    end_s = monotonic() + 600
    while not what():
        assert monotonic() < end_s, level()
        sleep(0.001)


def ended_pulse(name: str, line: str) -> None:
    with GpioOutlet(f"{CHIP}:{line},300") as outlet:
        assert level() == 0
        began_s = monotonic()
        outlet.accept(1, 1, monotonic_ns() + 60 * SECOND_NS)
        until(lambda: level() == 1)
        until(lambda: level() == 0)
        say(f"{name}: {1000 * (monotonic() - began_s):.0f} ms from the call to its end, of 300")
        outlet.accept(2, 2, monotonic_ns() - 1)
        sleep(0.2)
        assert level() == 0
        try:
            GpioOutlet(f"{CHIP}:{line}").open()
        except ListenError as error:
            say(f"taken twice: {error}")
        else:
            raise AssertionError("a line was taken twice")
    say(f"OK {name}")


def begun_pulse() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ssn_edge_runtime.outlets.gpio.pulse_process", f"{CHIP}:0,10000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    assert process.stdin is not None
    process.stdin.write(b"%d\n" % (monotonic_ns() + 100 * SECOND_NS))
    process.stdin.flush()
    until(lambda: level() == 1)
    return process


def ends_in_a_pulse(name: str, end: Callable[[subprocess.Popen[bytes]], object]) -> None:
    process = begun_pulse()
    end(process)
    process.wait()
    assert level() == 0
    # It is an input again: what is outside holds it.
    (WIRE / "pull").write_text("1")
    assert level() == 1
    (WIRE / "pull").write_text("0")
    say(f"OK {name}")


def close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


ended_pulse("by offset", "0")
ended_pulse("by name", "ACCEPT")
say("OK-PULSES")
ends_in_a_pulse("its line ends", close)
ends_in_a_pulse("SIGTERM", lambda process: process.send_signal(signal.SIGTERM))
say("OK-ENDS")
killed = begun_pulse()
killed.kill()
killed.wait()
until(lambda: level() == 0)  # its guard's doing: such a chip keeps its level
with GpioOutlet(f"{CHIP}:0"):
    assert level() == 0  # started again: low before anything else
say("OK-KILLED")
