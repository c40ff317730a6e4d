"""Peers that are none: they answer noise, never end, drip, close in the middle, lie."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from time import monotonic, sleep

LONGEST_S = 2.0
"""Of one connection; the publisher under test gives up sooner."""

Trick = Callable[[socket.socket, Random], None]


class HostilePeer:
    """Plays a trick on each connection to a port, one at a time; a context manager.

    Args:
        tricks: What it may do.
        seed: Of what it does.
    """

    def __init__(self, tricks: Sequence[Trick], seed: int) -> None:
        self._tricks = tricks
        self._random = Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._is_over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.played: dict[str, int] = {}
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> HostilePeer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the port, to a sound peer; a second call does nothing."""
        self._is_over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.2)
        while not self._is_over.is_set():
            try:
                talk, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            trick = self._random.choice(self._tricks)
            self.played[trick.__name__] = self.played.get(trick.__name__, 0) + 1
            with talk, suppress(OSError):  # the publisher has left
                talk.settimeout(LONGEST_S)
                trick(talk, self._random)
                if self._random.random() < 0.3:  # not FIN, but RST
                    linger = struct.pack("ii", 1, 0)
                    talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _endless(talk: socket.socket, piece: bytes, *, begin: bytes = b"") -> None:
    until_s = monotonic() + LONGEST_S
    talk.sendall(begin)
    while monotonic() < until_s:
        talk.sendall(piece)


def _drip(talk: socket.socket, data: bytes, pause_s: float = 0.02) -> None:
    until_s = monotonic() + LONGEST_S
    for byte in data:
        talk.sendall(bytes([byte]))
        sleep(pause_s)
        if monotonic() > until_s:
            return


# What a broker may do.

CONNACK = bytes([0x20, 2, 0, 0])


def _take(talk: socket.socket) -> None:
    talk.recv(65536)


def _welcome(talk: socket.socket) -> None:
    _take(talk)
    talk.sendall(CONNACK)


