"""An outlet's own process that dies, and one that says too much: few events, and no waiting."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

import pytest
from broken_outlet import HOWS
from publisher_peers import MOSQUITTO, Broker, wait_until
from test_publishers import write

from ssn_edge_runtime.outlets.process import OutletProcess
from ssn_edge_runtime.record import EventKind, EventRecord
from ssn_edge_runtime.sinks import Journal, audit_log


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process finds the module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def outlet_that(how: str, said: list[str] | None = None) -> OutletProcess:
    return OutletProcess(
        "127.0.0.1:1",
        "broken_outlet",
        [how],
        what="broken",
        outlet="mqtt",
        peer="mqtt://broker/l1",
        on_message=(said if said is not None else []).append,
    )


@pytest.mark.parametrize("how", HOWS)
def test_a_process_that_floods_makes_few_events_and_holds_nobody_up(
    tmp_path: Path, broken: None, no_process_is_left: None, how: str
) -> None:
    events: list[EventRecord] = []
    with outlet_that(how) as outlet:
        until_s, looks, processor_s = monotonic() + 3, 0, 0.0
        while monotonic() < until_s:
            sleep(0.01)
            began_s = sum(os.times()[:2])
            outlet.look()
            events += outlet.take_events()
            processor_s += sum(os.times()[:2]) - began_s
            looks += 1
        # This thread's own time, not the wall's: others share the machine.
        assert processor_s / looks < 0.01
    events += outlet.take_events(is_last=True)
    kinds = Counter(each.event for each in events)
    assert set(kinds) <= {EventKind.OUTLET_FLOOD, EventKind.OUTLET_LOST, EventKind.OUTLET_BACK}
    assert kinds[EventKind.OUTLET_FLOOD] in (1, 2)
    assert len(events) <= 5
    floods = [each.detail for each in events if each.event is EventKind.OUTLET_FLOOD]
    assert all(each["outlet"] == "mqtt" and int(str(each["words"])) > 0 for each in floods)
    with Journal(tmp_path / "log") as journal:
        for event in events:
            journal.note(event)
    assert audit_log(tmp_path / "log").is_whole


def test_a_process_that_is_killed_is_told_with_its_cause_and_so_is_its_return(
    broken: None, no_process_is_left: None
) -> None:
    events: list[EventRecord] = []
    said: list[str] = []

    def came(count: int) -> bool:
        outlet.look()
        events.extend(each for each in outlet.take_events() if each.event in PAIR)
        return len(events) >= count

    PAIR = (EventKind.OUTLET_LOST, EventKind.OUTLET_BACK)
    with outlet_that("words", said) as outlet:
        assert outlet._process is not None
        assert not came(1)
        outlet._process.kill()
        wait_until(lambda: came(2))
        lost, back = events
        assert lost.detail["cause"] == "its process was ended by SIGKILL"
        assert lost.detail["what"] == "process"
        assert lost.detail["peer"] == "mqtt://broker/l1"
        assert float(str(back.detail["away_s"])) > 0
        for _ in range(5):  # more than it is started again
            if outlet._process is None:
                break
            os.kill(outlet._process.pid, signal.SIGKILL)
            outlet._process.wait()
            outlet.look()
        assert "is not started again" in said[-1]
        assert not came(3)  # within the minute
        (summed,) = [each for each in outlet.take_events(is_last=True) if each.event in PAIR]
    assert summed.event is EventKind.OUTLET_LOST
    assert summed.detail["losses"] == 1  # it was never up in between
    assert str(summed.detail["cause"]).endswith("it is not started again")


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_messages_that_found_no_room_while_a_broker_was_away_are_told_with_their_number(
    tmp_path: Path, no_process_is_left: None
) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    broker = Broker(tmp_path)
    broker.start()
    events: list[EventRecord] = []
    url = f"mqtt://127.0.0.1:{broker.port}/l1"
    arguments = [url, "--folder", str(tmp_path / "log"), "--control", str(tmp_path / "none.sock")]

    def kinds() -> list[EventKind]:
        outlet.look()
        events.extend(outlet.take_events())
        return [each.event for each in events]

    with Journal(tmp_path / "log") as journal:
        write(journal, 1)
        outlet = OutletProcess(
            url, "ssn_edge_runtime.outlets.mqtt", [*arguments, "--most-messages", "30"],
            what="told", outlet="mqtt",
        )  # fmt: skip
        try:
            with outlet:
                broker.kill()
                wait_until(lambda: kinds() == [EventKind.OUTLET_LOST])
                last = write(journal, 100)[-1]
                wait_until(lambda: EventKind.UNDELIVERED in kinds())
                broker.start()
                wait_until(lambda: EventKind.OUTLET_BACK in kinds())
            events += outlet.take_events(is_last=True)
        finally:
            broker.kill()
    (back,) = [each.detail for each in events if each.event is EventKind.OUTLET_BACK]
    undelivered = [each.detail for each in events if each.event is EventKind.UNDELIVERED]
    assert (back["waiting"], back["dropped"]) == (30, 70)
    assert sum(int(str(each["dropped"])) for each in undelivered) == 70
    assert undelivered[-1]["to_line"] == last - 30
