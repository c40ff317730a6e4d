"""The accept pulse: its rules, its process, and the wire at each end of it.

The process runs over a stand-in for libgpiod that keeps what it was told. The library itself, on
the kernel's character device, is driven by `tests/plc/gpio_in_qemu.sh`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import ConfigError, ListenError
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.line.status import LastVerdict, LineStatus
from ssn_edge_runtime.outlets.gpio.address import GpioLine, parse_gpio
from ssn_edge_runtime.outlets.gpio.outlet import GpioOutlet
from ssn_edge_runtime.outlets.gpio.pulses import Pulses

STAND_IN = Path(__file__).parent / "stand_in"
MS = 1_000_000


class Wire:
    def __init__(self) -> None:
        self.is_active = False

    def drive(self, *, is_active: bool) -> None:
        assert is_active is not self.is_active  # each edge is a pulse's
        self.is_active = is_active


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(-5, 60))),
)
def test_a_wire_is_active_for_a_part_in_time_alone_and_never_for_two_at_once(
    steps: list[tuple[bool, int, int]],
) -> None:
    wire = Wire()
    pulses = Pulses(wire, 20)
    now_ns, end_ns = 1000, 0
    for is_pass, later_ns, valid_ns in steps:
        now_ns += later_ns
        if is_pass:
            is_free = now_ns >= end_ns
            pulses.give(now_ns + valid_ns, now_ns)
            if is_free and valid_ns > 0:
                end_ns = now_ns + min(20, valid_ns)
        else:
            pulses.tick(now_ns)
        assert wire.is_active is (now_ns < end_ns)
        assert pulses.end_ns == (end_ns if wire.is_active else None)
    assert pulses.given + pulses.late + pulses.merged == sum(step[0] for step in steps)


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what the stand-in was told; the processes find it in place of the library."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("SSN_EDGE_TEST_WIRE", str(tmp_path / "wire"))
    return tmp_path / "wire"


def edges(wire: Path) -> list[tuple[int, str]]:
    text = wire.read_text() if wire.exists() else ""
    told = [line.split(" ", 1) for line in text.splitlines()]
    return [(int(at), what) for at, what in told]


def wait_for(wire: Path, what: str, count: int = 1) -> None:
    until_s = monotonic() + 20
    while [each for _, each in edges(wire)].count(what) < count:
        assert monotonic() < until_s, edges(wire)
        sleep(0.005)


END = ["low", "input", "release"]


def test_each_pass_has_its_pulse_and_the_end_leaves_the_wire_to_its_resistor(wire: Path) -> None:
    said: list[str] = []
    with GpioOutlet("gpiochip0:7,30", on_message=said.append) as outlet:
        for part in range(3):
            outlet.accept(part, part, monotonic_ns() + 5_000 * MS)
            wait_for(wire, "low", part + 1)
        outlet.accept(3, 3, monotonic_ns() - 1)  # too late
        sleep(0.1)
    told = edges(wire)
    assert [what for _, what in told] == ["take low", *["high", "low"] * 3, *END]
    for (began_ns, what), (ended_ns, _) in pairwise(told):
        assert what != "high" or ended_ns - began_ns >= 29 * MS
    assert said == ["/dev/gpiochip0:7: pulse of 30 ms for each pass"]


def test_a_pulse_ends_with_its_part_s_time(wire: Path) -> None:
    with GpioOutlet("gpiochip0:PQ.05,10000") as outlet:
        outlet.accept(1, 1, monotonic_ns() + 100 * MS)
        wait_for(wire, "low")
        assert [what for _, what in edges(wire)] == ["take low", "high", "low"]


@pytest.mark.parametrize("how", ["term", "end of input", "nonsense"])
def test_in_the_middle_of_a_pulse_any_end_takes_it_back(wire: Path, how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ssn_edge_runtime.outlets.gpio.pulse_process", "gpiochip0:7,10000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with process:
        assert process.stdin is not None
        process.stdin.write(b"%d\n" % (monotonic_ns() + 10_000 * MS))
        process.stdin.flush()
        wait_for(wire, "high")
        if how == "term":
            process.send_signal(signal.SIGTERM)
        elif how == "nonsense":
            process.stdin.write(b"pass\n")
            process.stdin.flush()
        else:
            process.stdin.close()
        assert process.wait(20) == 0
    assert [what for _, what in edges(wire)] == ["take low", "high", *END]


def test_a_line_that_is_killed_in_the_middle_of_a_pulse_leaves_the_wire_inactive(
    wire: Path,
) -> None:
    code = (
        "from time import monotonic_ns, sleep\n"
        "from ssn_edge_runtime.outlets.gpio.outlet import GpioOutlet\n"
        "outlet = GpioOutlet('gpiochip0:7,10000')\n"
        "outlet.open()\n"
        "outlet.accept(1, 1, monotonic_ns() + 10**10)\n"
        "sleep(60)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as line:
        until_s = monotonic() + 20
        while not wire.exists() or "high" not in wire.read_text():
            assert monotonic() < until_s
            sleep(0.01)
        line.kill()
    wait_for(wire, "release")
    assert [what for _, what in edges(wire)] == ["take low", "high", *END]


def test_a_process_that_is_killed_gives_no_signal_and_begins_again_inactive(wire: Path) -> None:
    with GpioOutlet("gpiochip0:7,20") as outlet:
        assert outlet._process is not None
        outlet._process.kill()
        outlet._process.wait()
        with pytest.raises(OSError, match="Broken pipe"):
            outlet.accept(1, 1, monotonic_ns() + 5_000 * MS)
        wait_for(wire, "release")
        outlet.look()
        wait_for(wire, "take low", 2)
        outlet.accept(2, 2, monotonic_ns() + 5_000 * MS)
        wait_for(wire, "high")
    assert [what for _, what in edges(wire)][:6] == ["take low", *END, "take low", "high"]


def test_a_process_that_is_killed_in_the_middle_of_a_pulse_leaves_the_wire_inactive_at_once(
    wire: Path,
) -> None:
    with GpioOutlet("gpiochip0:7,10000") as outlet:
        outlet.accept(1, 1, monotonic_ns() + 10_000 * MS)
        wait_for(wire, "high")
        assert outlet._process is not None
        killed_ns = monotonic_ns()
        outlet._process.kill()
        wait_for(wire, "release")  # nobody has looked: it is the guard's doing
        told = edges(wire)
        assert [what for _, what in told] == ["take low", "high", *END]
        assert told[2][0] - killed_ns < 2_000 * MS  # some ms; the machine may be busy
        outlet.look()
        wait_for(wire, "take low", 2)


def kill_with_its_guard(outlet: GpioOutlet) -> None:
    """Both at once, as whoever kills a whole session does; stopped first, so that neither acts."""
    process = outlet._process
    assert process is not None
    os.killpg(process.pid, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_one_that_is_killed_with_its_guard_is_started_again_and_its_first_act_is_low(
    wire: Path,
) -> None:
    with GpioOutlet("gpiochip0:7,10000") as outlet:
        outlet.accept(1, 1, monotonic_ns() + 10_000 * MS)
        wait_for(wire, "high")
        kill_with_its_guard(outlet)
        assert [what for _, what in edges(wire)] == ["take low", "high"]  # it keeps its level
        outlet.look()
        wait_for(wire, "take low", 2)
        assert [what for _, what in edges(wire)] == ["take low", "high", "take low"]


def test_one_that_is_started_again_no_more_still_leaves_the_wire_inactive(wire: Path) -> None:
    with GpioOutlet("gpiochip0:7,10000") as outlet:
        for count in range(1, 7):
            outlet.accept(count, count, monotonic_ns() + 10_000 * MS)
            wait_for(wire, "high", count)
            kill_with_its_guard(outlet)
            outlet.look()
            wait_for(wire, "take low", count + 1)
        assert outlet._process is None
        wait_for(wire, "release")
        with pytest.raises(OSError, match="is gone"):
            outlet.accept(7, 7, monotonic_ns() + 10_000 * MS)
    assert [what for _, what in edges(wire)] == [*["take low", "high"] * 6, "take low", *END]


def test_one_that_is_killed_at_the_line_s_own_end_leaves_the_wire_inactive(wire: Path) -> None:
    with GpioOutlet("gpiochip0:7,10000") as outlet:
        outlet.accept(1, 1, monotonic_ns() + 10_000 * MS)
        wait_for(wire, "high")
        kill_with_its_guard(outlet)
    assert [what for _, what in edges(wire)] == ["take low", "high", "take low", *END]


def test_a_guard_that_is_killed_changes_nothing_of_a_process_that_ends_in_order(
    wire: Path,
) -> None:
    with GpioOutlet("gpiochip0:7,20") as outlet:
        assert outlet._process is not None
        pid = outlet._process.pid
        (guard,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(guard), signal.SIGKILL)
        outlet.accept(1, 1, monotonic_ns() + 5_000 * MS)
        wait_for(wire, "low")
    assert [what for _, what in edges(wire)] == ["take low", "high", "low", *END]


def test_a_wire_that_the_guard_still_holds_is_waited_for(
    wire: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSN_EDGE_TEST_BUSY", "20")
    with GpioOutlet("gpiochip0:7,20") as outlet:
        outlet.accept(1, 1, monotonic_ns() + 5_000 * MS)
        wait_for(wire, "low")
    monkeypatch.setenv("SSN_EDGE_TEST_BUSY", "100000")
    with pytest.raises(ListenError, match="cannot be taken"), GpioOutlet("gpiochip0:7,20"):
        pass


def test_a_process_that_does_not_read_keeps_the_line_from_nothing(wire: Path) -> None:
    with GpioOutlet("gpiochip0:7") as outlet:
        assert outlet._process is not None
        outlet._process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(BlockingIOError):
                fill(outlet)
        finally:
            outlet._process.send_signal(signal.SIGCONT)


def fill(outlet: GpioOutlet) -> None:
    for part in range(10**6):
        outlet.accept(part, part, monotonic_ns())


def status_with(sequence: int, verdict: Verdict, *, is_accepted: bool) -> LineStatus:
    last = LastVerdict(
        sequence, sequence, verdict, Reason.NONE, is_accepted, monotonic_ns() + 10**9, 1.0
    )
    return LineStatus(LineState.CONTINUOUS_EXECUTION, "", 0, monotonic_ns(), {}, last=last)


def test_reject_pulses_are_for_whatever_is_no_given_pass_once_for_each_part(wire: Path) -> None:
    with GpioOutlet("gpiochip0:7,5", is_reject_pulse=True) as outlet:
        outlet.accept(1, 1, monotonic_ns() + 5_000 * MS)
        shown = [
            status_with(1, Verdict.PASS, is_accepted=True),
            status_with(2, Verdict.FAIL, is_accepted=False),
            status_with(3, Verdict.PASS, is_accepted=False),
            status_with(4, Verdict.UNKNOWN, is_accepted=False),
        ]
        for pulses, status in enumerate(shown):
            outlet.show(status)
            outlet.show(status)
            wait_for(wire, "low", pulses)
        assert "NOT FAIL-SAFE" in outlet._what
    assert [what for _, what in edges(wire)].count("high") == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gpiochip0:105", GpioLine("/dev/gpiochip0", 105)),
        ("/dev/gpiochip1:PQ.05,50", GpioLine("/dev/gpiochip1", "PQ.05", 50.0)),
    ],
)
def test_a_line_is_named_by_chip_and_number_or_name(text: str, line: GpioLine) -> None:
    assert parse_gpio(text) == line
    assert parse_gpio(str(line)) == line


@pytest.mark.parametrize(
    "text",
    ["", "105", "gpiochip0", "gpiochip0:", "/dev/sda:1", "gpiochip0:1,", "gpiochip0:1,0",
     "gpiochip0:1,nan", "gpiochip0:1,20000", "gpiochip0:1,-5", "gpiochip0:a b"],
)  # fmt: skip
def test_what_names_no_line_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is wanted"):
        parse_gpio(text)


def test_a_chip_that_is_not_there_is_said_by_the_real_library() -> None:
    pytest.importorskip("gpiod")
    outlet = GpioOutlet("gpiochip4711:1")
    with pytest.raises(ListenError, match="cannot be taken"):
        outlet.open()
    outlet.close()
