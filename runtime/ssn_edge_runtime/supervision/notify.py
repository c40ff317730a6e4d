"""Telling the service manager: ready, alive, what we do, stopping. systemd's sd_notify protocol."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from types import TracebackType

logger = logging.getLogger(__name__)

LONGEST_STATUS = 200


class Notifier:
    """Datagrams to ``$NOTIFY_SOCKET``; without one, nothing happens. Never raises, never waits.

    Only the process that owns the verdicts may hold one: who else could say that the line is alive?

    Args:
        address: A path, or ``@name`` for an abstract socket; None for no service manager.
        watchdog_s: Silence after which the service manager kills us, in seconds; None for never.
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self._socket: socket.socket | None = None
        self._failures = 0
        self._status = ""
        if address is not None:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, *, pid: int | None = None
    ) -> Notifier:
        """What the service manager asked for.

        Args:
            environment: Holds ``NOTIFY_SOCKET``, ``WATCHDOG_USEC``, ``WATCHDOG_PID``.
            pid: Ours; a watchdog that names another process is not for us.
        """
        address = environment.get("NOTIFY_SOCKET", "")
        if not address:
            return cls()
        if address[0] not in "/@":
            # Such as vsock: of a virtual machine, for its own service manager.
            logger.warning("NOTIFY_SOCKET=%s is no Unix socket; nothing is told", address)
            return cls()
        return cls(
            address, watchdog_s=_watchdog_s(environment, os.getpid() if pid is None else pid)
        )

    @property
    def is_enabled(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    @property
    def failures(self) -> int:
        """How many messages did not go out."""
        return self._failures

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often to call `watchdog`: a third of the time it is waited for; None for never."""
        return None if self._watchdog_s is None else self._watchdog_s / 3

    def ready(self, status: str = "") -> bool:
        """Start-up is done."""
        return self._tell("READY=1", *_status_lines(status))

    def watchdog(self) -> bool:
        """The line is alive."""
        return self._tell("WATCHDOG=1")

    def watchdog_failed(self) -> bool:
        """The line is stuck: kill and restart us now rather than when the time is over."""
        return self._tell("WATCHDOG=trigger")

    def status(self, text: str) -> bool:
        """One line that ``systemctl status`` shows; the same line is sent once."""
        if text == self._status:
            return True
        self._status = text
        return self._tell(*_status_lines(text))

    def stopping(self, status: str = "") -> bool:
        """The end has begun."""
        return self._tell("STOPPING=1", *_status_lines(status))

    def close(self) -> None:
        """Give the socket back; a second call does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Notifier:
        """Return the notifier itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _tell(self, *lines: str) -> bool:
        if self._socket is None or self._address is None:
            return False
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            self._failures += 1
            if self._failures == 1:  # repeats are counted
                logger.warning("the service manager cannot be told: %s", error)
            return False
        return True


def _status_lines(status: str) -> list[str]:
    one_line = " ".join(status.split())[:LONGEST_STATUS]
    return [f"STATUS={one_line}"] if one_line else []


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    wanted_pid = environment.get("WATCHDOG_PID", "")
    if wanted_pid and wanted_pid != str(pid):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        return None
    return int(text) / 1e6
