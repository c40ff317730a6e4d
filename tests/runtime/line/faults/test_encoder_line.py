"""The pass signal by counts of an encoder, on a whole line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns, sleep

import pytest
import simulated_line
from fault_plan import Plan
from test_ends import QUIET, events, make_authority, run_beside, verdicts

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.control import ControlSocket
from ssn_edge_runtime.line.encoder import EncoderRules
from ssn_edge_runtime.line.status import LastVerdict
from ssn_edge_runtime.sinks import Journal

MS = 1_000_000
RULES = EncoderRules(delay_counts=3000, window_counts=1000, silent_ns=150 * MS)
OPTIONS = simulated_line.options(
    rules=replace(simulated_line.options().rules, encoder=RULES, ejector_window_ns=100 * MS)
)


class Belt:
    """Ten counts a millisecond, over the wrap, until it is told otherwise."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._is_over = threading.Event()
        self.start_ns = monotonic_ns()
        self.first = 2**32 - 2000
        self.stood_ns: int | None = None
        self.is_read = True
        self._thread = threading.Thread(target=self._run)

    def count(self, at_ns: int) -> int:
        at_ns = at_ns if self.stood_ns is None else min(at_ns, self.stood_ns)
        return self.first + (at_ns - self.start_ns) * 10 // MS

    @contextmanager
    def moving(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.005):
            if self.is_read:
                now_ns = monotonic_ns()
                self._tell(self.count(now_ns) % 2**32, now_ns)


def give_triggers(authority: Authority, planned: Plan, count: int) -> None:
    for _ in range(count):
        part = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 1
        sleep(max(0, planned.triggered_ns(part) - monotonic_ns()) / 1e9)
        authority.trigger(part + 1, at_ns=planned.triggered_ns(part))


def run_with_belt(
    folder: Path, after: Callable[[Belt], None]
) -> tuple[simulated_line.Gate, Belt, Plan]:
    planned = simulated_line.plan(1, **QUIET)
    gate = simulated_line.Gate()
    with Journal(folder) as journal:
        authority = make_authority(journal, planned, OPTIONS, outlets=[gate])
        belt = Belt(authority.encoder)

        def drive() -> None:
            give_triggers(authority, planned, 25)
            after(belt)

        with belt.moving():
            run_beside(authority, drive)
    return gate, belt, planned


def passed(folder: Path) -> int:
    return sum(record["verdict"] == "pass" for record in verdicts(folder))


def test_each_pass_is_given_where_its_part_is_by_the_encoder_and_the_stop_waits_for_it(
    tmp_path: Path, nothing_is_left: None
) -> None:
    gate, belt, planned = run_with_belt(tmp_path, lambda belt: None)
    assert len(gate.accepted) + len(events(tmp_path, "withheld")) == passed(tmp_path) > 0
    assert gate.accepted
    for trigger_id, _, until_ns, given_ns in gate.accepted:
        assert trigger_id is not None
        exposed = belt.count(planned.exposed_ns(trigger_id - 1))
        assert exposed + RULES.delay_counts <= belt.count(given_ns) + 1
        assert belt.count(given_ns - MS) < exposed + RULES.delay_counts + RULES.window_counts
        assert given_ns - MS < until_ns


def test_a_belt_that_stops_gives_no_more_signals_and_the_run_still_ends(
    tmp_path: Path, nothing_is_left: None
) -> None:
    def stop(belt: Belt) -> None:
        belt.stood_ns = monotonic_ns()  # and it goes on being read

    gate, belt, planned = run_with_belt(tmp_path, stop)
    assert belt.stood_ns is not None
    at_ejector = belt.count(belt.stood_ns) - RULES.delay_counts
    for trigger_id, *_ in gate.accepted:
        assert trigger_id is not None
        assert belt.count(planned.exposed_ns(trigger_id - 1)) <= at_ejector + 100
    whys = {str(event["detail"]["why"]) for event in events(tmp_path, "withheld")}  # type: ignore[index]
    assert "the run ended while the belt stood" in whys
    assert len(gate.accepted) + len(events(tmp_path, "withheld")) == passed(tmp_path)


