"""`ssn-edge run --gpio ...`: the real line, and the wire's process over a stand-in for libgpiod."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
from test_command import start_line
from test_ends import events, verdicts

from tests.runtime.outlets.gpio.test_pulses import STAND_IN, edges


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("SSN_EDGE_TEST_WIRE", str(tmp_path / "wire"))
    return tmp_path / "wire"


PARTS = ("--policy", "every", "--keep", "none", "--deadline-ms", "5000")


def test_each_pass_of_a_line_is_one_pulse(
    tmp_path: Path, nothing_is_left: None, package_path: Path, wire: Path
) -> None:
    more = (*PARTS, "--max-frames", "12", "--gpio", "gpiochip0:7,1")
    with start_line(package_path, tmp_path / "out", *more) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 0, err
    assert "gpiochip0:7: pulse of 1 ms for each pass" in err
    passed = [each for each in verdicts(tmp_path / "out") if each["verdict"] == "pass"]
    told = [what for _, what in edges(wire)]
    assert told == ["take low", *["high", "low"] * len(passed), "low", "input", "release"]
    assert len(passed) > 5


def test_a_line_that_is_killed_leaves_the_wire_inactive(
    tmp_path: Path, nothing_is_left: None, package_path: Path, wire: Path
) -> None:
    more = (*PARTS, "--gpio", "gpiochip0:7,10000")
    with start_line(package_path, tmp_path / "out", *more) as line:
        until_s = monotonic() + 60
        while not wire.exists() or "high" not in wire.read_text():
            assert monotonic() < until_s
            sleep(0.01)
        line.send_signal(signal.SIGKILL)
    while "release" not in wire.read_text():
        assert monotonic() < until_s
        sleep(0.01)
    assert [what for _, what in edges(wire)][-3:] == ["low", "input", "release"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpio", "gpiochip0:7"), "judges frames, not parts"),
        (("--gpio", "gpiochip0:7", "--policy", "every", "--shadow"), "--shadow drives nothing"),
        (("--gpio", "7", "--policy", "every"), "CHIP:LINE[,PULSE_MS] is wanted"),
        (("--gpio-not-fail-safe-reject-pulse",), "goes with --gpio"),
        (
            ("--gpio", "gpiochip0:7", "--policy", "every", "--ejector-delay-ms", "9",
             "--gpio-not-fail-safe-reject-pulse"),
            "not at the ejector",
        ),
    ],
)  # fmt: skip
def test_what_would_drive_a_wire_wrongly_is_refused_before_anything_is_opened(
    tmp_path: Path, package_path: Path, options: tuple[str, ...], said: str
) -> None:
    with start_line(package_path, tmp_path / "out", *options) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 2
    assert said in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def pulse_process_of(line: subprocess.Popen[str]) -> int:
    for pid in Path(f"/proc/{line.pid}/task/{line.pid}/children").read_text().split():
        with suppress(OSError):
            if b"pulse_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return 0


def test_a_wire_whose_process_is_killed_in_a_pulse_is_low_and_the_chain_says_so(
    tmp_path: Path, nothing_is_left: None, package_path: Path, wire: Path
) -> None:
    more = ("--policy", "every", "--keep", "none", "--deadline-ms", "20000")
    with start_line(package_path, tmp_path / "out", *more, "--gpio", "gpiochip0:7,10000") as line:
        try:
            until_s = monotonic() + 60
            while not wire.exists() or "high" not in wire.read_text():
                assert monotonic() < until_s
                sleep(0.01)
            os.kill(pulse_process_of(line), signal.SIGKILL)
            while not events(tmp_path / "out", "outlet_back", is_running=True):
                assert monotonic() < until_s
                sleep(0.05)
            line.send_signal(signal.SIGTERM)
            _, err = line.communicate(timeout=60)
            assert line.returncode == 0, err
        finally:
            line.kill()
    told = [what for _, what in edges(wire)]
    assert told[:6] == ["take low", "high", "low", "input", "release", "take low"]
    assert told[-3:] == ["low", "input", "release"]
    (lost,) = events(tmp_path / "out", "outlet_lost")
    assert lost["detail"] == {
        "outlet": "gpio",
        "what": "process",
        "peer": "gpiochip0:7,10000",
        "cause": "its process was ended by SIGKILL",
        "losses": 1,
        "away_s": 0.0,
    }
