"""The PLC's program, run as it stands, against the rules of the device's side, in its own time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.outlets.modbus.handshake import GiveTrigger, Handshake
from ssn_edge_runtime.outlets.modbus.registers import READABLE
from tests.runtime.outlets.modbus.structured_text import FunctionBlock

PROGRAM = Path(__file__).parents[4] / "runtime" / "plc" / "ssn_edge_handshake.st"
MS = 1_000_000
SCAN_NS = 10 * MS
RESULT_NS = 600 * MS
ECHO_NS = 100 * MS
DEADLINE_MS = 500


@dataclass
class Part:
    at_ns: int
    verdict: Verdict
    seen_ns: int = 0
    told: list[bool] = field(default_factory=list)


class Plant:
    """A belt, a PLC, a device; each may fail.

    Args:
        seed: Of everything.
        faults: How likely each fault is, in each scan.
    """

    def __init__(self, seed: int, faults: float, spacing_ms: tuple[int, ...] = (200, 700)) -> None:
        self.spacing_ms = spacing_ms
        self.random = random.Random(seed)
        self.faults = faults
        self.now_ns = 10**12
        self.epochs = count(1)
        self.parts: list[Part] = []
        self.line_is_up = True
        self.down_until_ns = 0
        self.answers: list[tuple[int, int, Verdict]] = []
        self.frozen_until_ns = 0
        self.restart_plc()
        self.restart_device()

    def restart_plc(self) -> None:
        self.plc = FunctionBlock(PROGRAM.read_text(), lambda: self.now_ns)
        self.plc["xEnable"] = True

    def restart_device(self) -> None:
        self.answers = []
        self.device = Handshake(deadline_ns=DEADLINE_MS * MS, next_epoch=lambda: next(self.epochs))

    def happens(self) -> bool:
        return self.random.random() < self.faults

    def run(self, seconds: float) -> None:
        until_ns = self.now_ns + round(seconds * 1e9)
        next_part_ns = self.now_ns + 500 * MS
        while self.now_ns < until_ns:
            self.now_ns += SCAN_NS
            if self.happens():
                self.restart_plc()
            if self.happens():
                self.restart_device()
            if self.happens():
                self.down_until_ns = self.now_ns + self.random.randrange(2000) * MS
            if self.happens():
                self.frozen_until_ns = self.now_ns + self.random.randrange(2000) * MS
            self.live_line()
            is_there = self.now_ns >= next_part_ns
            if is_there:
                verdict = self.random.choice([Verdict.PASS, Verdict.FAIL])
                self.parts.append(Part(self.now_ns, verdict))
                next_part_ns = self.now_ns + self.random.choice(self.spacing_ms) * MS
            self.scan(is_there)

    def live_line(self) -> None:
        if self.now_ns < self.down_until_ns:
            self.answers = []
            return
        if self.now_ns // (100 * MS) != (self.now_ns - SCAN_NS) // (100 * MS):
            self.device.line_said(LineState.CONTINUOUS_EXECUTION, self.now_ns)
        for answer in [each for each in self.answers if each[0] <= self.now_ns]:
            self.answers.remove(answer)
            reason = Reason.NONE if answer[2] is Verdict.PASS else Reason.DEFECT
            self.device.answered(answer[1], answer[2], reason, self.now_ns)

    def scan(self, is_there: bool) -> None:
        plc = self.plc
        # Reads and writes are requests of their own, as many controllers make them.
        is_linked = self.now_ns >= self.frozen_until_ns
        is_read = is_linked and self.random.random() < 0.8
        is_written = is_linked and self.random.random() < 0.4
        if is_read:
            numbers = self.device.registers(self.now_ns)
            plc["awStatus"] = [numbers[READABLE[at]] for at in range(16, 33)]
        plc["xFresh"] = is_read
        plc["xPart"] = is_there
        plc.scan()
        if plc["xPass"] or plc["xReject"]:
            assert plc["xPass"] is not plc["xReject"]
            if plc["xPass"]:
                self.passed(self.parts[-1])
            elif self.parts:
                self.parts[-1].told.append(False)
        if is_written:
            names = ("trigger_id", "acked_id", "recipe", "plc_heartbeat")
            written = dict(zip(names, plc["awWrite"], strict=True))
            for order in self.device.write(written, self.now_ns):
                assert isinstance(order, GiveTrigger)
                delay_ns = self.random.choice([20, 60, 150, 480, 700]) * MS
                part = self.parts[-1]
                part.seen_ns = part.seen_ns or self.now_ns
                # Late, the camera sees an empty place of the belt: nothing is wrong there.
                is_late = self.now_ns - part.at_ns > ECHO_NS
                verdict = Verdict.PASS if is_late else part.verdict
                self.answers.append((self.now_ns + delay_ns, order.line_id, verdict))

    def passed(self, part: Part) -> None:
        assert part.verdict is Verdict.PASS
        assert self.now_ns - part.at_ns <= RESULT_NS
        assert part.seen_ns - part.at_ns <= ECHO_NS
        assert part.told == [], "a part that was rejected, or passed, already"
        part.told.append(True)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_fails_the_plc_lets_through_no_part_but_one_that_passed_in_time(
    seed: int,
) -> None:
    plant = Plant(seed, faults=0.003)
    plant.run(60)
    assert len(plant.parts) > 50
    assert any(part.told == [True] for part in plant.parts)


def test_where_nothing_fails_each_part_is_told_and_most_of_the_good_ones_pass() -> None:
    plant = Plant(7, faults=0.0, spacing_ms=(700, 900))
    plant.run(120)
    done = plant.parts[:-1]
    assert all(len(part.told) == 1 for part in done)
    good = [part for part in done if part.verdict is Verdict.PASS]
    assert sum(part.told == [True] for part in good) > len(good) / 3


def test_a_plc_that_restarts_takes_no_result_of_before_for_its_next_part_s() -> None:
    plant = Plant(1, faults=0.0)
    device, plc = plant.device, plant.plc
    device.line_said(LineState.CONTINUOUS_EXECUTION, plant.now_ns)
    device.write({"plc_heartbeat": 1, "trigger_id": 0}, plant.now_ns)
    (order,) = device.write({"trigger_id": 1}, plant.now_ns)
    assert isinstance(order, GiveTrigger)
    device.answered(order.line_id, Verdict.PASS, Reason.NONE, plant.now_ns)
    for scan in range(40):  # its own writes have not come through yet
        plant.now_ns += SCAN_NS
        if scan % 10 == 0:
            device.line_said(LineState.CONTINUOUS_EXECUTION, plant.now_ns)
        numbers = device.registers(plant.now_ns)
        assert (numbers["result_id"], numbers["result_code"]) == (1, 0x5AA5)
        plc["awStatus"] = [numbers[READABLE[at]] for at in range(16, 33)]
        plc["xFresh"], plc["xPart"] = True, scan == 20
        plc.scan()
        assert not plc["xPass"]
        assert plc["xReject"] is (scan == 20)
