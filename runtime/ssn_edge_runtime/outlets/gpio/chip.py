"""A line of the kernel's GPIO character device, by libgpiod 2."""

from __future__ import annotations

from types import TracebackType

from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.outlets.gpio.address import GpioLine

CONSUMER = "ssn-edge"


class ChipLine:
    """An output of a chip, inactive until it is driven; a context manager.

    At its end it is driven inactive and then left as an input, so that the resistor outside holds
    it: many chips keep the last level of a line that nobody has.

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
            self._request = gpiod.request_lines(
                self._address.chip, consumer=CONSUMER, config={self._address.line: output}
            )
        except (OSError, ValueError) as error:
            raise ListenError(
                f"--gpio {self._address}: cannot be taken ({error}); gpioinfo shows the lines, and "
                "this user needs the group of the chip's device file"
            ) from error
        return self

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
            self.drive(is_active=False)
            self._request.reconfigure_lines({self._address.line: self._idle})
        finally:
            self._request.release()
