"""`ssn-edge run --gpio ...`: the real line, and the wire's process over a stand-in for libgpiod."""

from __future__ import annotations

import signal
from pathlib import Path
from time import monotonic, sleep

import pytest
from test_command import start_line
from test_ends import verdicts

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
