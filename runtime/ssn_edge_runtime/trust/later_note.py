"""What is in force now, noted behind the parts that it judges: no part waits for a disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ssn_edge_runtime.errors import SsnEdgeError

CLOSING_S = 5.0
"""A disk that hangs must not hang the end as well."""

logger = logging.getLogger(__name__)


class LaterNote:
    """Makes notes in a thread of its own, one after the other.

    `settle` stands before the next decision on what is older: it is made with every note on disk,
    or not at all.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._owed: Callable[[], None] | None = None

    def begin(self, note: Callable[[], None]) -> None:
        """Have a note made, after the one before.

        Args:
            note: Writes it; one that fails is made again by `settle`.
        """
        before, self._owed = self._thread, note

        def work() -> None:
            if before is not None:
                before.join()
            try:
                note()
            except SsnEdgeError as error:  # what judges goes on; nothing else is taken without it
                logger.warning("what was taken cannot be noted yet: %s", error)
                return
            if self._owed is note:
                self._owed = None

        self._thread = threading.Thread(target=work, name="ssn-edge-note", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Wait until the last note is on disk.

        Raises:
            ConfigError: What was noted before cannot be understood.
            StorageError: It cannot be written, again.
        """
        if self._thread is not None:
            self._thread.join()
        owed = self._owed
        if owed is not None:
            owed()
            self._owed = None

    def close(self) -> None:
        """Wait for the note that is under way, but not for ever."""
        if self._thread is not None:
            self._thread.join(CLOSING_S)
