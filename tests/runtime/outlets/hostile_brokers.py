"""What a broker may do that is none, and one that takes all and acknowledges nothing."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from time import monotonic, sleep

from hostile_peers import LONGEST_S, PeerOnAPort, Trick, drip, endless, take

CONNACK = bytes([0x20, 2, 0, 0])


def _welcome(talk: socket.socket) -> None:
    take(talk)
    talk.sendall(CONNACK)


def broker_noise(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        _welcome(talk)
    talk.sendall(random.randbytes(random.randrange(1, 4096)))
    sleep(random.random() * 0.1)


def broker_closes(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        take(talk)
    talk.sendall(CONNACK[: random.randrange(4)])


def broker_is_silent(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        _welcome(talk)
    while talk.recv(65536):
        pass


def broker_drips(talk: socket.socket, random: Random) -> None:
    take(talk)
    drip(talk, CONNACK + random.randbytes(300), random.choice([0.0, 0.02, 0.1]))


def broker_refuses(talk: socket.socket, random: Random) -> None:
    take(talk)
    talk.sendall(bytes([0x20, 2, random.randrange(256), random.randrange(256)]))
    sleep(0.05)


def broker_sends_giants(talk: socket.socket, random: Random) -> None:
    take(talk)
    begin = random.choice([b"", CONNACK])
    kind = random.choice([0x20, 0x30, 0x32, 0x34, 0x40, 0x90, 0xD0, 0xE0, 0xF0])
    endless(talk, bytes(65536), begin=begin + bytes([kind, 0xFF, 0xFF, 0xFF, 0x7F]))


def broker_never_ends_a_length(talk: socket.socket, random: Random) -> None:
    take(talk)
    endless(talk, b"\xff" * 4096, begin=random.choice([b"", CONNACK]))


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
    endless(talk, asked * 4096)


def broker_acknowledges_what_was_not_sent(talk: socket.socket, random: Random) -> None:
    _welcome(talk)
    for _ in range(random.randrange(1, 400)):
        talk.sendall(bytes([0x40, 2]) + random.randbytes(2))
    endless(talk, random.choice([b"\xd0\x00", b"\x40\x02\xff\xff"]) * 1024)


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


class SilentTaker(PeerOnAPort):
    """A broker that takes all and acknowledges nothing, and answers pings."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []
        """Messages of each connection, without what is retained."""

    def meet(self, talk: socket.socket) -> None:
        self.taken.append(0)
        talk.settimeout(0.2)
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
