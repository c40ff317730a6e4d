"""A real line in a process of its own, and triggers for it."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from test_command import start_line, wait_until_judging

TRIGGERED = ("--trigger", "software", "--deadline-ms", "2000", "--keep", "none")


@contextmanager
def line_with(folder: Path, package: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    with start_line(package, folder / "out", *TRIGGERED, *more) as line:
        try:
            wait_until_judging(line)
            yield line
            if line.poll() is None:
                line.send_signal(signal.SIGTERM)
                _, err = line.communicate(timeout=60)
                assert line.returncode == 0, err
        finally:
            line.kill()


def pull(folder: Path, first: int, count: int) -> list[str]:
    told = []
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(20)
        talk.connect(str(folder / "out" / "control.sock"))
        with talk.makefile("rw") as lines:
            for number in range(first, first + count):
                lines.write(f"trigger {number}\n")
                lines.flush()
                told.append(lines.readline())
    return told
