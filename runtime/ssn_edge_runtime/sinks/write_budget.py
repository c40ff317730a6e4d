"""How much a line may write in a day: evidence is left out before flash is worn, records never."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from ssn_edge_runtime.errors import ConfigError

DAY_S = 24 * 3600.0
LOOK_S = 1.0
SAVED_S = 3600.0
"""What was not written is saved up for so long: the most that a burst may write beyond."""

_PROC = Path("/proc")
_WRITE_BYTES = re.compile(rb"^write_bytes: (\d+)$", re.MULTILINE)


def written_bytes() -> int:
    """Bytes that this process and its children had disks write since they were started.

    The kernel's own count, in whole pages: a line that is synced is written with its page each
    time, and that is what wears flash. Memory disks do not count, nor does what a file system
    writes for itself. Children that have ended, and were waited for, are in their parent's count.

    Raises:
        ConfigError: The kernel does not tell.
    """
    own = _write_bytes(_PROC / "self")
    if own is None:
        raise ConfigError(
            "a write budget needs /proc/self/io, and this kernel does not have it; leave "
            "--write-budget out, and bound evidence by its quota"
        )
    pids: set[str] = set()
    for children in (_PROC / "self" / "task").glob("*/children"):
        try:
            pids.update(children.read_text(encoding="ascii").split())
        except OSError:  # the thread ended
            continue
    return own + sum(_write_bytes(_PROC / pid) or 0 for pid in pids)


def _write_bytes(process: Path) -> int | None:
    try:
        match = _WRITE_BYTES.search((process / "io").read_bytes())
    except OSError:
        return None
    return None if match is None else int(match[1])


class WriteBudget:
    """Whether a line may write what it need not; looks once a second at most.

    It begins with an hour's share, saves up as much at most, and forgets at a restart. Debts of
    more than a day are forgotten, too.

    Args:
        bytes_a_day: The budget, for all that the line's processes write.
        measure: What was written so far.
        clock: Seconds.

    Raises:
        ConfigError: No budget, or what is written cannot be measured.
    """

    def __init__(
        self,
        bytes_a_day: int,
        *,
        measure: Callable[[], int] = written_bytes,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if bytes_a_day < 1:
            raise ConfigError(f"a write budget of {bytes_a_day} bytes a day; it must be above 0")
        self._bytes_a_day = bytes_a_day
        self._measure = measure
        self._clock = clock
        self._looked_s = clock()
        self._written = measure()
        self._left = bytes_a_day * SAVED_S / DAY_S

    def is_spent(self) -> bool:
        """Whether more was written than the time that has passed allows."""
        now_s = self._clock()
        passed_s = now_s - self._looked_s
        if passed_s >= LOOK_S:
            written = self._measure()
            earned = self._bytes_a_day * passed_s / DAY_S
            most = self._bytes_a_day * SAVED_S / DAY_S
            left = self._left + earned - max(0, written - self._written)
            self._left = max(-float(self._bytes_a_day), min(most, left))
            self._looked_s, self._written = now_s, written
        return self._left <= 0
