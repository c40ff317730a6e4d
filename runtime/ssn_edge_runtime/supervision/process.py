"""The device process itself: garbage collection, OpenCV's threads, priority, locked memory.

What the system does not grant is reported, never assumed, and never an error: the line runs
without, only less evenly.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
from contextlib import suppress
from dataclasses import dataclass

import cv2

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Granted:
    """What was asked of the system, and whether it was granted.

    Args:
        what: Such as ``locked memory``.
        is_granted: Whether it holds now.
        detail: One line for a person: what holds, or what to do.
    """

    what: str
    is_granted: bool
    detail: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}: {'granted' if self.is_granted else 'not granted'} ({self.detail})"


def settle_process() -> int:
    """Call once all is loaded and warm: what lives now is never looked through again.

    Collects, then freezes what is left (`gc.freeze`), so that a collection between two parts looks
    at what came since, not at every object of every library. OpenCV takes one thread: its pool
    would compete with the engine's for the same cores.

    Returns:
        How many objects were frozen.
    """
    cv2.setNumThreads(1)
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()


def release_process() -> None:
    """Take `settle_process` back, for a process that lives on: OpenCV gets its usual threads."""
    gc.unfreeze()
    cv2.setNumThreads(-1)


def ask_realtime(priority: int) -> Granted:
    """Ask for a real-time priority (SCHED_FIFO) for the calling thread and what it starts later.

    Args:
        priority: 1 to 99; above 49 one competes with the kernel's own interrupt threads.
    """
    what = f"real-time priority {priority}"
    limits = os.sched_get_priority_min(os.SCHED_FIFO), os.sched_get_priority_max(os.SCHED_FIFO)
    if not limits[0] <= priority <= limits[1]:
        return Granted(what, False, f"{limits[0]} to {limits[1]} are possible")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        allowed = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
        return Granted(
            what,
            False,
            f"{error.strerror}, the limit is {allowed}; LimitRTPRIO={priority} in the unit, which "
            f"ssn-edge service install --realtime {priority} writes",
        )
    now = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    # SCHED_RESET_ON_FORK may be set beside it.
    is_granted = now[0] & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO and now[1] == priority
    return Granted(what, is_granted, f"the kernel says policy {now[0]}, priority {now[1]}")


def make_later_threads_ordinary() -> None:
    """What this thread starts from now on does not inherit its real-time priority."""
    policy = os.sched_getscheduler(0)
    if policy == os.SCHED_FIFO:
        with suppress(OSError):
            os.sched_setscheduler(0, policy | os.SCHED_RESET_ON_FORK, os.sched_getparam(0))


def lock_memory() -> Granted:
    """Ask that what this process touches stays in memory and never goes to a swap device.

    Not asked for under a finite limit: every later allocation beyond it would fail.
    """
    what = "locked memory"
    allowed = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if allowed != resource.RLIM_INFINITY and not _may_lock_all():
        return Granted(
            what,
            False,
            f"the limit is {allowed // _MIB} MiB; LimitMEMLOCK=infinity in the unit, which "
            "ssn-edge service install writes",
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        number = ctypes.get_errno()
        hint = "; a kernel before 4.4" if number == errno.EINVAL else ""
        return Granted(what, False, f"{os.strerror(number)}{hint}")
    return Granted(what, True, f"{_locked_bytes() // _MIB} MiB are locked now")


def unlock_memory() -> None:
    """Take `lock_memory` back."""
    ctypes.CDLL(None).munlockall()


def _may_lock_all() -> bool:
    """Whether limits do not count for us: CAP_IPC_LOCK, number 14, is among our capabilities."""
    for line in _status():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 14 & 1)
    return False


def _locked_bytes() -> int:
    for line in _status():
        if line.startswith("VmLck:"):
            return int(line.split()[1]) * 1024
    return 0


def _status() -> list[str]:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read().splitlines()
    except OSError:
        return []
