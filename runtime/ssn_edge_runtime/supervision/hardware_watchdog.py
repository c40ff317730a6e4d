"""The board's own watchdog, ``/dev/watchdog``: without a sign of life the machine is reset.

It is the last resort, for a kernel or driver that hangs with us. It was never run on a real one:
the tests use files that stand in for it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from pathlib import Path
from types import TracebackType

from ssn_edge_runtime.errors import ConfigError, SourceError

WATCHDOG_DEVICE = Path("/dev/watchdog")
_MAGIC_CLOSE = b"V"
"""Written last, it tells the driver that we leave on purpose."""
_SET_TIMEOUT = 0xC0045706  # WDIOC_SETTIMEOUT in linux/watchdog.h
_GET_TIMEOUT = 0x80045707  # WDIOC_GETTIMEOUT

logger = logging.getLogger(__name__)


class HardwareWatchdog:
    """An armed watchdog: from `open` on, `keep_alive` must come within the timeout, or a reset.

    `close` disarms it, after an error of ours, too: a service that ends for a reason is the service
    manager's to start again. Killed or hanging, we leave it armed.

    Args:
        path: The device. systemd may hold it itself (``RuntimeWatchdogSec``); then it is busy.
        timeout_s: What the driver is asked for; it may choose another, see `timeout_s`.
    """

    def __init__(self, path: Path = WATCHDOG_DEVICE, *, timeout_s: int = 30) -> None:
        if timeout_s < 2:
            raise ConfigError(f"a hardware watchdog of {timeout_s} s; 2 or more are wanted")
        self._path = path
        self._wanted_s = timeout_s
        self._timeout_s: int | None = None
        self._fd: int | None = None

    @property
    def timeout_s(self) -> int | None:
        """What the driver granted; None where it does not tell, or before opening."""
        return self._timeout_s

    def open(self) -> None:
        """Arm it.

        Raises:
            SourceError: There is none, it is in use, or we may not use it.
        """
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(
                f"{self._path}: the hardware watchdog cannot be opened ({error.strerror}); run "
                "without it, or see DeviceAllow in the unit and RuntimeWatchdogSec of systemd"
            ) from error
        self._timeout_s = self._ask(_SET_TIMEOUT, self._wanted_s) or self._ask(_GET_TIMEOUT, 0)
        if self._timeout_s is None:
            logger.warning("%s: does not tell its timeout", self._path)
        elif self._timeout_s != self._wanted_s:
            logger.warning(
                "%s: resets after %d s, %d were wanted", self._path, self._timeout_s, self._wanted_s
            )

    def keep_alive(self) -> None:
        """Give the sign of life.

        Raises:
            SourceError: It cannot be given, or the watchdog is not open.
        """
        if self._fd is None:
            raise SourceError(f"{self._path}: the hardware watchdog is not open")
        try:
            os.write(self._fd, b"\0")
        except OSError as error:
            raise SourceError(
                f"{self._path}: the hardware watchdog takes no sign of life ({error.strerror})"
            ) from error

    def close(self) -> None:
        """Disarm it; a second call does nothing.

        A driver that was built without a way out (``nowayout``) stays armed and says so in the
        kernel's log.
        """
        fd, self._fd = self._fd, None
        if fd is None:
            return
        try:
            os.write(fd, _MAGIC_CLOSE)
        except OSError as error:
            logger.warning("%s: cannot be disarmed (%s)", self._path, error.strerror)
        finally:
            os.close(fd)

    def __enter__(self) -> HardwareWatchdog:
        """Arm it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disarm it."""
        self.close()

    def _ask(self, request: int, value: int) -> int | None:
        """A request about seconds; None where the driver does not know it."""
        if self._fd is None:
            return None
        try:
            answer = fcntl.ioctl(self._fd, request, struct.pack("i", value))
        except OSError:
            return None
        seconds: int = struct.unpack("i", answer)[0]
        return seconds if seconds > 0 else None
