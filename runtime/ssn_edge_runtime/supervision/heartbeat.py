"""Signs of life to the service manager and the board's watchdog, as long as no part is stuck."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.supervision.hardware_watchdog import HardwareWatchdog
from ssn_edge_runtime.supervision.notify import Notifier

USUAL_HARDWARE_TIMEOUT_S = 30.0
"""Of a board that does not tell its own."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """A thread that gives signs of life, unless one part takes too long.

    A line without parts lives; one whose engine hangs does not, nor does one whose interpreter lock
    is held: the signs stop, and the service manager restarts us, or the board resets the machine.

    Args:
        notifier: The service manager.
        hardware: The board's watchdog, open; None for none. Without either there is no thread.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        notifier: Notifier,
        hardware: HardwareWatchdog | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._hardware = hardware
        self._clock = clock
        self._busy_since_s: float | None = None
        self._stop = Event()
        self._thread: Thread | None = None

    def begin(self) -> None:
        """A part is being judged."""
        self._busy_since_s = self._clock()

    def end(self) -> None:
        """It is decided."""
        self._busy_since_s = None

    @property
    def interval_s(self) -> float | None:
        """Between two signs: a third of what the less patient one waits; None for no signs."""
        asked = [self._notifier.watchdog_interval_s]
        if self._hardware is not None:
            asked.append((self._hardware.timeout_s or USUAL_HARDWARE_TIMEOUT_S) / 3)
        return min((each for each in asked if each is not None), default=None)

    @property
    def is_stuck(self) -> bool:
        """Whether one part takes longer than two signs of life lie apart."""
        interval_s, since_s = self.interval_s, self._busy_since_s
        if interval_s is None or since_s is None:
            return False
        return self._clock() - since_s > 2 * interval_s

    def open(self) -> None:
        """Begin."""
        self._stop.clear()
        if self.interval_s is not None:
            self._thread = Thread(target=self._beat, name="ssn-edge-heartbeat", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End; a second call does nothing."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(5.0)

    def __enter__(self) -> Heartbeat:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _beat(self) -> None:
        interval_s = self.interval_s or 1.0
        while True:
            if not self.is_stuck:
                self._notifier.watchdog()
                self._keep_hardware_alive()
            if self._stop.wait(interval_s):
                return

    def _keep_hardware_alive(self) -> None:
        if self._hardware is None:
            return
        try:
            self._hardware.keep_alive()
        except SourceError as error:  # it will reset the machine: nothing is left to do here
            logger.warning("%s", error)
