"""What an HTTP server may do that is none."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from random import Random
from time import sleep

from hostile_peers import Trick, drip, endless, take

OK_LINE = b"HTTP/1.1 200 OK\r\n"


def server_noise(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.5:
        take(talk)
    talk.sendall(random.randbytes(random.randrange(1, 8192)))


def server_says_no_status(talk: socket.socket, random: Random) -> None:
    take(talk)
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
    take(talk)
    endless(talk, b"a" * 65536, begin=random.choice([b"", b"HTTP/1.1 200 "]))


def server_never_ends_its_headers(talk: socket.socket, random: Random) -> None:
    take(talk)
    header = random.choice([b"a: b\r\n", b"a:" + b"b" * 65000 + b"\r\n", b" folded\r\n", b"a"])
    endless(talk, header * max(1, 65536 // len(header)), begin=OK_LINE)


def server_says_continue_without_end(talk: socket.socket, random: Random) -> None:
    take(talk)
    code = random.choice([b"100 Continue", b"103 Early Hints", b"101 Switching Protocols"])
    endless(talk, (b"HTTP/1.1 " + code + b"\r\na: b\r\n\r\n") * 500)


def server_never_ends_its_body(talk: socket.socket, random: Random) -> None:
    take(talk)
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
    endless(talk, random.choice([b"ffffffffffffffff\r\n", b"zz\r\n", bytes(9)]) * 8192, begin=begin)


def server_drips(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.7:
        take(talk)
    drip(talk, OK_LINE + b"a: b\r\n" * 1000, random.choice([0.0, 0.02, 0.1]))


def server_closes(talk: socket.socket, random: Random) -> None:
    if random.random() < 0.7:
        take(talk)
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nhello"
    talk.sendall(answer[: random.randrange(len(answer))])


def server_is_silent(talk: socket.socket, random: Random) -> None:
    del random
    while talk.recv(65536):
        pass


def server_answers_any_status(talk: socket.socket, random: Random) -> None:
    take(talk)
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
