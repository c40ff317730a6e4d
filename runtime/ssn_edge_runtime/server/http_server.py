"""Accepts connections, each in a thread of its own, and ends them in order."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import threading
from time import monotonic, sleep

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.connection import Answers, Connection

_PAUSE_S = 0.05
"""Before accepting again, where the system has no more handles."""
_HANDSHAKE_S = 5.0
"""How long a client may take to agree on a secure connection."""

logger = logging.getLogger(__name__)


class HttpServer:
    """Serves a listening socket with a bounded number of connections.

    Args:
        listening: The socket; its owner closes it.
        endpoints: What the paths do.
        tls: Secures each connection; None speaks in the clear.
    """

    def __init__(
        self, listening: socket.socket, endpoints: Answers, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.endpoints = endpoints
        self._tls = tls
        self._listening = listening
        self._conversations: dict[threading.Thread, socket.socket] = {}
        self._idle: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name="ssn-edge-accept", daemon=True)

    @property
    def is_stopping(self) -> bool:
        """Whether each connection ends with the answer in hand."""
        return self.endpoints.is_stopping

    def start(self) -> None:
        """Start accepting."""
        self._accepting.start()

    def stop_accepting(self) -> None:
        """Take no more connections, and end those that idle; others end with their answer.

        `is_stopping` holds by then.
        """
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends a running `accept`
        self._accepting.join()
        with self._lock:
            for connection in self._idle:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

    def may_idle(self, connection: socket.socket) -> bool:
        """Told by a connection that waits for a request; whether it may."""
        with self._lock:
            if self.is_stopping:
                return False
            self._idle.add(connection)
            return True

    def is_busy(self, connection: socket.socket) -> None:
        """Told by a connection that has a request."""
        with self._lock:
            self._idle.discard(connection)

    def end_conversations(self, until_s: float) -> bool:
        """Wait for the answers in hand until a moment on the monotonic clock, then cut the rest.

        Returns:
            Whether all ended by themselves.
        """
        for thread in list(self._conversations):
            thread.join(max(0.0, until_s - monotonic()))
        with self._lock:
            left = [thread for thread in self._conversations if thread.is_alive()]
            for thread in left:
                with contextlib.suppress(OSError):
                    self._conversations[thread].shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join(1.0)
        return not left

    def _accept(self) -> None:
        while not self.is_stopping:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                if not self.is_stopping:
                    sleep(_PAUSE_S)
                continue
            if self._tls is not None:
                try:  # no word is exchanged yet: that is for the connection's own thread
                    connection = self._tls.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                except (OSError, ValueError):
                    connection.close()
                    continue
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        """Serve a connection in a thread, or refuse it where there are too many."""
        thread = threading.Thread(
            target=self._converse, args=(connection,), name="ssn-edge-connection", daemon=True
        )
        with self._lock:
            is_full = len(self._conversations) >= self.endpoints.limits.connections
            if not is_full:
                self._conversations[thread] = connection
        if not is_full:
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads
                with self._lock:
                    del self._conversations[thread]
            else:
                return
        self._refuse(connection)
        _close(connection)

    def _converse(self, connection: socket.socket) -> None:
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.settimeout(_HANDSHAKE_S)
                connection.do_handshake()
            Connection(connection, "", self)  # type: ignore[arg-type]  # see `Connection.server`
        except Exception:
            # What a connection raised, such as a client that left, is no business of the others.
            logger.debug("a connection failed", exc_info=True)
        finally:
            with self._lock:
                self._idle.discard(connection)
            _close(connection)
            with self._lock:
                del self._conversations[threading.current_thread()]

    def _refuse(self, connection: socket.socket) -> None:
        """Answer at once and without a thread; a client that does not read it gets nothing."""
        if isinstance(connection, ssl.SSLSocket):
            return  # it would have to be talked with first
        refusal = Refusal(503, Reason.OVERRUN, "as many clients as may be are connected")
        body = json.dumps(self.endpoints.refused(refusal, part_id=None)).encode("ascii")
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
        )
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(head.encode("ascii") + body)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    connection.close()
