"""`POST /v1/trigger`: where there is a line behind the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.server import InspectionServer, ListenAddress, Refusal
from tests.runtime.server.clients import Reply, ask

Serve = Callable[..., InspectionServer]
JSON = {"Content-Type": "application/json"}


def pull(server: InspectionServer, document: object) -> Reply:
    return ask(server.address, "POST", "/v1/trigger", json.dumps(document).encode(), JSON)


def test_a_trigger_is_accepted_and_has_no_verdict_yet(
    serve: Serve, inspector: Inspector, listen: ListenAddress
) -> None:
    pulled: list[tuple[int | str | None, ...]] = []

    def trigger(trigger_id: int, *more: str | None) -> Mapping[str, object]:
        pulled.append((trigger_id, *more))
        return {"accepted_id": trigger_id}

    server = serve(inspector, listen, trigger=trigger)
    reply = pull(server, {"trigger_id": 7, "part_id": "a/1"})
    assert reply.status == 202
    assert reply.body == {
        "accepted_id": 7, "trigger_id": 7, "part_id": "a/1", "verdict": None, "verdict_code": 0,
    }  # fmt: skip
    assert pull(server, {"trigger_id": 65535, "camera": "left", "recipe": "Brass-2"}).status == 202
    assert pulled == [(7, "a/1", None, None), (65535, None, "left", "Brass-2")]


@pytest.mark.parametrize("verdict", ["pass", "fail", "unknown"])
def test_a_line_that_waits_for_the_verdict_gives_it_with_its_code(
    serve: Serve, inspector: Inspector, unix: ListenAddress, verdict: str
) -> None:
    # Whatever code the line names, the verdict's own is sent.
    def trigger(*_: object) -> Mapping[str, object]:
        return {"verdict": verdict, "verdict_code": 0x5AA5, "reason": "none"}

    reply = pull(serve(inspector, unix, trigger=trigger), {"trigger_id": 1})
    assert reply.verdict == (200, verdict, "none")


@pytest.mark.parametrize(
    ("raised", "status", "reason"),
    [
        (Refusal(503, Reason.OVERRUN, "no room"), 503, "overrun"),
        (SourceError("the camera is gone"), 503, "engine_error"),
        (RuntimeError("bug"), 500, "engine_error"),
    ],
)
def test_a_line_that_does_not_take_the_trigger_is_an_error_and_unknown(
    serve: Serve, inspector: Inspector, unix: ListenAddress, raised: Exception, status: int,
    reason: str,
) -> None:  # fmt: skip
    def trigger(*_: object) -> Mapping[str, object]:
        raise raised

    reply = pull(serve(inspector, unix, trigger=trigger), {"trigger_id": 1, "part_id": "p"})
    assert reply.verdict == (status, "unknown", reason)
    assert reply.body["part_id"] == "p"


def test_a_line_that_answers_with_no_verdict_there_is_is_an_error(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    server = serve(inspector, unix, trigger=lambda *_: {"verdict": "PASS"})
    assert pull(server, {"trigger_id": 1}).verdict == (500, "unknown", "engine_error")


@pytest.mark.parametrize("reply", [{"x": float("nan")}, {"x": b"y"}, {1: {2}}, None])
def test_a_line_whose_answer_is_no_json_is_an_error_and_unknown(
    serve: Serve, inspector: Inspector, unix: ListenAddress, reply: Any
) -> None:
    server = serve(inspector, unix, trigger=lambda *_: reply)
    assert pull(server, {"trigger_id": 1}).verdict == (500, "unknown", "engine_error")


@pytest.mark.parametrize(
    "document",
    [
        {}, [], None, "x", {"trigger_id": 0}, {"trigger_id": 65536}, {"trigger_id": -1},
        {"trigger_id": "1"}, {"trigger_id": 1.0}, {"trigger_id": True}, {"trigger_id": 1, "x": 2},
        {"trigger_id": 1, "part_id": ""}, {"trigger_id": 1, "part_id": "a\nb"},
        {"trigger_id": 1, "part_id": 5}, {"part_id": "a"},
        {"trigger_id": 1, "recipe": ""}, {"trigger_id": 1, "recipe": "a b"},
        {"trigger_id": 1, "recipe": 1},
    ],
)  # fmt: skip
def test_a_trigger_that_is_none_never_reaches_the_line(
    serve: Serve, inspector: Inspector, unix: ListenAddress, document: object
) -> None:
    def trigger(*_: Any) -> Mapping[str, object]:
        pytest.fail("the line was triggered")

    reply = pull(serve(inspector, unix, trigger=trigger), document)
    assert reply.status in (400, 422)
    assert reply.verdict[1] == "unknown"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 422),
        (b"\xff", JSON, 422),
        (b"[" * 4000, JSON, 422),
        (b"", JSON, 422),
        (b'{"trigger_id": 1}' + b" " * 5000, JSON, 413),
        (b'{"trigger_id": 1}', {}, 415),
        (b"trigger_id=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_what_is_no_json_object_is_refused(
    serve: Serve, inspector: Inspector, unix: ListenAddress, body: bytes, headers: dict[str, str],
    status: int,
) -> None:  # fmt: skip
    server = serve(inspector, unix, trigger=lambda *_: {})
    assert ask(server.address, "POST", "/v1/trigger", body, headers).status == status


def test_a_line_that_judges_its_own_frames_needs_no_judge_here(
    serve: Serve, listen: ListenAddress
) -> None:
    state = {"state": "ContinuousExecution", "in_flight": 1}
    server = serve(
        None, listen, trigger=lambda trigger_id, *_: {"verdict": "pass"}, status=lambda: state
    )
    assert pull(server, {"trigger_id": 1}).body["verdict_code"] == 0x5AA5
    assert ask(server.address, "POST", "/v1/inspect", b"").verdict == (404, "unknown", "no_frame")
    paths = ask(server.address, "GET", "/openapi.json").body["paths"]
    assert "/v1/trigger" in paths
    assert "/v1/inspect" not in paths
    document = ask(server.address, "GET", "/v1/state").body
    assert document["state"] == "ContinuousExecution", "every outlet shows the line's own state"
    assert document["line"] == state
    assert document["package_id"] is None


@pytest.mark.parametrize(
    ("state", "is_ready"),
    [
        ("Preoperational", False), ("Halted", False), ("Error", False), ("Initialized", False),
        ("Ready", False), ("SingleExecution", True), ("ContinuousExecution", True),
    ],
)  # fmt: skip
def test_it_is_ready_only_while_a_part_can_pass(
    serve: Serve, unix: ListenAddress, state: str, is_ready: bool
) -> None:
    server = serve(None, unix, status=lambda: {"state": state})
    reply = ask(server.address, "GET", "/readyz")
    assert reply.status == (200 if is_ready else 503)
    assert is_ready or state in reply.body["detail"]
    assert ask(server.address, "GET", "/v1/state").body["state"] == state
