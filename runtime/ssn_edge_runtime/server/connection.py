"""One HTTP connection: reading with a time limit, and answers that always say a verdict.

Only what HTTP asks for stands here; `endpoints.py` says what the paths do.
"""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Mapping, Sequence
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.server.answers import Answer, Content, Refusal
from ssn_edge_runtime.server.limits import ServerLimits

if TYPE_CHECKING:
    from ssn_edge_runtime.server.http_server import HttpServer

DRAIN_S = 2.0
"""How long the body of a refused request is read on, so that the client gets to the answer."""
MAX_HEAD_BYTES = 1 << 16
"""Of all header lines of a request together."""
NOT_MODIFIED = 304
_SCRATCH_BYTES = 1 << 16
_DIGITS = frozenset("0123456789")

logger = logging.getLogger(__name__)


class Answers(Protocol):
    """What the paths of a server do; called by many connections at once."""

    @property
    def limits(self) -> ServerLimits:
        """What is bounded."""
        ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Of every answer, beside its own."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether each connection ends with the answer in hand."""
        ...

    def answer(self, connection: Connection) -> Answer:
        """Answer a request whose head was read.

        Raises:
            Refusal: There is no other answer.
        """
        ...

    def refused(self, refusal: Refusal, *, part_id: str | None) -> Mapping[str, object]:
        """The document of a refusal."""
        ...


