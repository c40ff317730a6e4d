"""A watchdog of the board, with files in its place: nobody ran this on a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.supervision import HardwareWatchdog


@pytest.fixture
def device(tmp_path: Path) -> tuple[Path, int]:
    """A pipe with a name, and its other end."""
    path = tmp_path / "watchdog"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def test_it_gets_signs_of_life_and_the_magic_letter_last(device: tuple[Path, int]) -> None:
    path, other_end = device
    with HardwareWatchdog(path) as watchdog:
        assert watchdog.timeout_s is None  # a pipe knows no timeout
        for _ in range(3):
            watchdog.keep_alive()
    watchdog.close()
    assert os.read(other_end, 99) == b"\0\0\0V"
    os.close(other_end)


def test_an_error_disarms_it_too(device: tuple[Path, int]) -> None:
    path, other_end = device
    with pytest.raises(ZeroDivisionError), HardwareWatchdog(path):
        raise ZeroDivisionError
    assert os.read(other_end, 99) == b"V"
    os.close(other_end)


def test_a_killed_process_leaves_it_armed(device: tuple[Path, int]) -> None:
    path, other_end = device
    code = (
        "import os, signal, sys, pathlib\n"
        "from ssn_edge_runtime.supervision import HardwareWatchdog\n"
        "with HardwareWatchdog(pathlib.Path(sys.argv[1])) as watchdog:\n"
        "    watchdog.keep_alive()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert os.read(other_end, 99) == b"\0"
    os.close(other_end)


def test_one_that_is_not_there_or_dies_is_an_error_that_says_what_to_do(
    device: tuple[Path, int], tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="run without it, or see DeviceAllow"):
        HardwareWatchdog(tmp_path / "none").open()
    path, other_end = device
    with HardwareWatchdog(path) as watchdog:
        os.close(other_end)
        with pytest.raises(SourceError, match="no sign of life"):
            watchdog.keep_alive()
    with pytest.raises(SourceError, match="not open"):
        watchdog.keep_alive()


def test_a_timeout_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        HardwareWatchdog(timeout_s=1)
