"""What one client's connection may cost the OPC UA server: bytes in, bytes out, sessions, time.

The library bounds some of it; what it leaves to the client is bounded here, before it is read.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Any

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer, ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import header_from_binary, uatcp_to_binary

LARGEST_MESSAGE = 2**19
LARGEST_CHUNK = 2**16 - 1
SMALLEST_CHUNK = 8192
"""OPC 10000-6: no peer has smaller buffers; one that says so has its answers cut into crumbs."""
MOST_WAITING_BYTES = 2**18
"""Of requests that were read and not yet answered; beyond, the connection is not read."""
MOST_UNSENT_BYTES = 2**20
"""Of answers that a client does not fetch; beyond, its requests wait."""
UNSENT_S = 10.0
"""After which one that fetches nothing is hung up on."""
LAST_WORDS_S = 1.0
MOST_SESSIONS = 16
"""One after the other, over one connection."""

_HEADER = struct.Struct("<3scI")
_SMALLEST = {b"HEL": 28, b"OPN": 16, b"MSG": 16, b"CLO": 16, b"ERR": 16}
"""Bytes that a message of this kind has at least; a client sends no other kind."""


class Limits(TransportLimits):  # type: ignore[misc]
    """The transport's limits, which a client's words can only make smaller, and not too small."""

    def create_acknowledge_and_set_limits(self, msg: ua.Hello) -> ua.Acknowledge:
        """Answer a client's first words.

        Raises:
            UaError: Its buffers are smaller than any client's may be.
        """
        if min(msg.ReceiveBufferSize, msg.SendBufferSize) < SMALLEST_CHUNK:
            raise ua.uaerrors.BadRequestTooLarge
        return super().create_acknowledge_and_set_limits(msg)

    def update_client_limits(self, msg: ua.Acknowledge) -> None:
        """A server is acknowledged nothing."""
        raise ua.uaerrors.BadRequestTooLarge


def server_limits() -> Limits:
    """What is told to each client."""
    return Limits(
        max_recv_buffer=LARGEST_CHUNK,
        max_send_buffer=LARGEST_CHUNK,
        max_chunk_count=LARGEST_MESSAGE // LARGEST_CHUNK + 1,
        max_message_size=LARGEST_MESSAGE,
    )


class BoundedProcessor(UaProcessor):  # type: ignore[misc]
    """Answers one connection's requests: one session at a time, which ends with it."""

    sessions = 0

    async def _process_message(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> bool:
        if typeid == ua.NodeId(ua.ObjectIds.CreateSessionRequest_Encoding_DefaultBinary):
            is_open = self.session is not None and self.session.state.name != "Closed"
            # The one before would live on unseen, with a task of its own.
            if is_open or self.sessions >= MOST_SESSIONS:
                raise ServiceError(ua.StatusCodes.BadTooManySessions)
            self.sessions += 1
        done: bool = await super()._process_message(typeid, requesthdr, seqhdr, body)
        return done

    def _should_close_session_on_transport_loss(self) -> bool:
        return True  # nobody may take it over: see GuardedServer.lookup_external_session


class BoundedConnection(OPCUAProtocol):  # type: ignore[misc]
    """Takes a connection's bytes apart, within bounds, and hangs up on what is no OPC UA."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or hang up on one too many."""
        self._came = bytearray()
        self._queue: deque[tuple[Any, Buffer]] = deque()
        self._waiting_bytes = 0
        self._something = asyncio.Event()
        self._is_fetched = asyncio.Event()
        self._is_fetched.set()
        super().connection_made(transport)
        if self.transport is None:
            return
        self.processor = BoundedProcessor(self.iserver, self.transport, self.limits)
        self.processor.set_policies(self.policies)
        self.transport.set_write_buffer_limits(high=MOST_UNSENT_BYTES)

    def connection_lost(self, ex: BaseException | None) -> None:
        """Let go what it held, at once."""
        before = len(self.closing_tasks)
        super().connection_lost(ex)
        self._came.clear()
        self._queue.clear()
        if self.processor is not None:
            self.processor._connection._drop_incoming_parts()
            self.processor._publish_requests.clear()
        for task in self.closing_tasks[before:]:
            task.add_done_callback(self._is_closed)

    def _is_closed(self, task: asyncio.Task[Any]) -> None:
        if task in self.closing_tasks and not task.cancelled() and task.exception() is None:
            self.closing_tasks.remove(task)

    def pause_writing(self) -> None:
        """The client does not fetch its answers."""
        self._is_fetched.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._is_fetched.set()

    def data_received(self, data: bytes) -> None:
        """Take whole messages; of one whose header is wrong, nothing is kept."""
        if self.transport is None or self.transport.is_closing():
            return
        self._came += data
        while len(self._came) >= _HEADER.size:
            kind, chunk, size = _HEADER.unpack_from(self._came)
            is_right = kind in _SMALLEST and chunk in (b"F", b"C", b"A")
            if not is_right or not _SMALLEST[kind] <= size <= LARGEST_CHUNK:
                self._came.clear()
                self.transport.abort()
                return
            if len(self._came) < size:
                break
            message = Buffer(bytes(self._came[:size]))
            del self._came[:size]
            self._waiting_bytes += size
            self._queue.append((header_from_binary(message), message))
            self._something.set()
        if self._waiting_bytes > MOST_WAITING_BYTES:
            self.transport.pause_reading()

    async def _process_received_message_loop(self) -> None:
        while self.transport is not None and not self.transport.is_closing():
            if not self._queue:
                self._something.clear()
                await self._something.wait()
                continue
            header, body = self._queue.popleft()
            try:
                # Answers would pile up: who fetches none is asked for nothing, and then left.
                await asyncio.wait_for(self._is_fetched.wait(), UNSENT_S)
                if not await self._process_one_msg(header, body):
                    self._hang_up()
                    return
            except asyncio.TimeoutError:
                self.transport.abort()
                return
            except Exception as error:  # noqa: BLE001 - what a client sent; none of ours
                # Framing, keys or numbers are wrong, and what follows cannot be trusted either.
                code = getattr(error, "code", ua.StatusCodes.BadTcpInternalError)
                said = ua.ErrorMessage(ua.StatusCode(code), "")
                self.transport.write(uatcp_to_binary(ua.MessageType.Error, said))
                self._hang_up()
                return
            self._waiting_bytes -= header.packet_size
            if self._waiting_bytes <= MOST_WAITING_BYTES and not self.transport.is_closing():
                self.transport.resume_reading()

    def _hang_up(self) -> None:
        """Close; also on a client that does not fetch what was said last."""
        if self.transport is not None:
            self.transport.close()
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self.transport.abort)

    async def _activation_watchdog(self) -> None:
        """End a connection on which nobody is logged in, or no longer: others need its place."""
        assert self.transport is not None
        assert self.processor is not None
        while not self.transport.is_closing():
            await asyncio.sleep(self.iserver.max_pending_activation_seconds)
            session = self.processor.session
            if session is None or not session.is_activated():
                self.transport.abort()


class BoundedListener(BinaryServer):  # type: ignore[misc]
    """Listens; each of its connections is bounded."""

    def _make_protocol(self) -> OPCUAProtocol:
        return BoundedConnection(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )
