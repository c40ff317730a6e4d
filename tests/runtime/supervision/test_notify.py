"""What the service manager hears, over real datagram sockets."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssn_edge_runtime.supervision import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The service manager's end: its address as NOTIFY_SOCKET has it, and its socket."""
    is_path = request.param == "path"
    address = str(tmp_path / "notify") if is_path else f"@ssn-edge-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address if is_path else "\0" + address[1:])
        listener.settimeout(5)
        yield address, listener


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().split("\n")


def test_the_whole_life_of_a_service_is_told(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    with Notifier.from_environment({"NOTIFY_SOCKET": address}) as notifier:
        assert notifier.is_enabled
        assert notifier.ready("judging with part.ssn")
        assert heard(listener) == ["READY=1", "STATUS=judging with part.ssn"]
        assert notifier.status("12 pass,\n1 fail")
        assert heard(listener) == ["STATUS=12 pass, 1 fail"]
        assert notifier.watchdog()
        assert heard(listener) == ["WATCHDOG=1"]
        assert notifier.watchdog_failed()
        assert heard(listener) == ["WATCHDOG=trigger"]
        assert notifier.stopping()
        assert heard(listener) == ["STOPPING=1"]


def test_the_same_status_is_told_once(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    with Notifier(address) as notifier:
        for _ in range(5):
            assert notifier.status("12 pass")
        notifier.watchdog()
        assert [heard(listener), heard(listener)] == [["STATUS=12 pass"], ["WATCHDOG=1"]]


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 10.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(
    environment: dict[str, str], interval_s: float | None
) -> None:
    with Notifier.from_environment({"NOTIFY_SOCKET": "@x", **environment}, pid=77) as notifier:
        assert notifier.watchdog_interval_s == interval_s


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:9"}])
def test_without_a_service_manager_nothing_happens(environment: dict[str, str]) -> None:
    with Notifier.from_environment({**environment, "WATCHDOG_USEC": "1000000"}) as notifier:
        assert not notifier.is_enabled
        assert notifier.watchdog_interval_s is None
        assert not notifier.ready()


def test_a_service_manager_that_is_gone_or_deaf_neither_raises_nor_waits(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with Notifier(address) as notifier:
        assert not notifier.watchdog()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind(address)
            answers = [notifier.watchdog() for _ in range(5000)]  # until its queue is full
        assert answers[0]
        assert not answers[-1]
        assert notifier.failures == 1 + answers.count(False)


def test_no_handle_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - it names handles
    for _ in range(3):
        with Notifier("@nobody") as notifier:
            notifier.ready()
        notifier.close()
        assert not notifier.ready()
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # noqa: PTH208
