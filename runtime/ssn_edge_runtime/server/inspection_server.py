"""The local server as one object: opened, it answers; closed, nothing of it is left."""

from __future__ import annotations

import logging
from time import monotonic
from types import TracebackType

from ssn_edge_runtime.loop import Judge
from ssn_edge_runtime.server.address import BoundSocket, ListenAddress, bind
from ssn_edge_runtime.server.endpoints import Endpoints, Status, Trigger
from ssn_edge_runtime.server.engine_turns import EngineTurns
from ssn_edge_runtime.server.http_server import HttpServer
from ssn_edge_runtime.server.limits import ServerLimits

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

logger = logging.getLogger(__name__)


class InspectionServer:
    """Judges frames for other processes on this machine; a context manager.

    It runs in threads of its own beside the caller's. What one process cannot promise holds here,
    too: an engine call that holds the interpreter lock stops the answers, deadline or not, so a
    client needs a time limit of its own, and takes silence for reject.

    Args:
        judge: An `Inspector`; it stays open and is the caller's to close. None where a line judges
            its own frames: then there is no ``/v1/inspect``.
        address: Where to listen.
        limits: What is bounded.
        trigger: What ``POST /v1/trigger`` calls, from several threads; None where there is no line.
        status: What ``GET /v1/state`` shows as ``line``; called from several threads.
    """

    def __init__(
        self,
        judge: Judge | None,
        address: ListenAddress,
        *,
        limits: ServerLimits | None = None,
        trigger: Trigger | None = None,
        status: Status | None = None,
    ) -> None:
        self._judge = judge
        self._asked = address
        self._limits = limits or ServerLimits()
        self._trigger = trigger
        self._status = status
        self._bound: BoundSocket | None = None
        self._is_stuck = False
        self._turns: EngineTurns | None
        self._endpoints: Endpoints
        self._http: HttpServer

    def open(self) -> None:
        """Listen, and answer from now on.

        Raises:
            ListenError: It cannot be listened on.
            RuntimeError: It is open already.
        """
        if self._bound is not None:
            raise RuntimeError("the server is open")
        self._bound = bind(self._asked)
        self._turns = (
            None if self._judge is None else EngineTurns(self._judge, waiting=self._limits.waiting)
        )
        host = self._bound.address.host
        self._endpoints = Endpoints(
            self._judge,
            self._turns,
            self._limits,
            trigger=self._trigger,
            status=self._status,
            hosts=None if host is None else frozenset((*_LOOPBACK_NAMES, host)),
        )
        self._http = HttpServer(self._bound.listening, self._endpoints)
        if self._turns is not None:
            self._turns.start()
        self._http.start()

    @property
    def address(self) -> ListenAddress:
        """Where it listens, with the port that was given out; as asked for while it is closed."""
        return self._asked if self._bound is None else self._bound.address

    @property
    def is_stuck(self) -> bool:
        """Whether the judge did not return from a call by the time `close` gave up waiting."""
        return self._is_stuck

    def counts(self) -> dict[str, object]:
        """What was answered since it was opened last: verdicts, refusals, latencies; for JSON."""
        return self._endpoints.counts.to_dict()

    def close(self) -> None:
        """Answer what is in hand, for `drain_s` at most, and end; a second call does nothing.

        A request whose head was read is in hand. New connections are refused from now on.
        """
        if self._bound is None:
            return
        until_s = monotonic() + self._limits.drain_s
        self._endpoints.is_stopping = True
        self._http.stop_accepting()
        self._bound.close()
        self._bound = None
        if not self._http.end_conversations(until_s):
            logger.warning("some requests had no answer within %.3g s", self._limits.drain_s)
        if self._turns is not None:
            self._turns.stop(max(0.1, until_s - monotonic()))
            self._is_stuck = self._turns.is_running
        if self._is_stuck:
            logger.warning("the engine does not return from a call; it is left in it")

    def __enter__(self) -> InspectionServer:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()
