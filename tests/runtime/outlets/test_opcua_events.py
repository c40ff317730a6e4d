"""OPC UA events: each verdict once and in order, whatever the pace, in bounded room."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

pytest.importorskip("asyncua", reason="the extra opcua is not installed")

from asyncua import Client, ua
from opcua_clients import StandInLine, free_port, node, opcua_client, opcua_server, until
from opcua_fuzz import resident_kib
from real_line import line_with, pull
from test_ends import verdicts

from ssn_edge_runtime.outlets.opcua_event_types import EVENTS, table_of_events
from ssn_edge_runtime.outlets.opcua_subscriptions import MOST_EVENTS_WAIT
from ssn_edge_runtime.record import EventKind, EventRecord, parse_utc
from ssn_edge_runtime.sinks import Journal
from tests.runtime.outlets.opcua_clients import NAMESPACE
from tests.runtime.outlets.test_publishers import write

README = Path(__file__).parents[3] / "runtime" / "README.md"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[StandInLine]:
    line = StandInLine(tmp_path / "c")
    yield line
    line.close()


class Ear:
    """Keeps what a subscription hears."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.values: list[Any] = []

    def event_notification(self, event: Any) -> None:
        """Keep."""
        self.events.append(event)

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Keep."""
        self.values.append(value)

    def of(self, kind: str) -> list[Any]:
        return [each for each in self.events if each.EventType.Identifier == f"{kind}EventType"]

    @property
    def sequences(self) -> list[int]:
        return [each.Sequence for each in self.of("ResultReady")]

    async def until(self, wanted: Any, within_s: float = 60.0) -> None:
        until_s = monotonic() + within_s
        while not wanted():
            assert monotonic() < until_s, (len(self.events), self.events[-3:])
            await asyncio.sleep(0.02)


async def listen(client: Client, *, at: Any = None, interval_ms: float = 50) -> tuple[Any, Ear]:
    """Subscribe to all of the line's event types, at the server's object unless told where."""
    ear = Ear()
    index = await client.get_namespace_index(NAMESPACE)
    kinds = [client.get_node(ua.NodeId(each, index)) for each in EVENTS]
    subscription = await client.create_subscription(interval_ms, ear)
    await subscription.subscribe_events(client.nodes.server if at is None else at, kinds)
    return subscription, ear


def test_of_a_real_line_each_verdict_and_each_change_of_state_is_told_once(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    address = f"opc.tcp://127.0.0.1:{free_port()}"

    async def use(line: Any) -> Ear:
        async with opcua_client(address) as client:
            _, ear = await listen(client)
            told = await asyncio.to_thread(pull, tmp_path, 1, 60)
            await ear.until(lambda: len(ear.sequences) >= 60)
            assert [each.split()[1] for each in told] == [
                each.Verdict for each in ear.of("ResultReady")
            ]
            line.send_signal(signal.SIGSTOP)
            try:
                await ear.until(lambda: ear.of("StateChanged"))
            finally:
                line.send_signal(signal.SIGCONT)
            await ear.until(lambda: ear.of("StateChanged")[-1].From == "Unknown")
            await asyncio.sleep(0.5)
            return ear

    with line_with(tmp_path, package_path, "--opcua", address) as line:
        ear = asyncio.run(use(line))
    records = verdicts(tmp_path / "out")
    assert ear.sequences == [each["sequence"] for each in records] == list(range(1, 61))
    for event, record in zip(ear.of("ResultReady"), records, strict=True):
        for field, name in (
            ("TriggerId", "trigger_id"), ("PartId", "part_id"), ("Verdict", "verdict"),
            ("Reason", "reason"), ("Score", "score"), ("Threshold", "threshold"),
            ("Recipe", "recipe"), ("SettingsId", "settings_id"), ("JournalLine", "line"),
            ("DeadlineMet", "deadline_met"),
        ):  # fmt: skip
            assert getattr(event, field) == record[name], field
        decided = parse_utc(str(record["decided_at"]))
        assert event.DecidedAt == event.Time == decided
        assert event.CapturedAt == parse_utc(str(record["captured_at"])) <= decided
    # On a busy machine it may be lost more than once.
    changes = [(each.From, each.To) for each in ear.of("StateChanged")]
    lost, back = ("ContinuousExecution", "Unknown"), ("Unknown", "ContinuousExecution")
    assert changes == [lost, back] * (len(changes) // 2)
    assert changes


def test_a_trigger_that_bounced_is_counted(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    address = f"opc.tcp://127.0.0.1:{free_port()}"

    async def use() -> None:
        async with opcua_client(address) as client:
            told = await asyncio.to_thread(pull, tmp_path, 1, 3)
            assert [each.split()[1] for each in told[1:]] == ["none", "none"], told
            await until(client, "Counters.Bounces", 2)
            await until(client, "Counters.Records", 1)

    bouncy = ("--min-interval-ms", "600000")
    with line_with(tmp_path, package_path, "--opcua", address, *bouncy):
        asyncio.run(use())


def test_what_comes_faster_than_any_sampling_is_told_whole_and_alarms_too(
    tmp_path: Path, line: StandInLine
) -> None:
    async def use(address: str, journal: Journal) -> tuple[Ear, Ear, list[int]]:
        async with opcua_client(address) as client:
            _, ear = await listen(client, interval_ms=100)
            _, near = await listen(client, at=await node(client, ""), interval_ms=100)
            wrote = write(journal, 700)
            for kind, detail in (
                (EventKind.ALARM, {"alarm": "in_a_row", "value": 5, "limit": 5, "halt": True,
                                   "sequence": 700}),
                (EventKind.STATE, {"before": "ContinuousExecution", "after": "Halted",
                                   "cause": "5 parts in a row"}),
                (EventKind.WITHHELD, {"sequence": 699, "trigger_id": 9, "why": "too late"}),
                (EventKind.SOURCE_LOST, {"source": "camera", "what": "unplugged"}),
                (EventKind.HEALTH, {"temperature_c": 40.0}),
            ):  # fmt: skip
                journal.note(EventRecord.now(kind, detail))
            wrote += write(journal, 1)
            for each in (ear, near):
                await each.until(lambda each=each: each.sequences[-1:] == wrote[-1:])
            return ear, near, wrote

    with Journal(tmp_path) as journal:
        write(journal, 3)  # before anybody asked
        with opcua_server(tmp_path) as (address, _):
            ear, near, wrote = asyncio.run(use(address, journal))
    assert ear.sequences == near.sequences == wrote
    assert len({each.EventId for each in ear.events}) == len(ear.events)
    raised, lost = ear.of("AlarmRaised")
    assert (raised.Alarm, raised.Value, raised.Limit, raised.Halt) == ("in_a_row", 5.0, 5.0, True)
    assert (lost.Alarm, lost.Sequence) == ("source_lost", None)
    (changed,) = ear.of("StateChanged")
    assert (changed.From, changed.To) == ("ContinuousExecution", "Halted")
    assert changed.Severity == 800
    (withheld,) = ear.of("PassWithheld")
    assert (withheld.Sequence, withheld.TriggerId, withheld.Cause) == (699, 9, "too late")
    order = [each.JournalLine for each in ear.events]
    assert order == sorted(order)


def test_who_stops_to_publish_costs_a_bounded_queue_and_others_miss_nothing(
    tmp_path: Path, line: StandInLine
) -> None:
    count = 6 * MOST_EVENTS_WAIT

    async def use(address: str, journal: Journal, pid: int) -> tuple[Ear, Ear, int, int]:
        async with opcua_client(address) as client, opcua_client(address) as deaf_client:
            _, ear = await listen(client)
            _, deaf = await listen(deaf_client)
            publishing = deaf_client.uaclient.session._publish_task
            publishing.cancel()
            before_kib = resident_kib(pid)
            for _ in range(0, count, 500):
                write(journal, 500)
                await ear.until(lambda: ear.sequences[-1:] == [journal.next_sequence - 1])
            after_kib = resident_kib(pid)
            assert deaf.events == []
            deaf_client.uaclient.session.ensure_publish_loop()
            await deaf.until(lambda: deaf.sequences[-1:] == [count])
            return ear, deaf, before_kib, after_kib

    with Journal(tmp_path) as journal, opcua_server(tmp_path) as (address, process):
        ear, deaf, before_kib, after_kib = asyncio.run(use(address, journal, process.pid))
    assert ear.sequences == list(range(1, count + 1))
    # The newest are there, in order; the numbers tell that others are not.
    heard = deaf.sequences
    assert heard == list(range(heard[0], count + 1))
    assert len(heard) <= MOST_EVENTS_WAIT
    assert after_kib < before_kib + 32 * 1024, (before_kib, after_kib)


def test_the_page_has_the_table_of_events() -> None:
    assert table_of_events() in README.read_text()
