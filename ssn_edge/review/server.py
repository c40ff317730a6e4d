"""The review's page on this machine's loopback: the shell for everyone, all else by token.

The runtime's own server speaks to controllers (frames in, a verdict out, with deadlines and turns
at the engine), and knows no pages; the standard library's is all that a person's browser needs.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from ssn_edge.review.access import HOST, Access
from ssn_edge.review.labels import Label, regions_from
from ssn_edge.review.session import ReviewSession, UnknownPictureError
from ssn_edge_runtime.errors import ListenError, SsnEdgeError

MAX_BODY_BYTES = 2**16
MAX_CONNECTIONS = 32
TIMEOUT_S = 30.0

_SHELL: Mapping[str, tuple[str, str]] = {
    "/": ("review.html", "text/html; charset=utf-8"),
    "/review.css": ("review.css", "text/css; charset=utf-8"),
    "/review.js": ("review.js", "text/javascript; charset=utf-8"),
}
_PICTURE = re.compile(r"/api/pictures/([0-9a-f]{24})/(frame|mask|overlay)")
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

logger = logging.getLogger(__name__)


class ReviewServer(ThreadingHTTPServer):
    """Serves one session; a context manager.

    Args:
        session: What is reviewed.
        port: On loopback; 0 takes any that is free.

    Raises:
        ListenError: The port is taken, or not allowed.
    """

    daemon_threads = True

    def __init__(self, session: ReviewSession, port: int = 0) -> None:
        self.session = session
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "is taken" if taken else f"cannot be used ({error})"
            raise ListenError(
                f"--page {port}: the port {why}; choose another, or 0 for any that is free"
            ) from error
        self.access = Access(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, or cut it where there are too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that left is no business of the others."""
        logger.debug("a connection failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S
    server_version = "ssn-edge"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        """The shell, the list of pictures, and pictures."""
        if self._is_refused(needs_token=self.path not in _SHELL):
            return
        if self.path in _SHELL:
            name, media = _SHELL[self.path]
            page = resources.files("ssn_edge.review").joinpath("page").joinpath(name)
            self._answer(200, page.read_bytes(), media)
            return
        picture = _PICTURE.fullmatch(self.path)
        try:
            if self.path == "/api/pictures":
                self._answer_json(200, self.server.session.listing())
            elif picture is None:
                self._answer_json(404, {"error": "there is nothing here"})
            elif picture[2] == "frame":
                self._answer(200, *self.server.session.frame(picture[1]))
            else:
                self._answer(200, *self.server.session.layer(picture[1], picture[2]))
        except SsnEdgeError as error:
            self._fail(error)

    def do_POST(self) -> None:
        """Labels, given and taken back."""
        if self._is_refused(needs_token=True):
            return
        document = self._body()
        if document is None:
            return
        try:
            if self.path == "/api/undo":
                self._answer_json(200, {"picture": self.server.session.undo()})
            elif self.path == "/api/label":
                self._label(document)
            else:
                self._answer_json(404, {"error": "there is nothing here"})
        except SsnEdgeError as error:
            self._fail(error)

    def _label(self, document: Mapping[str, object]) -> None:
        key, label = document.get("key"), document.get("label")
        regions = regions_from(document.get("regions", []))
        known = [each.value for each in Label]
        if not isinstance(key, str) or label not in known or regions is None:
            self._answer_json(400, {"error": "a key, a label and regions are wanted"})
            return
        entry = self.server.session.label(key, Label(label), regions)
        self._answer_json(200, {"picture": entry})

    def _is_refused(self, *, needs_token: bool) -> bool:
        refusal = self.server.access.refusal(self._values, needs_token=needs_token)
        if refusal is None:
            return False
        status, text = refusal
        self.close_connection = True  # its body was not read
        self._answer_json(status, {"error": text})
        return True

    def _values(self, name: str) -> Sequence[str]:
        return [str(value) for value in self.headers.get_all(name, [])]

    def _body(self) -> Mapping[str, object] | None:
        """The JSON object of a request; None if it was refused."""
        lengths = self._values("Content-Length")
        is_json = self._values("Content-Type") == ["application/json"]
        sound = len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdecimal()
        if not sound or not is_json or int(lengths[0]) > MAX_BODY_BYTES:
            self.close_connection = True
            self._answer_json(400, {"error": "a JSON object of at most 64 KiB is wanted"})
            return None
        try:
            document = json.loads(self.rfile.read(int(lengths[0])))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self._answer_json(400, {"error": "this is no JSON object"})
            return None
        return document

    def _fail(self, error: SsnEdgeError) -> None:
        status = 404 if isinstance(error, UnknownPictureError) else 409
        self._answer_json(status, {"error": str(error)})

    def _answer_json(self, status: int, document: Mapping[str, object]) -> None:
        self._answer(status, json.dumps(document).encode("ascii"), "application/json")

    def _answer(self, status: int, body: bytes, media: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class finds wrong with a request, in our words and with our headers."""
        self.close_connection = True
        self._answer_json(code, {"error": "this request is not understood"})

    def log_message(self, format: str, *args: object) -> None:
        """The library logs, it does not print."""
        logger.debug(format, *args)