@pytest.mark.parametrize(("what", "why"), [("silent", "silent"), ("reset", "jumped|ran backwards")])
def test_an_encoder_that_is_not_to_be_believed_withholds_what_waits(
    tmp_path: Path, nothing_is_left: None, what: str, why: str
) -> None:
    before: list[int] = []

    def break_it(belt: Belt) -> None:
        before.append(monotonic_ns())
        if what == "silent":
            belt.is_read = False
        else:
            belt.first += 2**30
        sleep(0.4)

    gate, _, planned = run_with_belt(tmp_path, break_it)
    withheld = events(tmp_path, "withheld")
    assert withheld
    assert any(
        part in str(event["detail"]["why"])  # type: ignore[index]
        for event in withheld for part in why.split("|")
    )  # fmt: skip
    slack_ns = 100 * MS + (RULES.silent_ns if what == "silent" else 0)
    for trigger_id, _, _, given_ns in gate.accepted:
        assert trigger_id is not None
        # The last part may be exposed after the break: its place is known again.
        is_after = what == "reset" and planned.exposed_ns(trigger_id - 1) >= before[0]
        assert is_after or given_ns < before[0] + slack_ns
    assert len(gate.accepted) + len(withheld) == passed(tmp_path)


def test_a_pass_whose_signal_was_withheld_is_none_when_it_is_asked_for_again(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    rules = replace(OPTIONS.rules, deadline_ns=20_000 * MS)  # it has its time still
    told: dict[int, list[Answer]] = {}
    shown: list[LastVerdict | None] = []
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned, replace(OPTIONS, rules=rules))
        belt = Belt(authority.encoder)

        def ask(trigger_id: int, at_ns: int | None = None) -> Answer:
            answer = authority.ask(trigger_id, at_ns=at_ns).result(5)
            told.setdefault(trigger_id, []).append(answer)
            return answer

        def drive() -> None:
            for _ in range(50):
                part = (monotonic_ns() - planned.start_ns) // planned.interval_ns + 1
                sleep(max(0, planned.triggered_ns(part) - monotonic_ns()) / 1e9)
                if ask(part + 1, planned.triggered_ns(part)).is_pass:
                    break
            belt.is_read = False  # before it is at the ejector
            sleep(2 * RULES.silent_ns / 1e9 + 0.2)
            shown.append(authority.status().last)
            ask(part + 1)

        with belt.moving():
            run_beside(authority, drive)
    first, again = told[max(told)]
    withheld = [event["detail"]["sequence"] for event in events(tmp_path, "withheld")]  # type: ignore[index]
    assert first.is_pass
    assert first.sequence in withheld
    assert (again.is_pass, again.detail) == (False, "passed, but the signal was withheld")
    assert shown[0] is not None
    assert (shown[0].sequence, shown[0].is_accepted) == (first.sequence, False)


def test_without_a_reading_no_pass_is_given_and_its_answer_is_unknown(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    gate = simulated_line.Gate()
    told: list[str] = []
    path = tmp_path / "control.sock"
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned, OPTIONS, outlets=[gate])

        def drive() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.settimeout(5)
                with client.makefile("rw") as lines:
                    for count in ("x", "-1", str(2**32), "1" * 30):
                        lines.write(f"encoder {count}\n")
                        lines.flush()
                        told.append(lines.readline())
            give_triggers(authority, planned, 15)

        with ControlSocket(authority, path):
            run_beside(authority, drive)
    assert all(line.startswith("error: ") for line in told)
    assert gate.accepted == []
    assert len(events(tmp_path, "withheld")) == passed(tmp_path) > 0


def test_readings_come_over_the_socket_and_are_refused_where_nothing_needs_them(
    tmp_path: Path, nothing_is_left: None
) -> None:
    planned = simulated_line.plan(1, **QUIET)
    path = tmp_path / "control.sock"
    gate = simulated_line.Gate()
    with Journal(tmp_path) as journal:
        authority = make_authority(journal, planned, OPTIONS, outlets=[gate])

        def drive() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                belt = Belt(lambda count, _: client.sendall(f"encoder {count}\n".encode()))
                with belt.moving():
                    give_triggers(authority, planned, 25)
                    sleep(0.5)

        with ControlSocket(authority, path):
            run_beside(authority, drive)
    assert gate.accepted
    with Journal(tmp_path / "without") as journal:
        authority = make_authority(journal, planned)
        with pytest.raises(ConfigError, match="no use for an encoder"):
            authority.encoder(5)
        run_beside(authority, lambda: None)
