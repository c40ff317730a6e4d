"""What one OPC UA client may cost the server, and that it reaches nothing of another's."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("asyncua", reason="the extra opcua is not installed")

from asyncua import Client, ua
from asyncua.common.utils import ServiceError
from opcua_clients import StandInLine, node, opcua_client, opcua_server
from opcua_fuzz import Deaf, handles, hello, resident_kib

from ssn_edge_runtime.outlets.opcua_subscriptions import (
    FASTEST_MS,
    MOST_EVENT_ITEMS,
    MOST_FIELDS,
    MOST_SUBSCRIPTIONS,
    SLOWEST_MS,
    _check_event_filter,
    bound_pace,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder = tmp_path_factory.mktemp("s")
    line = StandInLine(folder / "c")
    try:
        with opcua_server(folder) as (address, process):
            yield address, process.pid
    finally:
        line.close()


@pytest.fixture
def address(server: tuple[str, int]) -> str:
    return server[0]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """In place of the rooms' own: the shared server's line has one."""


async def refused(attempt: Any, *codes: int) -> None:
    with pytest.raises(ua.UaStatusCodeError) as refusal:
        await attempt
    assert refusal.value.code in codes


def test_nobody_reaches_another_s_subscription_by_its_number(address: str) -> None:
    async def look() -> None:
        async with opcua_client(address) as one, opcua_client(address) as other:
            heard = Heard()
            theirs = await one.create_subscription(50, heard)
            await theirs.subscribe_data_change(await node(one, "State"))
            number, gone = theirs.subscription_id, ua.StatusCodes.BadSubscriptionIdInvalid
            session = other.uaclient
            items = ua.CreateMonitoredItemsParameters(SubscriptionId=number)
            paused = ua.SetPublishingModeParameters(False, [number])
            await refused(session.delete_subscriptions([number]), gone)
            await refused(session.create_monitored_items(items), gone)
            await refused(session.set_publishing_mode(paused), gone)
            heard.values.clear()
            again = await theirs.subscribe_data_change(await node(one, "Cause"))
            while not heard.values:
                await asyncio.sleep(0.02)
            assert again

    asyncio.run(asyncio.wait_for(look(), 60))


class Heard(Deaf):
    def __init__(self) -> None:
        self.values: list[object] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Keep."""
        self.values.append(value)


def test_subscriptions_and_their_items_are_bounded_over_all_clients(address: str) -> None:
    async def look() -> None:
        async with opcua_client(address) as client:
            line = await node(client, "")
            one = await client.create_subscription(50, Deaf())
            handles = [await one.subscribe_events(line) for _ in range(MOST_EVENT_ITEMS)]
            await refused(one.subscribe_events(line), ua.StatusCodes.BadTooManyMonitoredItems)
            await one.unsubscribe(handles[0])
            await one.subscribe_events(line)
            for _ in range(MOST_SUBSCRIPTIONS - 1):
                await client.create_subscription(1000, Deaf())
            await refused(
                client.create_subscription(1000, Deaf()), ua.StatusCodes.BadTooManySubscriptions
            )
            client.uaclient.protocol.transport.abort()
        # They end with their connection: who comes back finds room.
        async with opcua_client(address) as client:
            await client.create_subscription(1000, Deaf())

    asyncio.run(asyncio.wait_for(look(), 60))


def test_a_few_bytes_do_not_ask_for_a_flood(address: str) -> None:
    async def look() -> None:
        async with opcua_client(address) as client:
            large = client.get_node(ua.NodeId(8252))  # the standard's schema, 340 kB
            assert len(await large.read_value()) > 300_000
            await refused(client.read_values([large] * 20), ua.StatusCodes.BadResponseTooLarge)
            small = client.get_node(ua.NodeId(2256))
            too_many = ua.StatusCodes.BadTooManyOperations
            await refused(client.read_values([small] * 1001), too_many)

    asyncio.run(asyncio.wait_for(look(), 60))


