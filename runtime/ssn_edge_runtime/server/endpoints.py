"""What the local server's paths do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns
from typing import TypeAlias
from urllib.parse import urlsplit

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.loop import Judge
from ssn_edge_runtime.server.answers import (
    Answer,
    Refusal,
    decision_document,
    judge_document,
    refusal_document,
)
from ssn_edge_runtime.server.connection import Connection
from ssn_edge_runtime.server.counts import ServerCounts
from ssn_edge_runtime.server.engine_turns import EngineTurns, too_late
from ssn_edge_runtime.server.frames import frame_of_picture, frame_of_pixels
from ssn_edge_runtime.server.limits import ServerLimits
from ssn_edge_runtime.server.openapi import openapi_document
from ssn_edge_runtime.server.requests import (
    CAMERA,
    PART_ID,
    RECIPE,
    inspect_request,
    query_values,
    wrong,
)
from ssn_edge_runtime.verdict_codes import verdict_code

_BROKEN = {Reason.ENGINE_ERROR: 500, Reason.INVALID_OUTPUT: 500}
"""Reasons that are the judge's own failure, not the frame's; all others are verdicts."""
EXECUTING = ("SingleExecution", "ContinuousExecution")
"""States of a line in which a part can pass."""
MAX_TRIGGER_BYTES = 4096
MAX_TRIGGER_ID = 0xFFFF

Trigger: TypeAlias = Callable[[int, str | None, str | None, str | None], Mapping[str, object]]
"""Takes a trigger's id (1 to 65535), the part's, the camera's and the recipe's name; gives a JSON
document. Its `verdict`, where there is one yet, is `pass`, `fail` or `unknown`, and its `reason`
says why. May raise `Refusal` or an `SsnEdgeError`."""
Status: TypeAlias = Callable[[], Mapping[str, object]]
"""Gives the state of the line behind the server as a JSON document; its `state` is a name of
OPC 40100-1."""


class Endpoints:
    """Answers requests; called by many connections at once: `Answers` of a connection.

    Args:
        judge: Says with what is decided; None where there is a line that judges its own frames.
        turns: Lets frames take turns at it; None without one.
        limits: What is bounded.
        trigger: For ``POST /v1/trigger``; None where there is no line.
        status: For ``GET /v1/state``.
        hosts: Names that a request's Host may have; None for a Unix socket, where any will do.
    """

    def __init__(
        self,
        judge: Judge | None,
        turns: EngineTurns | None,
        limits: ServerLimits,
        *,
        trigger: Trigger | None,
        status: Status | None,
        hosts: frozenset[str] | None,
    ) -> None:
        self.limits = limits
        self.headers: Sequence[tuple[str, str]] = ()
        self.counts = ServerCounts()
        self.is_stopping = False
        self._judge = judge
        self._turns = turns
        self._trigger = trigger
        self._status = status
        self._hosts = hosts
        self._openapi = openapi_document(
            limits, with_inspect=turns is not None, with_trigger=trigger is not None
        )
        reading = {
            "/v1/state": self._state,
            "/healthz": self._health,
            "/readyz": self._ready,
            "/openapi.json": self._description,
        }
        self._routes: dict[str, dict[str, Callable[[Connection, str], Answer]]] = {
            path: {"GET": answer, "HEAD": answer} for path, answer in reading.items()
        }
        if turns is not None:
            self._routes["/v1/inspect"] = {"POST": self._inspect}
        if trigger is not None:
            self._routes["/v1/trigger"] = {"POST": self._pull}

    def answer(self, connection: Connection) -> Answer:
        """Answer a request whose head was read.

        Raises:
            Refusal: There is no answer but `unknown`.
        """
        self._refuse_browsers(connection)
        try:
            target = urlsplit(connection.path)
        except ValueError:
            raise Refusal(400, Reason.NO_FRAME, "the address cannot be read") from None
        methods = self._routes.get(target.path)
        if methods is None:
            raise Refusal(
                404, Reason.NO_FRAME, f"there is no such path; there are {', '.join(self._routes)}"
            )
        answer = methods.get(connection.command)
        if answer is None:
            allowed = ", ".join(methods)
            raise Refusal(405, Reason.NO_FRAME, f"this path takes {allowed}", (("Allow", allowed),))
        if connection.body_length > self.limits.max_body_bytes:
            raise Refusal(
                413,
                Reason.BAD_FRAME,
                f"the body has {connection.body_length} bytes, at most "
                f"{self.limits.max_body_bytes} are taken",
            )
        return answer(connection, target.query)

    def refused(self, refusal: Refusal, *, part_id: str | None) -> Mapping[str, object]:
        """The document of a refusal, which is counted."""
        self.counts.add_refusal(refusal.status)
        return refusal_document(refusal, self._judge, part_id=part_id)

    def _refuse_browsers(self, connection: Connection) -> None:
        """A page from anywhere must not be able to drive a line through the browser beside it."""
        if connection.has_header("Origin"):
            raise Refusal(403, Reason.NO_FRAME, "browsers' requests are refused")
        hosts = connection.headers.get_all("Host", [])
        if self._hosts is None:
            return
        # A name that leads here by its DNS entry would make this server part of a page's origin.
        name = hosts[0].strip().lower() if len(hosts) == 1 else ""
        bare = name if name.endswith("]") else name.rpartition(":")[0] or name
        if bare not in self._hosts:
            raise Refusal(
                403, Reason.NO_FRAME, f"the Host must be {' or '.join(sorted(self._hosts))}"
            )

    def _inspect(self, connection: Connection, query: str) -> Answer:
        if self.is_stopping:
            raise Refusal(503, Reason.RESTART, "the server is stopping")
        request = inspect_request(query, _content_type(connection), self.limits)
        connection.part_id = request.part_id
        shape = request.shape
        if shape is not None and connection.body_length != shape.size_bytes:
            raise Refusal(
                422,
                Reason.BAD_FRAME,
                f"the body has {connection.body_length} bytes, {shape.height} x {shape.width} x "
                f"{shape.channels} are {shape.size_bytes}",
            )
        deadline_ns = connection.arrived_ns + round(request.deadline_ms * 1e6)
        assert self._turns is not None
        with self._turns.reserve() as turn:
            body = connection.read_body(deadline_ns)
            received_ns = decoded_ns = monotonic_ns()
            if shape is not None:
                frame = frame_of_pixels(body, shape)
            else:
                frame = frame_of_picture(body, max_pixels=self.limits.max_pixels)
                decoded_ns = monotonic_ns()
            decision = turn.judge(frame, deadline_ns=deadline_ns)
        timings_ms = {
            "receive": (received_ns - connection.arrived_ns) / 1e6,
            "decode": (decoded_ns - received_ns) / 1e6,
            "wait": (turn.began_ns - decoded_ns) / 1e6,
            "total": (monotonic_ns() - connection.arrived_ns) / 1e6,
        }
        document = decision_document(
            decision,
            self._judge,
            part_id=request.part_id,
            with_mask=request.with_mask,
            timings_ms=timings_ms,
        )
        # Last of all: a thread may have been kept from running since the judge was done.
        if monotonic_ns() > deadline_ns:
            raise too_late("the answer")
        self.counts.add_verdict(decision.verdict, {**decision.timings_ms, **timings_ms})
        return _BROKEN.get(decision.reason, 200), document, ()

    def _pull(self, connection: Connection, query: str) -> Answer:
        if self.is_stopping:
            raise Refusal(503, Reason.RESTART, "the server is stopping")
        query_values(query, ())
        trigger_id, part_id, camera, recipe = self._trigger_of(connection)
        connection.part_id = part_id
        assert self._trigger is not None
        try:
            reply = dict(self._trigger(trigger_id, part_id, camera, recipe))
        except SsnEdgeError as error:
            raise Refusal(503, Reason.ENGINE_ERROR, str(error)) from error
        verdict = None if reply.get("verdict") is None else Verdict(reply["verdict"])
        document = {
            **reply,
            "trigger_id": trigger_id,
            "part_id": part_id,
            "verdict": None if verdict is None else verdict.value,
            "verdict_code": int(verdict_code(verdict)),
        }
        if verdict is not None:
            self.counts.add_verdict(verdict, {})
        return 202 if verdict is None else 200, document, ()

    def _trigger_of(self, connection: Connection) -> tuple[int, str | None, str | None, str | None]:
        if _content_type(connection) != "application/json":
            raise Refusal(415, Reason.NO_FRAME, "the Content-Type must be application/json")
        if connection.body_length > MAX_TRIGGER_BYTES:
            raise Refusal(413, Reason.NO_FRAME, f"at most {MAX_TRIGGER_BYTES} bytes are taken")
        until_ns = connection.arrived_ns + round(self.limits.deadline_ms * 1e6)
        try:
            document = json.loads(connection.read_body(until_ns).tobytes())
        except (ValueError, RecursionError):
            raise Refusal(422, Reason.NO_FRAME, "the body is no JSON") from None
        if not isinstance(document, dict) or not {"trigger_id"} <= set(document) <= {
            "trigger_id",
            "part_id",
            "camera",
            "recipe",
        }:
            raise Refusal(
                422,
                Reason.NO_FRAME,
                "an object of trigger_id, part_id, camera and recipe is wanted",
            )
        trigger_id, part_id = document["trigger_id"], document.get("part_id")
        camera = document.get("camera")
        if type(trigger_id) is not int or not 1 <= trigger_id <= MAX_TRIGGER_ID:
            raise wrong(
                "trigger_id", repr(trigger_id), f"a whole number from 1 to {MAX_TRIGGER_ID}"
            )
        if part_id is not None and not (isinstance(part_id, str) and PART_ID.fullmatch(part_id)):
            raise wrong("part_id", repr(part_id), "1 to 128 letters, digits and ._:/+-")
        if camera is not None and not (isinstance(camera, str) and CAMERA.fullmatch(camera)):
            raise wrong("camera", repr(camera), "the name of one of the line's cameras")
        recipe = document.get("recipe")
        if recipe is not None and not (isinstance(recipe, str) and RECIPE.fullmatch(recipe)):
            raise wrong("recipe", repr(recipe), "the name of one of the settings' recipes")
        return trigger_id, part_id, camera, recipe

    def _state(self, _connection: Connection, query: str) -> Answer:
        query_values(query, ())
        line = None if self._status is None else dict(self._status())
        document = {
            "state": self._state_name(line),
            **judge_document(self._judge),
            **self.counts.to_dict(),
            "line": line,
        }
        return 200, document, ()

    def _state_name(self, line: Mapping[str, object] | None) -> str:
        """The line's own where there is one: every outlet shows the same."""
        if self._is_stuck():
            return "Error"
        if self.is_stopping:
            return "Halted"
        return "Ready" if line is None else str(line.get("state"))

    def _health(self, _connection: Connection, query: str) -> Answer:
        query_values(query, ())
        return 200, {"alive": True}, ()

    def _ready(self, _connection: Connection, query: str) -> Answer:
        query_values(query, ())
        if self.is_stopping:
            raise Refusal(503, Reason.RESTART, "the server is stopping")
        if self._is_stuck():
            raise Refusal(503, Reason.ENGINE_ERROR, "the engine does not return from a call")
        if self._status is not None:
            state = str(self._status().get("state"))
            if state not in EXECUTING:
                raise Refusal(503, Reason.ENGINE_ERROR, f"the line is in state {state[:40]}")
        return 200, {"ready": True}, ()

    def _description(self, _connection: Connection, query: str) -> Answer:
        query_values(query, ())
        return 200, self._openapi, ()

    def _is_stuck(self) -> bool:
        turns = self._turns
        return turns is not None and (not turns.is_running or turns.is_stuck(self.limits.stuck_s))


def _content_type(connection: Connection) -> str:
    """Without parameters, in lower case; empty where there is none."""
    if len(connection.headers.get_all("Content-Type", [])) != 1:
        return ""
    return connection.headers.get_content_type()
