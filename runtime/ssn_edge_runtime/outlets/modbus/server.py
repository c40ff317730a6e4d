"""Modbus TCP for few known clients: each byte is bounded, each wait has an end.

The frames are read here and not by pymodbus' own server (3.16.1), which answers one of several
requests that come in one go, and knows no list of clients, no limit of their number and no end of
an idle one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.outlets.modbus.address import PlcAddress
from ssn_edge_runtime.outlets.modbus.handshake import Counts
from ssn_edge_runtime.outlets.modbus.requests import WRITES, Requests

MOST_CLIENTS = 8
IDLE_S = 10.0
"""A client that asks for nothing is forgotten: a PLC that lost its power leaves its connection."""
SEND_S = 2.0
HEADER = 7
LONGEST_REQUEST = 253
"""Without its frame."""
BUFFER = 2048
SAID_EVERY = 1000
"""Refusals are counted, and one in so many is said."""

logger = logging.getLogger(__name__)


class ModbusServer:
    """Listens, and answers each client in turn.

    Args:
        address: Where, and for whom.
        requests: Answers them.
        counts: Of refused clients.
        clock: Nanoseconds, monotonic.
        idle_s: A connection without a whole request for longer is closed.
    """

    def __init__(
        self,
        address: PlcAddress,
        requests: Requests,
        counts: Counts,
        clock: Callable[[], int],
        *,
        idle_s: float = IDLE_S,
    ) -> None:
        self._address = address
        self._requests = requests
        self._counts = counts
        self._clock = clock
        self._idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.last_writer = "nobody"
        """Who wrote last, by its address: the PLC, where others only read."""

    async def open(self) -> str:
        """Listen; where.

        Raises:
            ListenError: The address is taken, not of this device, or not for this user.
        """
        host, port = str(self._address.host), self._address.port
        try:
            self._server = await asyncio.start_server(
                self._connected, host, port, limit=BUFFER, backlog=MOST_CLIENTS
            )
        except PermissionError as error:
            raise ListenError(
                f"{self._address}: this user may not listen there; ports below 1024 need the "
                "capability CAP_NET_BIND_SERVICE, or take another port, such as 5020"
            ) from error
        except OSError as error:
            raise ListenError(
                f"{self._address}: cannot be listened on ({error.strerror}); an address of this "
                "device and a port that is free are wanted"
            ) from error
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Hang up on everybody."""
        if self._server is not None:
            self._server.close()
        await end_tasks(self._clients)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        is_known = peer is not None and self._address.allows(peer[0])
        if task is None or not is_known or len(self._clients) >= MOST_CLIENTS:
            self._refuse("not in the list" if not is_known else "too many clients", peer)
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                while await asyncio.wait_for(self._one(reader, writer), self._idle_s):
                    pass
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the next one may follow."""
        header = await reader.readexactly(HEADER)
        length = int.from_bytes(header[4:6], "big") - 1  # the unit's byte is in the header
        if header[2:4] != b"\0\0" or not 1 <= length <= LONGEST_REQUEST:
            return False  # no Modbus, and nothing tells where the next request would begin
        request = await reader.readexactly(length)
        if request[0] in WRITES:
            self.last_writer = str(writer.get_extra_info("peername")[0])
        answer = self._requests.answer(request, self._clock())
        size = (len(answer) + 1).to_bytes(2, "big")
        writer.write(header[:4] + size + header[6:7] + answer)
        await asyncio.wait_for(writer.drain(), SEND_S)
        return True

    def _refuse(self, why: str, peer: tuple[str, int] | None) -> None:
        count = self._counts.refused_clients
        self._counts.refused_clients += 1
        if count % SAID_EVERY == 0:
            logger.warning("a client is refused (%s): %s", why, "gone" if peer is None else peer[0])


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: `asyncio.wait_for` of Python 3.10 and 3.11 forgets a cancellation that comes
    together with what it waited for, and a peer that hammers makes that likely.
    """
    pending = {each for each in tasks if not each.done()}
    while pending:
        for each in pending:
            each.cancel()
        pending = (await asyncio.wait(pending, timeout=0.05))[1]