def test_one_session_at_a_time_and_no_server_is_registered(address: str) -> None:
    async def look() -> None:
        async with opcua_client(address) as client:
            await refused(client.create_session(), ua.StatusCodes.BadTooManySessions)
            server = ua.RegisteredServer(ServerUri="urn:thief", IsOnline=True)
            server.ServerNames = [ua.LocalizedText("thief")]
            await refused(
                client.uaclient.register_server(server), ua.StatusCodes.BadServiceUnsupported
            )
            assert [each.ApplicationUri for each in await client.find_servers()] == [
                "urn:ssn-edge:opcua"
            ]

    asyncio.run(asyncio.wait_for(look(), 60))


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"MSGF" + struct.pack("<I", 2**31) + b"\0" * 64,
        b"MSGF" + struct.pack("<I", 70_000) + b"\0" * 64,
        b"MSGF" + struct.pack("<I", 3) + b"\0" * 64,
        b"ACKF" + struct.pack("<I", 28) + b"\xff" * 20,  # a server's word, with other limits
        hello(1),  # answers would be cut into crumbs
        hello(65_535, 0),
    ],
)
def test_what_is_no_opc_ua_of_a_client_is_hung_up_on(address: str, said: bytes) -> None:
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5) as talk:
        talk.settimeout(20)
        with suppress(ConnectionError):
            talk.sendall(said)
            answer = talk.recv(4096)
            assert answer[:3] in (b"", b"ERR")
            while answer:
                answer = talk.recv(4096)


def test_who_fetches_no_answers_is_asked_for_nothing_more_and_then_left(
    server: tuple[str, int],
) -> None:
    address, pid = server

    async def look() -> int:
        client = Client(address, timeout=60)
        await client.connect()
        transport = client.uaclient.protocol.transport
        held, before_kib = handles(pid), resident_kib(pid)
        transport.pause_reading()
        large = client.get_node(ua.NodeId(8252))  # 340 kB each, 40 MB together
        reads = [asyncio.ensure_future(large.read_value()) for _ in range(120)]
        peak_kib = 0
        while handles(pid) >= held:
            peak_kib = max(peak_kib, resident_kib(pid))
            await asyncio.sleep(0.1)
        transport.abort()
        for each in reads:
            each.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        with suppress(Exception):
            await asyncio.wait_for(client.disconnect(), 1)
        async with opcua_client(address) as other:
            assert await (await node(other, "State")).read_value() == "ContinuousExecution"
        return peak_kib - before_kib

    assert asyncio.run(asyncio.wait_for(look(), 90)) < 16 * 1024


def test_a_filter_is_a_tree_and_no_large_one() -> None:
    def filter_of(*operands: tuple[int, ...], fields: int = 1) -> ua.EventFilter:
        found = ua.EventFilter()
        found.SelectClauses = [ua.SimpleAttributeOperand()] * fields
        for each in operands:
            element = ua.ContentFilterElement()
            element.FilterOperands = [ua.ElementOperand(index) for index in each]
            found.WhereClause.Elements.append(element)
        return found

    _check_event_filter(filter_of((1, 2), (), ()))
    for wrong in (
        filter_of((0,)),  # itself
        filter_of((1,), (0,)),  # round and round
        filter_of((1, 1), (2, 2), ()),  # twice as much work at each step
        filter_of(fields=MOST_FIELDS + 1),
        filter_of(*((),) * 100),
        ua.DataChangeFilter(),
        None,
    ):
        with pytest.raises(ServiceError):
            _check_event_filter(wrong)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(0, FASTEST_MS), (-1, FASTEST_MS), (1e-9, FASTEST_MS), (float("nan"), FASTEST_MS),
     (float("inf"), SLOWEST_MS), (1e300, SLOWEST_MS), (250.0, 250.0)],
)  # fmt: skip
def test_a_pace_is_moved_to_where_the_server_keeps_up(wanted: float, given: float) -> None:
    params = ua.CreateSubscriptionParameters(RequestedPublishingInterval=wanted)
    bound_pace(params)
    assert params.RequestedPublishingInterval == given
