"""What a client that is slow, greedy, gone or broken can do: nothing to the others."""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.server import (
    InspectionServer,
    ListenAddress,
    ServerLimits,
    endpoints,
)
from ssn_edge_runtime.server.answers import decision_document
from tests.runtime.server.clients import (
    RAW,
    Client,
    Reply,
    ask,
    comes_back,
    connect,
    inspect,
    raw_path,
)
from tests.runtime.server.conftest import HeldJudge

Serve = Callable[..., InspectionServer]
Part = Callable[..., ByteImage]
FRAME = np.full((8, 8, 3), 100, np.uint8)
HEAD = (
    b"POST /v1/inspect?height=8&width=8&channels=3 HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/octet-stream\r\n"
)


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    """Read until the server closes; the first answer."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def in_background(work: Callable[[], Reply]) -> tuple[threading.Thread, list[Reply]]:
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(work()))
    thread.start()
    return thread, replies


def test_an_answer_that_is_late_is_unknown_and_the_late_pass_is_thrown_away(
    serve: Serve, held: Any, listen: ListenAddress
) -> None:
    judge = held()
    server = serve(judge, listen)
    began = time.monotonic()
    reply = inspect(server.address, FRAME, deadline_ms=150)
    assert reply.verdict == (504, "unknown", "deadline")
    assert 0.1 < time.monotonic() - began < 10
    judge.is_free.set()
    reply = inspect(server.address, FRAME, deadline_ms=20_000)
    assert reply.verdict == (200, "pass", "none")
    assert judge.calls == 2
    assert ask(server.address, "GET", "/v1/state").body["verdicts"]["pass"] == 1


def test_a_frame_whose_deadline_passed_while_it_waited_is_never_judged(
    serve: Serve, held: Any, unix: ListenAddress
) -> None:
    judge = held()
    server = serve(judge, unix)
    thread, first = in_background(lambda: inspect(server.address, FRAME))
    assert judge.began.acquire(timeout=10)
    assert inspect(server.address, FRAME, deadline_ms=50).verdict[0] == 504
    judge.is_free.set()
    thread.join()
    assert first[0].verdict == (200, "pass", "none")
    assert inspect(server.address, FRAME).verdict[0] == 200
    assert judge.calls == 2


def test_without_a_deadline_of_the_clients_the_servers_holds(
    serve: Serve, held: Any, unix: ListenAddress
) -> None:
    server = serve(held(), unix, limits=ServerLimits(deadline_ms=100))
    assert inspect(server.address, FRAME).verdict == (504, "unknown", "deadline")


def test_a_pass_of_an_engine_that_held_the_interpreter_lock_past_the_deadline_is_thrown_away(
    serve: Serve, unix: ListenAddress
) -> None:
    class GreedyJudge(HeldJudge):
        def inspect(self, frame: ByteImage) -> Decision:
            ctypes.PyDLL(None).usleep(900_000)  # no other thread runs meanwhile
            return super().inspect(frame)

    server = serve(GreedyJudge(is_held=False), unix)
    assert inspect(server.address, FRAME, deadline_ms=200).verdict == (504, "unknown", "deadline")
    assert inspect(server.address, FRAME, deadline_ms=20_000).verdict == (200, "pass", "none")


def test_a_pass_whose_answer_was_made_too_slowly_is_thrown_away(
    serve: Serve, held: Any, unix: ListenAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any, **options: Any) -> dict[str, object]:
        time.sleep(0.4)  # such as a large mask on a busy machine
        return decision_document(*arguments, **options)

    monkeypatch.setattr(endpoints, "decision_document", slow)
    server = serve(held(is_held=False), unix)
    assert inspect(server.address, FRAME, deadline_ms=200).verdict == (504, "unknown", "deadline")
    assert inspect(server.address, FRAME).verdict == (200, "pass", "none")


def resident_kib() -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0])


def test_memory_stays_flat_over_thousands_of_frames(
    serve: Serve, held: Any, unix: ListenAddress
) -> None:
    address = serve(held(is_held=False), unix).address
    frame = np.full((480, 640, 3), 100, np.uint8)

    def drive(count: int) -> int:
        client = Client(address)
        for _ in range(count):
            assert inspect(client, frame).status == 200
        client.close()
        return resident_kib()

    before = drive(500)
    assert drive(1500) - before < 8 * 1024, "one frame in ten would be 135 MiB"


def test_more_frames_than_may_wait_are_an_overrun_at_once(
    serve: Serve, held: Any, unix: ListenAddress
) -> None:
    judge = held()
    server = serve(judge, unix, limits=ServerLimits(waiting=2))
    waiting = [in_background(lambda: inspect(server.address, FRAME)) for _ in range(3)]
    assert judge.began.acquire(timeout=10)
    client = Client(server.address)
    for _ in range(100):  # the other two may still be on their way
        overrun = inspect(client, FRAME, deadline_ms=1000)
        if overrun.status == 503:
            break
    assert overrun.verdict == (503, "unknown", "overrun")
    assert overrun.headers["Retry-After"] == "1"
    judge.is_free.set()
    for thread, _ in waiting:
        thread.join()
    assert {replies[0].status for _, replies in waiting} <= {200, 503}
    assert sum(replies[0].status == 200 for _, replies in waiting) >= 2
    assert inspect(client, FRAME).verdict == (200, "pass", "none"), "the connection serves on"
    client.close()


def test_frames_of_many_clients_each_get_their_own_verdict(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    server = serve(inspector, unix, limits=ServerLimits(waiting=8))
    frames = [part(seed, defect=seed % 2 == 0) for seed in range(20, 26)]
    wanted = [inspector.inspect(frame).raw_score for frame in frames]
    wrong: list[Reply] = []

    def drive(index: int) -> None:
        client = Client(server.address)
        for _ in range(25):
            reply = inspect(client, frames[index], part_id=index)
            if (reply.body["part_id"], reply.body["raw_score"]) != (str(index), wanted[index]):
                wrong.append(reply)
        client.close()

    threads = [threading.Thread(target=drive, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_more_clients_than_may_connect_are_told_so(
    serve: Serve, inspector: Inspector, listen: ListenAddress
) -> None:
    server = serve(inspector, listen, limits=ServerLimits(connections=2))
    clients = [Client(server.address), Client(server.address)]
    for client in clients:
        assert ask(client, "GET", "/healthz").status == 200
    with connect(server.address) as third:
        status, document = answer_of(third)
    assert (status, document["verdict"], document["reason"]) == (503, "unknown", "overrun")
    clients[0].close()
    assert comes_back(server.address)
    clients[1].close()


def test_a_body_larger_than_the_cap_is_refused_before_it_is_read(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    server = serve(inspector, unix, limits=ServerLimits(max_body_bytes=1000))
    with connect(server.address) as client:
        client.sendall(HEAD + b"Content-Length: 99999999999\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        status, document = answer_of(client)
    assert (status, document["verdict"]) == (413, "unknown")
    reply = ask(server.address, "POST", raw_path(FRAME), bytes(1001), RAW)
    assert reply.status == 413


def test_a_small_file_that_claims_a_huge_picture_is_refused_undecoded(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    bomb = (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (60_000).to_bytes(4, "big") * 2
        + b"\x08\x02\x00\x00\x00" + bytes(4) + b"IEND\xaeB`\x82"
    )  # fmt: skip
    reply = ask(
        serve(inspector, unix).address, "POST", "/v1/inspect", bomb, {"Content-Type": "image/png"}
    )
    assert reply.verdict == (413, "unknown", "bad_frame")
    assert "60000 x 60000 pixels" in reply.body["detail"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 192\r\n\r\n", 400),
        (HEAD + b"Content-Length: +192\r\n\r\n", 400),
        (HEAD + b"Content-Length: 192, 192\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"BREW /v1/inspect HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 505),
        (b"GET /healthz HTTP/3.0\r\n\r\n", 505),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\n" + b"X-A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + (b"X-A: " + b"b" * 30_000 + b"\r\n") * 3 + b"\r\n", 431),
    ],
)
def test_a_head_that_cannot_be_followed_is_answered_unknown_and_the_connection_ends(
    serve: Serve, inspector: Inspector, unix: ListenAddress, head: bytes, status: int
) -> None:
    server = serve(inspector, unix)
    with connect(server.address) as client:
        client.sendall(head)
        found, document = answer_of(client)
    assert (found, document["verdict"], document["verdict_code"]) == (status, "unknown", 0x3CC3)
    assert ask(server.address, "GET", "/healthz").status == 200


def test_a_client_that_asks_first_is_told_to_go_on_or_refused_without_its_body(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    server = serve(inspector, unix)
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 192\r\n"
    with connect(server.address) as client:
        client.sendall(expecting + b"Connection: close\r\n\r\n")
        assert client.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(bytes(192))
        assert answer_of(client)[0] == 200
    with connect(server.address) as client:
        client.sendall(expecting + b"Origin: null\r\n\r\n")
        assert answer_of(client)[0] == 403


@pytest.mark.parametrize("sent", [0, 1, 100, 192])
def test_a_client_that_leaves_hurts_nobody(
    serve: Serve, held: Any, listen: ListenAddress, sent: int
) -> None:
    judge = held(is_held=False)
    server = serve(judge, listen)
    for _ in range(5):
        with connect(server.address) as client:
            client.sendall(HEAD + b"Content-Length: 192\r\n\r\n" + bytes(sent))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert inspect(server.address, FRAME).verdict == (200, "pass", "none")


def test_a_client_that_leaves_while_its_frame_is_judged_gives_its_turn_back(
    serve: Serve, held: Any, unix: ListenAddress
) -> None:
    judge = held()
    server = serve(judge, unix, limits=ServerLimits(waiting=0))
    with connect(server.address) as client:
        client.sendall(HEAD + b"Content-Length: 192\r\n\r\n" + bytes(192))
        assert judge.began.acquire(timeout=10)
    assert inspect(server.address, FRAME).verdict == (503, "unknown", "overrun")
    judge.is_free.set()
    for _ in range(200):
        if (reply := inspect(server.address, FRAME)).status != 503:
            break
        time.sleep(0.02)
    assert reply.verdict == (200, "pass", "none")


def test_a_body_that_drips_is_unknown_at_the_deadline(
    serve: Serve, held: Any, unix: ListenAddress
) -> None:
    server = serve(held(is_held=False), unix, limits=ServerLimits(deadline_ms=300))
    began = time.monotonic()
    with connect(server.address) as client:
        client.sendall(HEAD + b"Content-Length: 192\r\n\r\n")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    client.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        status, document = answer_of(client)
        stop.set()
        thread.join()
    assert (status, document["verdict"], document["reason"]) == (408, "unknown", "deadline")
    assert time.monotonic() - began < 10


def test_a_connection_that_idles_or_drips_its_head_is_closed(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    server = serve(inspector, unix, limits=ServerLimits(idle_s=0.2, connections=2))
    with connect(server.address) as idle, connect(server.address) as dripping:
        dripping.sendall(b"GET /healthz HTTP/1.1\r\nX-A:")
        assert idle.recv(1) == b""
        assert dripping.recv(1) == b""


def test_a_client_that_does_not_read_its_answer_is_let_go(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    server = serve(inspector, unix, limits=ServerLimits(write_s=0.3, connections=1))
    with connect(server.address) as deaf:
        deaf.setblocking(False)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:  # until the server blocks in sending, and gives up
            try:
                deaf.send(request * 20)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
        else:
            pytest.fail("the server still waits for this client")
    assert comes_back(server.address)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=1, max_size=300))
def test_noise_is_never_a_pass_and_the_server_lives_on(
    unix: ListenAddress, held: Any, noise: bytes
) -> None:
    with InspectionServer(held(is_held=False), unix, limits=ServerLimits(idle_s=5)) as server:
        with connect(server.address) as client:
            data = b""
            with contextlib.suppress(ConnectionError):  # cut off for what it sent
                client.sendall(noise)
                client.shutdown(socket.SHUT_WR)
                while chunk := client.recv(65536):
                    data += chunk
        assert b'"pass"' not in data
        assert inspect(server.address, FRAME).verdict == (200, "pass", "none")


@pytest.mark.parametrize(
    "limits", [{"connections": 0}, {"waiting": -1}, {"deadline_ms": 1e9}, {"idle_s": float("nan")}]
)
def test_impossible_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"limit|deadline"):
        ServerLimits(**limits)
