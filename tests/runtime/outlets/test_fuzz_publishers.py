"""Whatever a broker or an HTTP server does to a publisher: it lives, small, and tries again.

The long form: ``pytest -m soak tests/runtime/outlets/test_fuzz_publishers.py -s``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from certificates import Authority
from hostile_brokers import BROKER_TRICKS, SilentTaker
from hostile_peers import HANDSHAKE_TRICKS, HostilePeer
from hostile_servers import SERVER_TRICKS
from publisher_peers import (
    MOSQUITTO,
    SAID_NAME,
    Broker,
    Listener,
    Receiver,
    publisher,
    wait_until,
)
from real_line import line_with, pull
from test_ends import verdicts
from test_publishers import posted, sequences, write
from tls_peers import TlsBroker, server_tls

from ssn_edge_runtime.sinks import Journal

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
MOST_WAITING = 200
GROWTH_KIB = 8 * 1024
"""Highest above what it is once its buffer is full."""
FORMS = pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(30, id="short", marks=pytest.mark.slow),
        pytest.param(600, id="long", marks=pytest.mark.soak),
    ],
)


def asked_for(seconds: float) -> float:
    return float(os.environ.get("SSN_EDGE_FUZZ_S", seconds))


def kib(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0])


def forget_peak(pid: int) -> None:
    """`VmHWM`, the highest that `VmRSS` was, begins anew: no short peak goes unseen."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextmanager
def writing(journal: Journal) -> Iterator[None]:
    """Verdicts all the while."""
    is_over = threading.Event()

    def write_on() -> None:
        while not is_over.wait(0.2):
            write(journal, 1)

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def fuzz(
    process: subprocess.Popen[bytes], journal: Journal, hostile: HostilePeer, seconds: float
) -> None:
    """Let a hostile peer play, and look at what the publisher becomes."""
    write(journal, MOST_WAITING)
    warm_s = monotonic() + max(seconds / 5, 5.0)
    with writing(journal):
        wait_until(lambda: monotonic() > warm_s or process.poll() is not None, seconds + 60)
        warm, before = kib(process.pid, "VmRSS"), hostile.connections
        forget_peak(process.pid)
        until_s = monotonic() + seconds
        wait_until(lambda: monotonic() > until_s or process.poll() is not None, seconds + 60)
    assert process.poll() is None
    highest = kib(process.pid, "VmHWM")
    threads = len(list(Path(f"/proc/{process.pid}/task").iterdir()))
    files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    found = {
        "connections": hostile.connections,
        "warm_kib": warm,
        "highest_kib": highest,
        "threads": threads,
        "files": files,
        "played": hostile.played,
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    assert hostile.connections - before > seconds / 2  # it hung on to none of them
    assert highest < warm + GROWTH_KIB
    assert threads < 10
    assert files < 20


def said_is_plain(folder: Path) -> None:
    """What it says is in lines of its own, short, with nothing that the peer wrote."""
    text = (folder / SAID_NAME).read_text()
    assert "Traceback" not in text
    assert "\x1b" not in text
    assert "owned" not in text
    for line in text.splitlines():
        assert len(line) < 300
        assert re.match(r"(mqtt|http)s?://127\.0\.0\.1:", line)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "log") as journal:
        yield journal


def mqtt_arguments(port: int, folder: Path, *more: str) -> tuple[str, ...]:
    url, control = f"mqtt://127.0.0.1:{port}/plant/line1", str(folder / "none.sock")
    return ("mqtt", url, "--folder", str(folder / "log"), "--control", control, *more)


@needs_broker
@FORMS
def test_a_hostile_broker_neither_ends_nor_holds_nor_fills_the_publisher(
    tmp_path: Path, journal: Journal, seconds: float
) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    with HostilePeer(BROKER_TRICKS, 7) as hostile:
        arguments = mqtt_arguments(hostile.port, tmp_path, "--most-messages", str(MOST_WAITING))
        with publisher(*arguments, folder=tmp_path, is_quick=True) as process:
            fuzz(process, journal, hostile, asked_for(seconds))
            hostile.close()
            broker = Broker(tmp_path, port=hostile.port)
            broker.start()
            listener = Listener(hostile.port)
            try:
                wrote = write(journal, 50)
                wait_until(lambda: wrote[-1] in sequences(listener))
            finally:
                listener.close()
                broker.kill()
    assert sequences(listener)[-50:] == wrote
    assert set(hostile.played) == {each.__name__ for each in BROKER_TRICKS}
    said_is_plain(tmp_path)


@FORMS
def test_a_hostile_server_neither_ends_nor_holds_nor_fills_the_publisher(
    tmp_path: Path, journal: Journal, seconds: float
) -> None:
    with HostilePeer(SERVER_TRICKS, 7) as hostile:
        url = f"http://127.0.0.1:{hostile.port}/hook"
        arguments = ["--folder", str(tmp_path / "log"), "--key", str(tmp_path / "key")]
        arguments += ["--most-messages", str(MOST_WAITING)]
        with publisher("webhook", url, *arguments, folder=tmp_path, is_quick=True) as process:
            fuzz(process, journal, hostile, asked_for(seconds))
            hostile.close()
            receiver = Receiver(hostile.port)
            try:
                wrote = write(journal, 50)
                wait_until(lambda: posted(receiver)[-50:] == wrote)
            finally:
                receiver.close()
    assert set(hostile.played) == {each.__name__ for each in SERVER_TRICKS}
    said_is_plain(tmp_path)


