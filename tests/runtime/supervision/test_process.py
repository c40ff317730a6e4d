"""What the system grants is what is reported, in processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

BEGIN = """
import gc, os, resource, sys
from ssn_edge_runtime.supervision.process import *
from ssn_edge_runtime.supervision.process import unlock_memory
def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split()[1]
"""


def ask(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", BEGIN + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_settling_freezes_what_lives_and_leaves_opencv_one_thread() -> None:
    out = ask("import cv2; print(settle_process() > 1000, gc.get_freeze_count() > 1000,"
              " cv2.getNumThreads())")  # fmt: skip
    assert out == "True True 1"
    out = ask("import cv2; before = cv2.getNumThreads(); settle_process(); release_process();"
              " print(gc.get_freeze_count(), cv2.getNumThreads() == before)")  # fmt: skip
    assert out == "0 True"


def test_locked_memory_is_reported_as_the_kernel_has_it() -> None:
    out = ask(
        "granted = lock_memory()\n"
        "locked = int(status('VmLck'))\n"
        "assert granted.is_granted == (locked > 0), (granted, locked)\n"
        "unlock_memory(); assert int(status('VmLck')) == 0\n"
        "print(granted)"
    )
    assert out.startswith("locked memory: ")


def test_locked_memory_is_not_even_asked_for_under_a_limit() -> None:
    out = ask(
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (2**23, 2**23))\n"
        "import ssn_edge_runtime.supervision.process as process\n"
        "process._may_lock_all = lambda: False\n"
        "print(lock_memory(), int(status('VmLck')))"
    )
    assert "not granted (the limit is 8 MiB; LimitMEMLOCK=infinity in the unit" in out
    assert out.endswith(" 0")


def test_a_realtime_priority_is_reported_as_the_kernel_has_it() -> None:
    out = ask(
        "granted = ask_realtime(10)\n"
        "assert granted.is_granted == (os.sched_getscheduler(0) == os.SCHED_FIFO), granted\n"
        "print(granted)"
    )
    assert out.startswith("real-time priority 10: ")


def test_a_realtime_priority_that_is_not_granted_says_what_to_do() -> None:
    out = ask(
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "def refuse(*_): raise PermissionError(1, 'Operation not permitted')\n"
        "os.sched_setscheduler = refuse\n"
        "print(ask_realtime(10)); print(ask_realtime(1000))"
    )
    assert "not granted (Operation not permitted, the limit is 0; LimitRTPRIO=10" in out
    assert "1 to 99 are possible" in out


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY,
    reason="this process may not lock memory without limit",
)
def test_locked_memory_grows_with_what_is_touched() -> None:
    out = ask(
        "granted = lock_memory()\n"
        "if not granted.is_granted: print('more'); sys.exit()\n"
        "before = int(status('VmLck')); held = bytearray(2**24)\n"
        "print('more' if int(status('VmLck')) >= before + 2**14 else 'less')"
    )
    assert out == "more"
