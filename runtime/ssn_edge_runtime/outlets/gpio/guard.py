"""A second process that holds the wire, for the case that the first is killed in a pulse."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


class WireGuard:
    """A copy of this process that sleeps until this one ends, and then leaves the wire inactive.

    It holds the same request of the wire, so that the wire is nobody's at no moment. A kernel that
    ends a process closes its end of a pipe: the copy wakes at once, whatever ended it. To be made
    before there are threads.

    Args:
        leave: Makes the wire inactive; called in the copy.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        reads, self._writes = os.pipe()
        begun, begins = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _guard(reads, self._writes, begins, leave)
        os.close(reads)
        os.close(begins)
        os.read(begun, 1)  # until the copy has let go of what the line writes to
        os.close(begun)

    def dismiss(self) -> None:
        """The wire is inactive; the copy ends, and holds it no longer."""
        with suppress(OSError):  # it was ended before
            os.write(self._writes, b".")
        os.close(self._writes)
        os.waitpid(self._pid, 0)


def _guard(reads: int, writes: int, begins: int, leave: Callable[[], None]) -> NoReturn:
    try:
        # A service manager tells all processes of a unit to end: this one ends after the other.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.close(writes)
        # What the line writes to a process that is gone must fail.
        os.close(0)
        os.close(1)
        os.close(begins)
        if not os.read(reads, 1):
            leave()
    finally:
        os._exit(0)
