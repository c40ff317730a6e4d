"""Clients of the local server: a polite one, and a socket for those that are not."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.server import ListenAddress

RAW = {"Content-Type": "application/octet-stream"}
TIMEOUT_S = 20.0


class Client(http.client.HTTPConnection):
    """The standard library's client, over a Unix socket as well."""

    def __init__(self, address: ListenAddress) -> None:
        super().__init__(address.host or "localhost", address.port or 80, timeout=TIMEOUT_S)
        self.address = address

    def connect(self) -> None:
        self.sock = connect(self.address)


def connect(address: ListenAddress) -> socket.socket:
    if address.path is None:
        connection = socket.create_connection((address.host, address.port), TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TIMEOUT_S)
    try:
        connection.connect(str(address.path))
    except OSError:
        connection.close()
        raise
    return connection


@dataclass
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def verdict(self) -> tuple[int, str, str]:
        """Status, verdict and reason; the code must say the same."""
        codes = {"pass": 0x5AA5, "fail": 0xA55A, "unknown": 0x3CC3}
        assert self.body["verdict_code"] == codes[self.body["verdict"]]
        return self.status, self.body["verdict"], self.body["reason"]


def ask(
    where: ListenAddress | Client,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request; over a connection of its own where an address is given."""
    client = Client(where) if isinstance(where, ListenAddress) else where
    try:
        client.request(method, path, body, dict(headers or {}))
        response = client.getresponse()
        data = response.read()
        assert response.headers["Content-Type"] == "application/json"
        return Reply(response.status, json.loads(data) if data else None, dict(response.headers))
    finally:
        if client is not where:
            client.close()


def raw_path(frame: ByteImage, **query: object) -> str:
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    values = {"height": frame.shape[0], "width": frame.shape[1], "channels": channels, **query}
    return "/v1/inspect?" + "&".join(f"{name}={value}" for name, value in values.items())


def inspect(where: ListenAddress | Client, frame: ByteImage, **query: object) -> Reply:
    """Send a raw frame."""
    return ask(where, "POST", raw_path(frame, **query), frame.tobytes(), RAW)


def comes_back(address: ListenAddress) -> bool:
    """Whether the server takes a new client again, within some seconds."""
    for _ in range(200):
        try:
            if ask(address, "GET", "/healthz").status == 200:
                return True
        except OSError:  # refused before the request was sent
            pass
        time.sleep(0.02)
    return False
