"""What a hostile network sends an OPC UA server: noise, messages that are nearly right, silence."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from asyncua import Client, ua
from opcua_clients import node

logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # the fuzzers' own clients
HELD = 48
"""Connections that are opened and left, more than the server takes."""
ODD = 8
"""Clients at a time whose own numbers are right."""
NUMBERS = (0, 1, 0x7F, 1000, 65_536, 2**20, 2**31 - 1, 2**31, 2**32 - 1)


def hello(receive: int = 65_535, send: int = 65_535) -> bytes:
    words = struct.pack("<IIIIIi", 0, receive, send, 0, 0, 3) + b"opc"
    return b"HELF" + (len(words) + 8).to_bytes(4, "little") + words


def piece(chance: random.Random) -> bytes:
    """Noise, or a header of some kind before it, with a size that may be a lie."""
    body = chance.randbytes(chance.choice((0, 4, 24, 200, 3000)))
    kind = chance.choice((b"HELF", b"OPNF", b"MSGF", b"CLOF", b"MSGC", b"ACKF", b"ERRF", b"XXXX"))
    size = chance.choice((8 + len(body), 0, 7, 2**31, 2**32 - 1, 70_000, 60_000))
    return chance.choice((b"", kind + size.to_bytes(4, "little"))) + body


def mutant(message: bytes, chance: random.Random) -> bytes:
    """A message with a few bytes changed, behind the numbers of its channel if it has them."""
    first = 24 if message[:3] in (b"MSG", b"CLO") and len(message) > 28 else 8
    body = bytearray(message)
    for _ in range(chance.choice((1, 1, 2, 8))):
        what = chance.randrange(5)
        if what == 0 or len(body) <= first + 4:
            body += chance.randbytes(chance.choice((1, 4, 300)))
        elif what == 1:
            body[chance.randrange(first, len(body))] = chance.randrange(256)
        elif what == 2:
            at = chance.randrange(first, len(body) - 3)
            body[at : at + 4] = chance.choice(NUMBERS).to_bytes(4, "little")
        elif what == 3:
            del body[chance.randrange(first, len(body)) :]
        else:
            at, other = chance.randrange(first, len(body)), chance.randrange(first, len(body))
            body[at:at] = body[other : other + chance.choice((4, 40, 4000))]
    del body[60_000:]
    if chance.random() < 0.9:
        body[4:8] = len(body).to_bytes(4, "little")
    if chance.random() < 0.1:
        body[3:4] = chance.choice((b"C", b"A", b"X"))
    return bytes(body)


class Fuzzers:
    """Threads that fuzz a server for a time.

    Args:
        address: Of the server.
        seconds: How long.
        seed: For what is left to chance.
    """

    def __init__(self, address: str, seconds: float, seed: int) -> None:
        self._address = address
        self._port = int(address.rpartition(":")[2])
        self._until_s = monotonic() + seconds
        self._recorded: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._send_noise, args=(seed,)),
            threading.Thread(target=self._replay, args=(seed + 1,)),
            threading.Thread(target=self._hold, args=(seed + 2,)),
            threading.Thread(target=lambda: asyncio.run(self._be_many(seed + 3))),
        ]

    def __enter__(self) -> Fuzzers:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._threads:
            each.join()

    @property
    def is_on(self) -> bool:
        return any(each.is_alive() for each in self._threads)

    def _talk(self, timeout_s: float = 2.0) -> socket.socket:
        talk = socket.create_connection(("127.0.0.1", self._port), timeout_s)
        self.counts["connections"] += 1
        return talk

    def _send(self, talk: socket.socket, data: bytes) -> None:
        talk.sendall(data)
        self.counts["messages"] += 1
        self.counts["bytes"] += len(data)

    def _send_noise(self, seed: int) -> None:
        chance = random.Random(seed)
        while monotonic() < self._until_s:
            with suppress(OSError), self._talk() as talk:
                if chance.random() < 0.6:
                    small = chance.choice((0, 1, 8191))
                    self._send(talk, hello(small) if chance.random() < 0.2 else hello())
                for _ in range(chance.randrange(1, 20)):
                    self._send(talk, piece(chance))
            sleep(0.02)

    def _replay(self, seed: int) -> None:
        """Say again what a real client said, with one message after another changed."""
        chance = random.Random(seed)
        while monotonic() < self._until_s:
            recorded = list(self._recorded)
            if len(recorded) < 5:
                sleep(0.1)
                continue
            with suppress(OSError, struct.error, IndexError), self._talk() as talk:
                self._replay_one(talk, recorded, chance)
            sleep(0.02)

    def _replay_one(
        self, talk: socket.socket, recorded: list[bytes], chance: random.Random
    ) -> None:
        self._send(talk, recorded[0])
        talk.recv(4096)
        if chance.random() < 0.1:
            self._send(talk, mutant(recorded[1], chance))
        self._send(talk, recorded[1])
        (channel,) = struct.unpack_from("<I", talk.recv(4096), 8)
        mutate_from = chance.randrange(2, len(recorded))
        many = chance.choice((1, 1, 1, 300))  # of one kind, and no answer is fetched
        number = struct.unpack_from("<I", recorded[2], 16)[0]
        for place, each in enumerate(recorded[2:], 2):
            for _ in range(many if place == mutate_from else 1):
                message = bytearray(each)
                struct.pack_into("<I", message, 8, channel)
                struct.pack_into("<II", message, 16, number, number)
                number += 1
                is_mutant = place >= mutate_from and chance.random() < 0.5
                if is_mutant and chance.random() < 0.2:  # in chunks, of which the last never comes
                    message[3:4] = b"C"
                self._send(talk, mutant(bytes(message), chance) if is_mutant else bytes(message))
        talk.settimeout(0.05)
        with suppress(TimeoutError):
            self.counts["answers"] += len(talk.recv(65_536)) > 0

    def _hold(self, seed: int) -> None:
        """Take all the places there are, and say little or nothing."""
        chance = random.Random(seed)
        while monotonic() < self._until_s:
            held = []
            for _ in range(HELD):
                with suppress(OSError):
                    held.append(self._talk())
                    some = hello() + b"MSGC" + (60_000).to_bytes(4, "little") + b"\0" * 50_000
                    self._send(held[-1], some[: chance.choice((0, 1, 8, 35, 43, 50_000))])
            sleep(min(chance.choice((0.5, 2.0)), max(0.0, self._until_s - monotonic())))
            for talk in held:
                talk.close()
            sleep(4.0)

    async def _be_many(self, seed: int) -> None:
        await asyncio.gather(*(self._be_odd_clients(seed + each) for each in range(ODD)))

    async def _be_odd_clients(self, seed: int) -> None:
        """Be clients whose own numbers are right, and some of whose requests are not."""
        chance = random.Random(seed)
        while monotonic() < self._until_s:
            client = Client(self._address, timeout=2, watchdog_intervall=60)
            with suppress(Exception):
                await asyncio.wait_for(self._be_odd(client, chance), 10)
            with suppress(Exception):
                await asyncio.wait_for(client.disconnect(), 3)
            with suppress(Exception):
                client.uaclient.protocol.transport.abort()
            await asyncio.sleep(0.002)

    async def _be_odd(self, client: Client, chance: random.Random) -> None:
        said: list[bytes] = []
        await client.connect_socket()
        self.counts["connections"] += 1
        transport = client.uaclient.protocol.transport
        write, is_odd = transport.write, False

        def write_oddly(data: bytes) -> None:
            said.append(data)
            sent = mutant(data, chance) if is_odd and chance.random() < 0.5 else data
            write(sent)
            self.counts["messages"] += 1
            self.counts["bytes"] += len(sent)

        transport.write = write_oddly
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session()
        is_odd = bool(self._recorded) and chance.random() < 0.8
        requests = [self._read, self._browse, self._change, self._subscribe]
        for each in requests if not self._recorded else chance.choices(requests, k=4):
            with suppress(ua.UaError, TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(each(client, chance), 1.5)
        if not is_odd and len(said) > 8:
            self._recorded = said
        self.counts["sessions"] += 1

    async def _read(self, client: Client, chance: random.Random) -> None:
        nodes = [client.get_node(ua.NodeId(chance.choice((2256, 8252, 2253))))] * 3
        await client.read_values(nodes * chance.choice((1, 1, 300, 400)))
        self.counts["read"] += 1

    async def _browse(self, client: Client, chance: random.Random) -> None:
        for each in (client.nodes.root, await node(client, "")):
            await each.get_children()

    async def _change(self, client: Client, chance: random.Random) -> None:
        line, state = await node(client, ""), await node(client, "State")
        trigger, recipe = await node(client, "Trigger"), await node(client, "SelectRecipe")
        for attempt in (
            lambda: line.call_method(trigger, ua.Variant(5, ua.VariantType.Int64), "", ""),
            lambda: line.call_method(recipe, "steel"),
            lambda: state.write_value("Ready"),
            lambda: client.delete_nodes([line]),
        ):
            with suppress(ua.UaError):
                await attempt()
        self.counts["refused"] += 1

    async def _subscribe(self, client: Client, chance: random.Random) -> None:
        asked = ua.CreateSubscriptionParameters()
        asked.RequestedPublishingInterval = chance.choice((0, 50, 1e-9, math.nan, 1e300, -1))
        asked.RequestedLifetimeCount = chance.choice((0, 10, 2**32 - 1))
        asked.RequestedMaxKeepAliveCount = chance.choice((1, 100))
        asked.PublishingEnabled = True
        subscription = await client.create_subscription(asked, Deaf())
        line, state = await node(client, ""), await node(client, "State")
        await subscription.subscribe_events(line, evfilter=every_field(chance))
        await subscription.subscribe_data_change([state] * chance.choice((1, 20)), queuesize=2**31)
        self.counts["subscribed"] += 1
        await asyncio.sleep(0.2)


class Deaf:
    """Hears everything and makes nothing of it."""

    def event_notification(self, event: Any) -> None:
        """Hear."""

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Hear."""


def every_field(chance: random.Random) -> ua.EventFilter:
    """A filter with sound fields, and sometimes with conditions that name one another."""
    found = ua.EventFilter()
    for name in ("Sequence", "Verdict", "__class__", "EventId") * chance.choice((1, 16, 40)):
        clause = ua.SimpleAttributeOperand()
        clause.TypeDefinitionId = ua.NodeId(ua.ObjectIds.BaseEventType)
        clause.BrowsePath = [ua.QualifiedName(name, 2)]
        clause.AttributeId = ua.AttributeIds.Value
        found.SelectClauses.append(clause)
    for number in range(chance.choice((0, 0, 30))):
        element = ua.ContentFilterElement()
        element.FilterOperator = ua.FilterOperator.And
        element.FilterOperands = [ua.ElementOperand(number + 1), ua.ElementOperand(number + 1)]
        found.WhereClause.Elements.append(element)
    return found


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def handles(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