def broker_noise(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        _welcome(talk)
    talk.sendall(random.randbytes(random.randrange(1, 4096)))
    sleep(random.random() * 0.1)


def broker_closes(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        _take(talk)
    talk.sendall(CONNACK[: random.randrange(4)])


def broker_is_silent(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        _welcome(talk)
    while talk.recv(65536):
        pass


def broker_drips(talk: socket.socket, random: Random) -> None:
    _take(talk)
    _drip(talk, CONNACK + random.randbytes(300), random.choice([0.0, 0.02, 0.1]))


def broker_refuses(talk: socket.socket, random: Random) -> None:
    _take(talk)
    talk.sendall(bytes([0x20, 2, random.randrange(256), random.randrange(256)]))
    sleep(0.05)


def broker_sends_giants(talk: socket.socket, random: Random) -> None:
    _take(talk)
    begin = random.choice([b"", CONNACK])
    kind = random.choice([0x20, 0x30, 0x32, 0x34, 0x40, 0x90, 0xD0, 0xE0, 0xF0])
    _endless(talk, bytes(65536), begin=begin + bytes([kind, 0xFF, 0xFF, 0xFF, 0x7F]))


def broker_never_ends_a_length(talk: socket.socket, random: Random) -> None:
    _take(talk)
    _endless(talk, b"\xff" * 4096, begin=random.choice([b"", CONNACK]))


def broker_publishes_without_end(talk: socket.socket, random: Random) -> None:
    _welcome(talk)
    qos = random.randrange(3)
    until_s = monotonic() + LONGEST_S
    mid = 0
    while monotonic() < until_s:
        mid = mid % 65535 + 1
        body = struct.pack("!H", 3) + b"a/b" + (struct.pack("!H", mid) if qos else b"")
        body += bytes(16000)
        length = bytes([len(body) & 127 | 128, len(body) >> 7])
        talk.sendall(bytes([0x30 | qos << 1]) + length + body)


def broker_asks_and_reads_nothing(talk: socket.socket, random: Random) -> None:
    _welcome(talk)
    asked = random.choice([b"\xc0\x00", b"\x62\x02\x00\x07", b"\x50\x02\x00\x07", CONNACK])
    _endless(talk, asked * 4096)


def broker_acknowledges_what_was_not_sent(talk: socket.socket, random: Random) -> None:
    _welcome(talk)
    for _ in range(random.randrange(1, 400)):
        talk.sendall(bytes([0x40, 2]) + random.randbytes(2))
    _endless(talk, random.choice([b"\xd0\x00", b"\x40\x02\xff\xff"]) * 1024)


def broker_sends_mutants(talk: socket.socket, random: Random) -> None:
    _welcome(talk)
    for _ in range(random.randrange(1, 30)):
        length = random.choice([0, 1, 2, 2, 2, 3, 4, 127])
        body = random.randbytes(random.choice([length, length, random.randrange(130)]))
        talk.sendall(bytes([random.randrange(16) << 4 | random.randrange(16), length]) + body)
        sleep(random.choice([0.0, 0.01]))


BROKER_TRICKS: Sequence[Trick] = (
    broker_noise,
    broker_closes,
    broker_is_silent,
    broker_drips,
    broker_refuses,
    broker_sends_giants,
    broker_never_ends_a_length,
    broker_publishes_without_end,
    broker_asks_and_reads_nothing,
    broker_acknowledges_what_was_not_sent,
    broker_sends_mutants,
)


# What an HTTP server may do.

OK_LINE = b"HTTP/1.1 200 OK\r\n"


def server_noise(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        _take(talk)
    talk.sendall(random.randbytes(random.randrange(1, 8192)))


def server_says_no_status(talk: socket.socket, random: Random) -> None:
    _take(talk)
    line = random.choice(
        [
            b"HTTP/1.1 abc OK",
            b"HTTP/1.1 -200 OK",
            b"HTTP/1.1 200",
            b"HTTP/9.9 200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 " + b"9" * 5000 + b" OK",
            b"HTTP/1.1 000 OK",
            b"HTTP/1.1 2\xb2\xb3 OK",
            b"\x1b[2J\x1b]0;owned\x07",
            b"",
        ]
    )
    talk.sendall(line + random.choice([b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n"]))
    sleep(random.random() * 0.1)


def server_never_ends_its_status_line(talk: socket.socket, random: Random) -> None:
    _take(talk)
    _endless(talk, b"a" * 65536, begin=random.choice([b"", b"HTTP/1.1 200 "]))


def server_never_ends_its_headers(talk: socket.socket, random: Random) -> None:
    _take(talk)
    header = random.choice([b"a: b\r\n", b"a:" + b"b" * 65000 + b"\r\n", b" folded\r\n", b"a"])
    _endless(talk, header * max(1, 65536 // len(header)), begin=OK_LINE)


def server_says_continue_without_end(talk: socket.socket, random: Random) -> None:
    _take(talk)
    code = random.choice([b"100 Continue", b"103 Early Hints", b"101 Switching Protocols"])
    _endless(talk, (b"HTTP/1.1 " + code + b"\r\na: b\r\n\r\n") * 500)


def server_never_ends_its_body(talk: socket.socket, random: Random) -> None:
    _take(talk)
    status = random.choice([b"200 OK", b"503 Busy", b"503 Busy", b"503 Busy"])
    headers = random.choice(
        [
            b"Content-Length: 99999999999999999999\r\n",
            b"Content-Length: -1\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"",
        ]
    )
    begin = b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n"
    _endless(
        talk, random.choice([b"ffffffffffffffff\r\n", b"zz\r\n", bytes(9)]) * 8192, begin=begin
    )


def server_drips(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.7:
        _take(talk)
    _drip(talk, OK_LINE + b"a: b\r\n" * 1000, random.choice([0.0, 0.02, 0.1]))


def server_closes(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.7:
        _take(talk)
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nhello"
    talk.sendall(answer[: random.randrange(len(answer))])


def server_is_silent(talk: socket.socket, random: Random) -> None:
    del random
    while talk.recv(65536):
        pass


def server_answers_any_status(talk: socket.socket, random: Random) -> None:
    _take(talk)
    status = random.choice([*range(300, 309), *range(500, 512), 401, 403, 404, 429, 101, 199])
    where = b"Location: http://169.254.169.254/\r\n"
    talk.sendall(b"HTTP/1.1 %d \x1b[31m\r\n%s\r\n" % (status, where))
    sleep(0.01)


SERVER_TRICKS: Sequence[Trick] = (
    server_noise,
    server_says_no_status,
    server_never_ends_its_status_line,
    server_never_ends_its_headers,
    server_says_continue_without_end,
    server_never_ends_its_body,
    server_drips,
    server_closes,
    server_is_silent,
    server_answers_any_status,
)


# What either may do in place of a handshake of TLS.


def handshake_drips(talk: socket.socket, random: Random) -> None:
    _take(talk)
    record = bytes([0x16, 3, 3, 0x40, 0]) + bytes([2, 0, 0x3F, 0xFC, 3, 3]) + random.randbytes(600)
    _drip(talk, record, random.choice([0.0, 0.02, 0.1]))


def handshake_never_ends(talk: socket.socket, random: Random) -> None:
    _take(talk)
    kind = random.choice([0x14, 0x15, 0x16, 0x17, 0x18])
    record = bytes([kind, 3, 3, 0x40, 0]) + random.randbytes(0x4000)
    _endless(talk, record * 4)


def handshake_of_mutants(talk: socket.socket, random: Random) -> None:
    _take(talk)
    body = random.randbytes(random.randrange(1, 400))
    body = random.choice([b"\x02", b"\x0b", b"\x0e", b""]) + body
    record = bytes([random.choice([0x15, 0x16]), 3, random.randrange(5)])
    talk.sendall(record + struct.pack("!H", random.choice([len(body), 2, 65535])) + body)
    sleep(0.02)


HANDSHAKE_TRICKS: Sequence[Trick] = (handshake_drips, handshake_never_ends, handshake_of_mutants)


class SilentTaker:
    """A broker that takes all and acknowledges nothing, and answers pings; a context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self.taken: list[int] = []
        """Messages of each connection, without what is retained."""
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> SilentTaker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the port, to a sound peer; a second call does nothing."""
        self._is_over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.2)
        while not self._is_over.is_set():
            try:
                talk, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.taken.append(0)
            with talk, suppress(OSError):
                talk.settimeout(0.2)
                self._talk(talk)

    def _talk(self, talk: socket.socket) -> None:
        heard = bytearray()
        while not self._is_over.is_set():
            with suppress(TimeoutError):
                piece = talk.recv(65536)
                if not piece:
                    return
                heard += piece
            while (packet := _packet(heard)) is not None:
                kind, size = packet
                del heard[:size]
                if kind == 0x10:
                    talk.sendall(CONNACK)
                elif kind == 0xC0:
                    talk.sendall(b"\xd0\x00")
                elif kind & 0xF1 == 0x30:
                    self.taken[-1] += 1


def _packet(heard: bytearray) -> tuple[int, int] | None:
    """First byte and whole size of the first packet, if it is there as a whole."""
    length, shift = 0, 0
    for at, byte in enumerate(heard[1:5]):
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            size = 2 + at + length
            return (heard[0], size) if len(heard) >= size else None
    return None
