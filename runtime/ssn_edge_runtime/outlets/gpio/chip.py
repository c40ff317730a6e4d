"""A line of the kernel's GPIO character device, by libgpiod 2."""

from __future__ import annotations

import errno
from time import monotonic, sleep
from types import TracebackType
from typing import Any

from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.outlets.gpio.address import GpioLine
from ssn_edge_runtime.outlets.gpio.guard import WireGuard

CONSUMER = "ssn-edge"
TAKE_S = 2.0
"""So long a guard of the process before may take to let the wire go; then it is another's."""


class ChipLine:
    """An output of a chip, inactive until it is driven; a context manager.

    At its end it is driven inactive and then left as an input, so that the resistor outside holds
    it: many chips keep the last level of a line that nobody has. That is also done for a process
    that is killed: see `WireGuard`.

    Args:
        address: Which one.
    """

    def __init__(self, address: GpioLine) -> None:
        self._address = address

    def __enter__(self) -> ChipLine:
        """Take it.

        Raises:
            ListenError: There is no such chip or line, it is another's, or gpiod is not installed.
        """
        try:
            import gpiod
            from gpiod.line import Direction, Value
        except ImportError as error:
            raise ListenError(
                f"--gpio needs gpiod, which is not installed here ({error}): "
                "pip install 'ssn-edge[gpio]'"
            ) from error
        self._values = {True: Value.ACTIVE, False: Value.INACTIVE}
        self._idle = gpiod.LineSettings(direction=Direction.INPUT)
        output = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.INACTIVE)
        try:
            self._request = self._requested(gpiod, output)
            self._guard = WireGuard(self._leave)
        except (OSError, ValueError) as error:
            raise ListenError(
                f"--gpio {self._address}: cannot be taken ({error}); gpioinfo shows the lines, and "
                "this user needs the group of the chip's device file"
            ) from error
        return self

    def _requested(self, gpiod: Any, output: Any) -> Any:
        until_s = monotonic() + TAKE_S
        while True:
            try:
                return gpiod.request_lines(
                    self._address.chip, consumer=CONSUMER, config={self._address.line: output}
                )
            except OSError as error:
                if error.errno != errno.EBUSY or monotonic() > until_s:
                    raise
            sleep(0.005)

    def drive(self, *, is_active: bool) -> None:
        """Make it active or not.

        Raises:
            OSError: The kernel refuses.
        """
        self._request.set_value(self._address.line, self._values[is_active])

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave it inactive."""
        try:
            self._leave()
        finally:
            self._guard.dismiss()

    def _leave(self) -> None:
        try:
            self.drive(is_active=False)
            self._request.reconfigure_lines({self._address.line: self._idle})
        finally:
            self._request.release()