@needs_broker
@pytest.mark.slow
def test_noise_in_place_of_a_handshake_is_left_and_what_waits_goes_to_a_broker_with_tls(
    tmp_path: Path, journal: Journal
) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    authority = Authority(tmp_path)
    with HostilePeer((*HANDSHAKE_TRICKS, *BROKER_TRICKS), 3) as hostile:
        url, control = f"mqtts://127.0.0.1:{hostile.port}/plant/line1", str(tmp_path / "none.sock")
        arguments = ["--folder", str(tmp_path / "log"), "--ca", str(authority.path)]
        arguments += ["--control", control]
        with publisher("mqtt", url, *arguments, folder=tmp_path, is_quick=True) as process:
            fuzz(process, journal, hostile, asked_for(10))
            hostile.close()
            peer = TlsBroker(tmp_path, authority.issue("right", "127.0.0.1"), port=hostile.port)
            listener = Listener(peer.plain_port)
            try:
                wrote = write(journal, 50)
                wait_until(lambda: wrote[-1] in sequences(listener))
            finally:
                listener.close()
                peer.broker.kill()
    assert sequences(listener)[-50:] == wrote
    said_is_plain(tmp_path)


@pytest.mark.slow
def test_noise_in_place_of_a_handshake_is_left_and_what_waits_goes_to_a_server_with_tls(
    tmp_path: Path, journal: Journal
) -> None:
    authority = Authority(tmp_path)
    with HostilePeer((*HANDSHAKE_TRICKS, *SERVER_TRICKS), 3) as hostile:
        url = f"https://127.0.0.1:{hostile.port}/hook"
        arguments = ["--folder", str(tmp_path / "log"), "--key", str(tmp_path / "key")]
        arguments += ["--ca", str(authority.path)]
        with publisher("webhook", url, *arguments, folder=tmp_path, is_quick=True) as process:
            fuzz(process, journal, hostile, asked_for(10))
            hostile.close()
            right = server_tls(authority.issue("right", "127.0.0.1"))
            receiver = Receiver(hostile.port, tls=right)
            try:
                last = write(journal, 50)[-1]
                # None was ever given to a peer that had not shown who it is.
                wait_until(lambda: posted(receiver) == list(range(1, last + 1)))
            finally:
                receiver.close()
    said_is_plain(tmp_path)


@needs_broker
def test_a_broker_that_acknowledges_nothing_holds_a_window_of_messages_and_no_more(
    tmp_path: Path, journal: Journal
) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    with SilentTaker() as taker:
        arguments = mqtt_arguments(taker.port, tmp_path)
        with publisher(*arguments, folder=tmp_path, is_quick=True) as process:
            wrote = write(journal, 1000)
            wait_until(lambda: len(taker.taken) > 3)
            before = kib(process.pid, "VmRSS")
            forget_peak(process.pid)
            wait_until(lambda: len(taker.taken) > 12)
            assert kib(process.pid, "VmHWM") < before + GROWTH_KIB
            taker.close()
            broker = Broker(tmp_path, port=taker.port)
            broker.start()
            listener = Listener(taker.port)
            try:
                wait_until(lambda: wrote[-1] in sequences(listener))
            finally:
                listener.close()
                broker.kill()
    assert max(taker.taken) == 16
    # Whoever subscribes may be later than the first of them.
    heard = sequences(listener)
    assert heard == list(range(heard[0], wrote[-1] + 1))
    said = (tmp_path / SAID_NAME).read_text().splitlines()
    assert "has not acknowledged a message for 1 s" in said[0]


@needs_broker
@pytest.mark.slow
def test_a_line_with_hostile_peers_judges_in_time_and_its_publishers_come_through(
    tmp_path: Path, no_process_is_left: None, package_path: Path
) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
    told: list[str] = []
    with HostilePeer(BROKER_TRICKS, 1) as broker, HostilePeer(SERVER_TRICKS, 2) as server:
        options = [
            *("--mqtt", f"mqtt://127.0.0.1:{broker.port}/p/l1"),
            *(
                "--webhook",
                f"http://127.0.0.1:{server.port}/",
                "--webhook-key",
                str(tmp_path / "k"),
            ),
        ]
        with line_with(tmp_path, package_path, *options):
            until_s = monotonic() + asked_for(20)
            while monotonic() < until_s or min(broker.connections, server.connections) < 3:
                told += pull(tmp_path, len(told) + 1, 10)
                assert monotonic() < until_s + 120
            broker.close()
            server.close()
            sound = Broker(tmp_path, port=broker.port)
            sound.start()
            listener, receiver = Listener(broker.port), Receiver(server.port)
            try:
                told += pull(tmp_path, len(told) + 1, 10)
                records = verdicts(tmp_path / "out")
                wait_until(
                    lambda: len(told) in [each["sequence"] for each in listener.on("p/l1/verdict")],
                    within_s=120,
                )
                wait_until(lambda: receiver.posts, within_s=120)  # events, and rejects if any
            finally:
                listener.close()
                receiver.close()
                sound.kill()
    assert {each.split()[2] for each in told} <= {"none", "defect"}
    assert all(each["deadline_met"] for each in records)
