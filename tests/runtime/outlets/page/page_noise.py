"""What somebody may send to the page's port who wishes it ill: bytes for one connection each."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

FREE_ORIGINS = ("null", "http://elsewhere.example", "https://127.0.0.1", "http://[", "", "\xff")
FREE_HOSTS = ("elsewhere.example", "", "127.0.0.1", "127.0.0.1:99999999", "a@127.0.0.1", "[::1")
CHUNKS = (b"0\r\n\r\n", b"-1\r\nx\r\n", b"f" * 16 + b"\r\n", b"5\r\nab", b"zz\r\n", b"1;" * 3000)


def raw(chance: random.Random, port: int) -> bytes:
    """Random bytes, or a request with something wrong in it."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(1, 3000))
    method = chance.choice(["GET", "POST", "HEAD", "BREW", "", "GET " * 40])
    path = chance.choice(["/", "/api/snapshot", "/api/login", "/api/what-if?threshold=1e999",
                          "/api/what-if?threshold=1&threshold=2", "/" + "a" * 70000,
                          "/api/scores", "/metrics", "/readyz", "/api/live/overlay",
                          "http://[", "/api/rejects/99999999999999999999/small"])  # fmt: skip
    version = chance.choice(["HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/9", ""])
    heads = [f"Host: 127.0.0.1:{port}"] * chance.choice([1, 1, 1, 0, 2])
    heads += chance.sample(
        ["Content-Length: 9", "Content-Length: -1", "Content-Length: 99999999999999999999",
         "Transfer-Encoding: chunked", "Cookie: a=\x00\xff;;=;", "Content-Type: application/json",
         f"Origin: http://127.0.0.1:{port}", "Expect: 100-continue", "If-None-Match: \x7f",
         "X: " + "y" * 9000, "Authorization: Bearer \xe9", ": empty", "no colon"],
        chance.randrange(6),
    )  # fmt: skip
    body = chance.choice([b"", b'{"token":"', b'{"token":1}', b"[" * 4000, chance.randbytes(50)])
    head = "\r\n".join([f"{method} {path} {version}", *heads, "", ""])
    return head.encode("latin-1") + body


def huge_head(chance: random.Random, port: int) -> bytes:
    """More, or longer, headers than anybody needs."""
    one = chance.choice([f"X-{chance.random()}: {'y' * 60000}", "Cookie: " + "a=b; " * 12000,
                         "Authorization: Bearer " + "z" * 60000, "X: 1\r\n " + "folded " * 8000,
                         "Accept: " + "*" * 70000])  # fmt: skip
    heads = [f"Host: 127.0.0.1:{port}", *[one] * chance.choice([1, 3, 20])]
    heads += [f"X-{number}: {number}" for number in range(chance.choice([0, 90, 300]))]
    return "\r\n".join(["GET /api/session HTTP/1.1", *heads, "", ""]).encode("latin-1")


def chunked(chance: random.Random, port: int) -> bytes:
    """A body in chunks, which nobody here takes, and not one that is sound."""
    heads = [
        f"Host: 127.0.0.1:{port}",
        f"Origin: http://127.0.0.1:{port}",
        "Content-Type: application/json",
        "Transfer-Encoding: " + chance.choice(["chunked", "gzip, chunked", "x", "chunked\t"]),
    ]
    heads += chance.choice([[], ["Content-Length: 4"], ["Content-Length: 4", "Content-Length: 5"]])
    head = "\r\n".join(["POST /api/login HTTP/1.1", *heads, "", ""]).encode("latin-1")
    return head + b"".join(chance.choices(CHUNKS, k=chance.randrange(1, 6)))


def many_at_once(chance: random.Random, port: int) -> bytes:
    """Sound requests, one behind the other, which nobody waits for."""
    path = chance.choice(["/api/snapshot", "/page.js", "/metrics", "/api/live/overlay", "/"])
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    return request * chance.choice([9, 90])


def half(chance: random.Random, port: int) -> bytes:
    """The beginning of a request, of which nothing more comes, or only now and then a byte."""
    whole = b"POST /api/login HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\n" % (
        port, port,
    ) + b'Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"token": "'  # fmt: skip
    return whole[: chance.randrange(1, len(whole))]


def elsewhere(chance: random.Random, port: int, session: Mapping[str, str]) -> bytes:
    """What an engineer's browser sends for another site or to another name; else it is sound."""
    heads = {"Host": f"127.0.0.1:{port}", **session}
    if chance.random() < 0.5:
        heads["Host"] = chance.choice(FREE_HOSTS)
    else:
        heads["Origin"] = chance.choice(FREE_ORIGINS)
    return _posted(chance.choice(["/api/recipe", "/api/logout"]), {"recipe": "brass"}, heads)


def mutated(
    chance: random.Random, port: int, session: Mapping[str, str], settings_id: str
) -> bytes:
    """An engineer's change, with something in its JSON that cannot be."""
    path, document = chance.choice(
        [
            ("/api/threshold", {"threshold": 1.0, "settings_id": settings_id}),
            ("/api/recipe", {"recipe": "brass"}),
            ("/api/acknowledge", {"line": 3}),
            ("/api/login", {"token": "guessed"}),
        ]
    )
    names = list(document)
    broken: dict[str, object] = dict(document)
    for name in chance.sample(names, chance.randrange(1, len(names) + 1)):
        broken[name] = chance.choice(
            ["", "\x00", "\ud800", "x" * 3000, [1], {"a": {}}, True, -1, 1e308, 10**40, 0.5,
             "nan", "Infinity", "brass\ntrigger 1", "%s%n", "../../x", "' or 1=1 --"]
        )  # fmt: skip
    if path == "/api/threshold":  # any number is a threshold: what it was chosen for is wrong
        broken["settings_id"] = chance.choice([settings_id[:-1], settings_id + "0", "", None, 1])
    if chance.random() < 0.2:
        broken = {**broken, "more" * chance.randrange(1, 200): [[[]]] * 50}
    heads = {"Host": f"127.0.0.1:{port}", **session}
    return _posted(path, broken, heads, cut=chance.choice([0, 0, 0, 1, 7]))


def _posted(path: str, document: object, heads: Mapping[str, str], *, cut: int = 0) -> bytes:
    body = json.dumps(document).encode()
    body = body[: len(body) - cut]
    lines = [f"POST {path} HTTP/1.1", "Content-Type: application/json",
             f"Content-Length: {len(body)}",
             *(f"{name}: {value}" for name, value in heads.items()), "", ""]  # fmt: skip
    return "\r\n".join(lines).encode("latin-1", "replace") + body
