"""Everything at once that the page's port may be sent: for a while, with its memory watched."""

from __future__ import annotations

import logging
import os
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import pytest

from ssn_edge_runtime.outlets.page.process import LIMITS
from ssn_edge_runtime.settings_store import SettingsStore
from tests.runtime.outlets.page import page_noise as noise
from tests.runtime.outlets.page.page_line import PageLine, line_with_page

logger = logging.getLogger(__name__)
FUZZ_S = float(os.environ.get("SSN_EDGE_FUZZ_S", "30"))
"""The long form is 600."""
WARM_S = min(10.0, FUZZ_S / 3)
MOST_GROWTH_MB = 32.0
"""Of the page's memory, between its warm-up under noise and its peak."""
MOST_MORE_HANDLES = LIMITS.connections + 16
"""Open at once beside those of a page that nobody asks: its connections, and a few files."""
HELD = 60
"""Requests of which only the beginning is sent; fewer than the page takes connections."""
ANSWERED_S = 20.0
"""A person gives up by then."""
TRIGGERS = 5
MORE = ("--page-tokens", "page-tokens.json", "--settings", "settings.json", "--keep", "none",
        "--trigger", "software", "--deadline-ms", "5000")  # fmt: skip


@dataclass
class Process:
    """The page's, as the kernel sees it."""

    pid: int

    @classmethod
    def of(cls, line: PageLine) -> Process:
        children = Path(f"/proc/{line.process.pid}/task/{line.process.pid}/children").read_text()
        for pid in map(int, children.split()):
            if b"outlets.page" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return cls(pid)
        raise AssertionError("the page's process is gone")

    @property
    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def handles(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


@dataclass
class Attack:
    """What was sent, and what came back; written by several threads.

    Args:
        port: Of the page.
        until_s: Of the monotonic clock.
    """

    port: int
    until_s: float
    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    odd: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_over(self) -> bool:
        return monotonic() > self.until_s

    def send(self, kind: str, data: bytes, *, reads: bool = True, resets: bool = False) -> None:
        """One connection: all is sent, and what is answered at once is looked at."""
        answer = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as client:
            if resets:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.settimeout(0.2)
            client.sendall(data)
            if reads:
                answer = client.recv(65536)
        with self.lock:
            self.sent[kind] += 1
            if answer:
                self.statuses[answer[9:12].decode("latin-1")] += 1
            # What fails inside the page is a 500: each is a crash that was only just caught.
            if answer and (not answer.startswith(b"HTTP/1.1 ") or answer[9:12] == b"500"):
                self.odd.append(answer[:300])

    def throw(self, seed: int, session: dict[str, str], settings_id: str) -> None:
        """Noise of all kinds, until it is over."""
        chance = random.Random(seed)
        kinds: dict[str, Callable[[], bytes]] = {
            "raw": lambda: noise.raw(chance, self.port),
            "huge head": lambda: noise.huge_head(chance, self.port),
            "chunked": lambda: noise.chunked(chance, self.port),
            "many at once": lambda: noise.many_at_once(chance, self.port),
            "elsewhere": lambda: noise.elsewhere(chance, self.port, session),
            "mutated": lambda: noise.mutated(chance, self.port, session, settings_id),
        }
        while not self.is_over:
            kind = chance.choice([*kinds, "raw", "mutated"])
            reads = chance.random() < 0.9
            self.send(kind, kinds[kind](), reads=reads, resets=chance.random() < 0.1)

    def hold(self, seed: int) -> None:
        """Connections that stay open with half a request; some drip a byte now and then."""
        chance = random.Random(seed)
        held: list[socket.socket] = []
        while not self.is_over:
            while len(held) < HELD:
                client = socket.socket()
                client.settimeout(1)
                with suppress(OSError):
                    client.connect(("127.0.0.1", self.port))
                    client.sendall(noise.half(chance, self.port))
                    with self.lock:
                        self.sent["half"] += 1
                held.append(client)
            sleep(0.2)
            for client in chance.sample(held, 10):
                try:
                    client.send(b"x", socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
                except OSError:  # it was ended: another one begins
                    client.close()
                    held.remove(client)
            if chance.random() < 0.1:  # and some leave by themselves
                held.pop().close()
        for client in held:
            client.close()


@pytest.fixture
def line(
    tmp_path: Path, package_path: Path, tokens: dict[str, str], store: SettingsStore
) -> Iterator[PageLine]:
    with line_with_page(tmp_path, package_path, *MORE) as line:
        for number in range(1, TRIGGERS + 1):
            trigger(line, number)
        yield line


def trigger(line: PageLine, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(60)
        talk.connect(str(line.output / "control.sock"))
        with talk.makefile("rw") as lines:
            lines.write(f"trigger {number}\n")
            lines.flush()
            answer = lines.readline()
            assert answer.startswith((f"{number} pass", f"{number} fail")), answer


def status_of(line: PageLine, path: str) -> int:
    """What a sound request is answered; 503 as well where it was cut off for want of room."""
    try:
        return line.ask("GET", path).status
    except ConnectionError:
        return 503


def asked(line: PageLine, path: str = "/readyz") -> float:
    """How long a sound request takes, tried again where the page is full."""
    begun_s = monotonic()
    while status_of(line, path) == 503:
        assert monotonic() < begun_s + ANSWERED_S
        sleep(0.2)
    return monotonic() - begun_s


def files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def wait_for_calm(page: Process, most_handles: int) -> int:
    """The handles that are left once all connections have had their time."""
    until_s = monotonic() + 3 * (LIMITS.idle_s + LIMITS.write_s)
    while (handles := page.handles) > most_handles and monotonic() < until_s:
        sleep(0.5)
    return handles


def test_noise_of_all_kinds_ends_nothing_changes_nothing_and_takes_no_memory(
    line: PageLine, tokens: dict[str, str], tmp_path: Path
) -> None:
    seen = line.wait_for(lambda seen: seen["settings"]["is_in_force"])
    session = line.log_in(tokens["emma"])
    before, page = files(tmp_path), Process.of(line)
    idle_handles = page.handles
    attack = Attack(line.port, monotonic() + FUZZ_S)
    settings_id = seen["settings"]["settings_id"]
    threads = [
        threading.Thread(target=attack.throw, args=(seed, session, settings_id))
        for seed in range(4)
    ]
    threads.append(threading.Thread(target=attack.hold, args=(7,)))
    warm_s = monotonic() + WARM_S
    warm_mb = peak_mb = longest_s = 0.0
    peak_handles = 0
    for thread in threads:
        thread.start()
    try:
        while not attack.is_over:
            longest_s = max(longest_s, asked(line))
            peak_mb = max(peak_mb, page.resident_mb)
            peak_handles = max(peak_handles, page.handles)
            if monotonic() < warm_s:
                warm_mb = peak_mb
            sleep(0.25)
    finally:
        attack.until_s = 0.0
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    logger.info(f"{sum(attack.sent.values())} connections in {FUZZ_S:g} s: {dict(attack.sent)}")
    logger.info(f"answers: {dict(attack.statuses)}; a sound request took {longest_s:.2f} s at most")
    logger.info(f"memory {warm_mb:.1f} MB warm, {peak_mb:.1f} MB at most")
    logger.info(f"handles {idle_handles} idle, {peak_handles} at most")
    assert attack.odd == []
    assert set(attack.sent) == {
        "raw", "huge head", "chunked", "many at once", "elsewhere", "mutated", "half",
    }  # fmt: skip
    assert sum(attack.sent.values()) > 3 * FUZZ_S
    assert {"403", "409", "411", "421", "422"} <= set(attack.statuses), "it got as deep as that"
    assert Process.of(line) == page, "the page never had to be started again"
    assert peak_mb < warm_mb + MOST_GROWTH_MB
    assert peak_handles <= idle_handles + MOST_MORE_HANDLES
    assert wait_for_calm(page, idle_handles + 4) <= idle_handles + 4
    logger.info(f"after it {page.resident_mb:.1f} MB, {page.handles} handles")
    for path in ("/healthz", "/readyz", "/api/snapshot", "/", "/metrics"):
        assert line.ask("GET", path).status == 200, path
    assert line.ask("GET", "/api/session", None, session).body["name"] == "emma"
    assert files(tmp_path) == before
    assert line.snapshot()["settings"]["recipe"] is None
    trigger(line, TRIGGERS + 1)  # the line itself never noticed
    triggers = [each for each in line.records() if each["kind"] == "trigger"]
    assert len(triggers) == TRIGGERS + 1
    assert not any(each.get("event") == "user_action" for each in line.records())


def test_more_half_requests_than_there_are_connections_let_the_next_one_in(
    line: PageLine,
) -> None:
    """Whoever holds them all is waited for, once: then the others are answered again."""
    chance = random.Random(3)
    page = Process.of(line)
    idle_handles = page.handles
    held: list[socket.socket] = []
    try:
        for _ in range(LIMITS.connections + 40):
            client = socket.create_connection(("127.0.0.1", line.port), 5)
            with suppress(OSError):  # the last are refused at once
                client.sendall(noise.half(chance, line.port))
            held.append(client)
        assert page.handles <= idle_handles + MOST_MORE_HANDLES
        until_s = monotonic() + 3 * LIMITS.idle_s
        while status_of(line, "/healthz") != 200:
            assert monotonic() < until_s
            sleep(0.5)
    finally:
        for client in held:
            client.close()
    assert wait_for_calm(page, idle_handles + 4) <= idle_handles + 4
    assert line.ask("GET", "/readyz").status == 200
