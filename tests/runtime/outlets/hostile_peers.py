"""Peers that are none: they answer noise, never end, drip, close in the middle, lie."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

LONGEST_S = 2.0
"""Of one connection; the publisher under test gives up sooner."""

Trick = Callable[[socket.socket, Random], None]


class PeerOnAPort:
    """Meets those who connect to a port, one at a time; a context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._is_over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the port, to a sound peer; a second call does nothing."""
        self._is_over.set()
        self._thread.join()
        self._listener.close()

    def meet(self, talk: socket.socket) -> None:
        """What is done with a connection; it is closed then."""
        raise NotImplementedError

    def _serve(self) -> None:
        self._listener.settimeout(0.2)
        while not self._is_over.is_set():
            try:
                talk, _ = self._listener.accept()
            except TimeoutError:
                continue
            with talk, suppress(OSError):  # the publisher has left
                self.meet(talk)


class HostilePeer(PeerOnAPort):
    """Plays a trick on each connection.

    Args:
        tricks: What it may do.
        seed: Of what it does.
    """

    def __init__(self, tricks: Sequence[Trick], seed: int) -> None:
        super().__init__()
        self._tricks = tricks
        self._random = Random(seed)
        self.connections = 0
        self.played: dict[str, int] = {}

    def meet(self, talk: socket.socket) -> None:
        self.connections += 1
        trick = self._random.choice(self._tricks)
        self.played[trick.__name__] = self.played.get(trick.__name__, 0) + 1
        talk.settimeout(LONGEST_S)
        trick(talk, self._random)
        if self._random.random() < 0.3:  # not FIN, but RST
            linger = struct.pack("ii", 1, 0)
            talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def endless(talk: socket.socket, piece: bytes, *, begin: bytes = b"") -> None:
    until_s = monotonic() + LONGEST_S
    talk.sendall(begin)
    while monotonic() < until_s:
        talk.sendall(piece)


def drip(talk: socket.socket, data: bytes, pause_s: float = 0.02) -> None:
    until_s = monotonic() + LONGEST_S
    for byte in data:
        talk.sendall(bytes([byte]))
        sleep(pause_s)
        if monotonic() > until_s:
            return


def take(talk: socket.socket) -> None:
    talk.recv(65536)


# What either may do in place of a handshake of TLS.


def handshake_drips(talk: socket.socket, random: Random) -> None:
    take(talk)
    record = bytes([0x16, 3, 3, 0x40, 0]) + bytes([2, 0, 0x3F, 0xFC, 3, 3]) + random.randbytes(600)
    drip(talk, record, random.choice([0.0, 0.02, 0.1]))


def handshake_never_ends(talk: socket.socket, random: Random) -> None:
    take(talk)
    kind = random.choice([0x14, 0x15, 0x16, 0x17, 0x18])
    record = bytes([kind, 3, 3, 0x40, 0]) + random.randbytes(0x4000)
    endless(talk, record * 4)


def handshake_of_mutants(talk: socket.socket, random: Random) -> None:
    take(talk)
    body = random.randbytes(random.randrange(1, 400))
    body = random.choice([b"\x02", b"\x0b", b"\x0e", b""]) + body
    record = bytes([random.choice([0x15, 0x16]), 3, random.randrange(5)])
    talk.sendall(record + struct.pack("!H", random.choice([len(body), 2, 65535])) + body)
    sleep(0.02)


HANDSHAKE_TRICKS: Sequence[Trick] = (handshake_drips, handshake_never_ends, handshake_of_mutants)
