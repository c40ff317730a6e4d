"""How a server ends, and how it tells that it cannot go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.server import InspectionServer, ListenAddress, ServerLimits
from tests.runtime.server.clients import Client, Reply, ask, connect, inspect

Serve = Callable[..., InspectionServer]
FRAME = np.full((8, 8, 3), 100, np.uint8)


def test_closing_answers_what_is_in_hand_and_refuses_what_comes(
    held: Any, listen: ListenAddress
) -> None:
    judge = held()
    server = InspectionServer(judge, listen)
    server.open()
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(inspect(server.address, FRAME)))
    idle = connect(server.address)
    address = server.address
    asking.start()
    assert judge.began.acquire(timeout=10)
    closing = threading.Thread(target=server.close)
    closing.start()
    assert idle.recv(1) == b"", "a connection without a request is closed at once"
    idle.close()
    assert closing.is_alive()
    judge.is_free.set()
    asking.join()
    closing.join()
    assert replies[0].verdict == (200, "pass", "none")
    assert replies[0].headers["Connection"] == "close"
    with pytest.raises(OSError, match=r"refused|No such file"):
        connect(address)


def test_closing_twice_or_before_opening_does_nothing(
    inspector: Inspector, unix: ListenAddress
) -> None:
    server = InspectionServer(inspector, unix)
    server.close()
    with server:
        pass
    server.close()
    assert not server.is_stuck
    assert unix.path is not None
    assert not unix.path.exists()


def test_a_server_can_be_opened_again(inspector: Inspector, unix: ListenAddress) -> None:
    server = InspectionServer(inspector, unix)
    for _ in range(2):
        with server:
            assert ask(server.address, "GET", "/readyz").status == 200
            with pytest.raises(RuntimeError, match="is open"):
                server.open()


def test_a_second_server_at_the_same_address_leaves_the_first_alone(
    serve: Serve, inspector: Inspector, listen: ListenAddress
) -> None:
    first = serve(inspector, listen)
    with pytest.raises(ListenError):
        InspectionServer(inspector, first.address).open()
    assert ask(first.address, "GET", "/healthz").status == 200


def test_an_engine_that_hangs_is_told_and_does_not_keep_the_server_from_ending(
    held: Any, unix: ListenAddress
) -> None:
    judge = held()
    limits = ServerLimits(stuck_s=0.2, drain_s=0.5, deadline_ms=100, waiting=1)
    server = InspectionServer(judge, unix, limits=limits)
    with server:
        assert ask(server.address, "GET", "/readyz").body == {"ready": True}
        assert inspect(server.address, FRAME).verdict == (504, "unknown", "deadline")
        time.sleep(0.3)
        assert ask(server.address, "GET", "/healthz").status == 200
        assert ask(server.address, "GET", "/readyz").verdict == (503, "unknown", "engine_error")
        assert ask(server.address, "GET", "/v1/state").body["state"] == "Error"
        assert inspect(server.address, FRAME).verdict == (504, "unknown", "deadline")
        assert inspect(server.address, FRAME).verdict == (503, "unknown", "overrun")
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert server.is_stuck
    judge.is_free.set()
    for thread in threading.enumerate():
        if thread.name == "ssn-edge-judge":
            thread.join(10)


def test_clients_that_come_while_it_closes_are_told_or_cut_but_never_passed(
    held: Any, unix: ListenAddress
) -> None:
    server = InspectionServer(held(is_held=False), unix)
    server.open()
    stop = threading.Event()
    seen: list[tuple[int, str, str]] = []
    errors: list[Exception] = []

    def drive() -> None:
        while not stop.is_set():
            client = Client(unix)
            try:
                while not stop.is_set():
                    seen.append(inspect(client, FRAME).verdict)
            except (OSError, AssertionError) as error:
                errors.append(error)
                time.sleep(0.005)
            except Exception as error:  # noqa: BLE001 - such as an answer that was cut off
                errors.append(error)
            finally:
                client.close()

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    server.close()
    done = len(seen)
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(seen) - done <= len(threads)
    assert not [error for error in errors if isinstance(error, AssertionError)]
    assert set(seen) <= {(200, "pass", "none"), (503, "unknown", "restart")}
    assert (200, "pass", "none") in seen