class Connection(BaseHTTPRequestHandler):
    """Serves one client until it leaves, idles or sends what cannot be followed.

    The standard library reads request line and headers (64 KiB each of the two, 100 headers).
    """

    protocol_version = "HTTP/1.1"
    server_version = "ssn-edge"
    sys_version = ""
    wbufsize = _SCRATCH_BYTES  # head and body of an answer leave in one call
    server: HttpServer  # type: ignore[assignment]  # the base asks nothing of it

    def setup(self) -> None:
        """Give each read a time limit."""
        super().setup()
        self.rfile.close()
        self._reader = _TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._reader, _SCRATCH_BYTES)
        if self.connection.family != socket.AF_UNIX:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.part_id: str | None = None
        self._body_left = 0
        self._expects_continue = False

    @property
    def endpoints(self) -> Answers:
        """What the paths do."""
        return self.server.endpoints

    def handle_one_request(self) -> None:
        """Wait for a request and answer it; whatever the client does, it ends here."""
        self.part_id = None
        self._body_left = 0
        self._expects_continue = False
        self._reader.until_s = monotonic() + self.endpoints.limits.idle_s
        if not self.server.may_idle(self.connection):
            self.close_connection = True
            return
        try:
            super().handle_one_request()
        except ConnectionError:  # the client is gone; what was decided for it is of no use
            self.close_connection = True

    def parse_request(self) -> bool:
        """Read the head; called once the first line is there."""
        self.server.is_busy(self.connection)
        whole = self.rfile
        self.rfile = _Head(whole)  # type: ignore[assignment]  # only its `readline` is called
        try:
            is_read = super().parse_request()
        finally:
            self.rfile = whole
        if not is_read:
            return False
        if self.request_version == "HTTP/0.9":  # it knows neither headers nor a status
            self.send_error(505, "HTTP/0.9 is not spoken here")
            return False
        return True

    def handle_expect_100(self) -> bool:
        """Ask for the body only once it is wanted, in `read_body`."""
        self._expects_continue = True
        return True

    def answer(self) -> None:
        """Answer the request whose head was read."""
        self.arrived_ns = monotonic_ns()
        try:
            self._body_left = self._body_length()
            status, document, headers = self.endpoints.answer(self)
            content = _content(document)
        except Refusal as refusal:
            self.refuse(refusal)
        except ConnectionError:
            raise
        except Exception as error:
            # The outermost handler: the client must hear `unknown`, not a closed connection.
            logger.exception("a request failed")
            self.refuse(Refusal(500, Reason.ENGINE_ERROR, f"the server failed: {error!r}"))
        else:
            self._send(status, content, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = answer
    do_QUERY = do_CONNECT = answer

    def refuse(self, refusal: Refusal) -> None:
        """Answer that there is no verdict, and why."""
        document = self.endpoints.refused(refusal, part_id=self.part_id)
        self._send(refusal.status, _content(document), refusal.headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses: a head that it cannot read."""
        self.close_connection = True
        self.request_version = self.protocol_version  # the answer needs a status line
        self.requestline = getattr(self, "requestline", "")
        self.refuse(Refusal(int(code), Reason.NO_FRAME, message or "the request cannot be read"))

    def _send(self, status: int, content: Content, headers: Sequence[tuple[str, str]]) -> None:
        if self._body_left > self.endpoints.limits.max_body_bytes or self._expects_continue:
            self.close_connection = True
        self.connection.settimeout(self.endpoints.limits.write_s)
        self.send_response(status)
        if status != NOT_MODIFIED:  # it has no body
            self.send_header("Content-Type", content.media)
            self.send_header("Content-Length", str(len(content.data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (*self.endpoints.headers, *headers):
            self.send_header(name, value)
        if self.close_connection or self.server.is_stopping:
            self.send_header("Connection", "close")  # ends the connection as well
        elif self.request_version == "HTTP/1.0":
            self.send_header("Connection", "keep-alive")
        self.end_headers()
        if self.command != "HEAD" and status != NOT_MODIFIED:
            self.wfile.write(content.data)
        self.wfile.flush()
        if self._body_left and not self._expects_continue:
            self._read_on()

    def read_body(self, until_ns: int) -> ByteImage:
        """Receive the body into memory of its own, (n,) uint8.

        Args:
            until_ns: On the monotonic clock.

        Raises:
            Refusal: It did not come in time, or not whole.
        """
        self._ask_for_body()
        self._reader.until_s = until_ns / 1e9
        body = np.empty(self._body_left, dtype=np.uint8)
        try:
            received = self.rfile.readinto(body.data) if len(body) else 0
        except TimeoutError:
            self.close_connection = True
            self._body_left = 0
            raise Refusal(
                408, Reason.DEADLINE, "the deadline passed before the body came"
            ) from None
        if received < len(body):
            raise ConnectionAbortedError("the client left while it sent a frame")
        self._body_left = 0
        return body

    @property
    def body_length(self) -> int:
        """Of the body that was not read yet, in bytes."""
        return self._body_left

    def has_header(self, name: str) -> bool:
        """Whether the request has such a header."""
        return name in self.headers

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a verdict is data, and requests are counted."""

    def _body_length(self) -> int:
        """How long the body is by its head.

        Raises:
            Refusal: The head does not say it in one plain number.
        """
        if self.has_header("Transfer-Encoding"):
            self.close_connection = True
            raise Refusal(411, Reason.BAD_FRAME, "send the body whole, with a Content-Length")
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths:
            return 0
        (text, *others) = lengths
        if others or not text or not set(text) <= _DIGITS or len(text) > 18:
            self.close_connection = True
            raise Refusal(400, Reason.BAD_FRAME, "the Content-Length is not one whole number")
        return int(text)

    def _ask_for_body(self) -> None:
        if self._expects_continue:
            self._expects_continue = False
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()

    def _read_on(self) -> None:
        """Read what is left of a refused body: a client that sends it first sees the answer, too.

        Closing before would reset the connection, and the answer could be lost.
        """
        self._reader.until_s = monotonic() + DRAIN_S
        scratch = memoryview(bytearray(_SCRATCH_BYTES))
        try:
            while self._body_left and (
                got := self.rfile.readinto(scratch[: min(self._body_left, _SCRATCH_BYTES)])
            ):
                self._body_left -= got
        except (TimeoutError, ConnectionError):
            pass
        if self._body_left:
            self.close_connection = True


def _content(document: Mapping[str, object] | Content) -> Content:
    """A document as JSON in ASCII.

    Raises:
        TypeError, ValueError: What a line or a judge gave is none, such as NaN.
    """
    if isinstance(document, Content):
        return document
    data = json.dumps(document, allow_nan=False).encode("ascii")
    return Content(data, "application/json")


class _TimedReader(io.RawIOBase):
    """Reads a socket until a moment on the monotonic clock, however slowly the bytes drip."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until_s = 0.0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for bytes.

        Raises:
            TimeoutError: The moment came first.
        """
        left_s = self.until_s - monotonic()
        if left_s <= 0:
            raise TimeoutError("the client was too slow")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


class _Head:
    """The header lines of one request, bounded together.

    The standard library bounds each of them and their number: 6 MiB a connection.
    """

    def __init__(self, whole: io.BufferedIOBase) -> None:
        self._whole = whole
        self._left = MAX_HEAD_BYTES

    def readline(self, most: int) -> bytes:
        """The next line.

        Raises:
            LineTooLong: All of them together are; the standard library answers 431.
        """
        line = self._whole.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("header line")
        return line
