"""Signs of life to the service manager, as long as no part is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

from ssn_edge_runtime.supervision.notify import Notifier


class Heartbeat:
    """A thread that tells the service manager that we live, unless one part takes too long.

    A line without parts lives; one whose engine hangs does not, nor does one whose interpreter lock
    is held: the signs stop, and the service manager restarts us.

    Args:
        notifier: Who is told; without a watchdog there is no thread.
        clock: Monotonic, in seconds.
    """

    def __init__(self, notifier: Notifier, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._notifier = notifier
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
    def is_stuck(self) -> bool:
        """Whether one part takes longer than the service manager waits for a sign."""
        interval_s, since_s = self._notifier.watchdog_interval_s, self._busy_since_s
        if interval_s is None or since_s is None:
            return False
        return self._clock() - since_s > 2 * interval_s

    def open(self) -> None:
        """Begin."""
        self._stop.clear()
        if self._notifier.watchdog_interval_s is not None:
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
        interval_s = self._notifier.watchdog_interval_s or 1.0
        while True:
            if not self.is_stuck:
                self._notifier.watchdog()
            if self._stop.wait(interval_s):
                return
