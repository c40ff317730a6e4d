"""The line's side of the wire: an outlet that only writes a line to the wire's process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.line.status import LineStatus
from ssn_edge_runtime.outlets.gpio.address import parse_gpio
from ssn_edge_runtime.outlets.process import START_S, OutletProcess, environment

NOT_LATER_NS = 1_000_000_000
"""A reject pulse that was not given by then is given no more: another part is there."""


class GpioOutlet(OutletProcess):
    """The accept pulse of a line; a process beside it, and one of its `Outlet`.

    Args:
        line: Chip, line and length, as `parse_gpio` reads them.
        is_reject_pulse: Not fail-safe: a pulse for each part that did not pass, in place of those
            that did. A dead device, a cut wire or a lost verdict lets parts through.
        on_message: Told that it is up, and when it is gone for good.

    Raises:
        ConfigError: It names no line.
    """

    def __init__(
        self,
        line: str,
        *,
        is_reject_pulse: bool = False,
        on_message: Callable[[str], None] = lambda message: None,
    ) -> None:
        address = parse_gpio(line)
        pulse = f"{address.pulse_ms:g} ms"
        what = f"pulse of {pulse} for each pass"
        if is_reject_pulse:
            what = f"NOT FAIL-SAFE: pulse of {pulse} for each part that did not pass"
        super().__init__(
            line,
            "ssn_edge_runtime.outlets.gpio.pulse_process",
            [str(address)],
            what=what,
            outlet="gpio",
            on_message=on_message,
        )
        self._is_reject_pulse = is_reject_pulse
        self._shown: int | None = None
        self._leaving: subprocess.Popen[bytes] | None = None

    def accept(self, trigger_id: int | None, sequence: int, until_monotonic_ns: int) -> None:
        """Give the pulse of a part that passed.

        Raises:
            OSError: The process is gone, or does not read: no signal.
        """
        if not self._is_reject_pulse:
            self._pulse(until_monotonic_ns)

    def show(self, status: LineStatus) -> None:
        """The last part's reject pulse, where that is what was asked for.

        Raises:
            OSError: The process is gone, or does not read: no signal.
        """
        last = status.last
        if not self._is_reject_pulse or last is None or last.sequence == self._shown:
            return
        self._shown = last.sequence
        if last.verdict is not Verdict.PASS or not last.is_accepted:
            self._pulse(status.at_ns + NOT_LATER_NS)

    def close(self) -> None:
        """End it; a wire whose process was killed is left inactive."""
        process = self._process
        super().close()
        if process is not None and process.returncode < 0:
            self._given_up()
        if self._leaving is not None:
            try:
                self._leaving.wait(START_S)
            except subprocess.TimeoutExpired:
                self._leaving.kill()
                self._leaving.wait()

    def _given_up(self) -> None:
        """The last one may have been killed in a pulse, together with its guard."""
        self._leaving = subprocess.Popen(
            [*self._command, "--leave"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,
        )

    def _pulse(self, until_ns: int) -> None:
        if self._process is None:
            raise BrokenPipeError("the wire's process is gone")
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), b"%d\n" % until_ns)

    def _started(self) -> subprocess.Popen[bytes]:
        process = super()._started()
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)  # the authority must not wait
        return process
