"""Peers with TLS that are real: a broker whose certificate may change, and what is said of it."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest
from publisher_peers import SAID_NAME, Broker, free_port, is_listening, wait_until


class TlsBroker:
    """A broker on a port with TLS, and on one without, for whoever looks at what it has."""

    def __init__(self, folder: Path, certificate: Path, *lines: str, port: int = 0) -> None:
        pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
        self.shown = Path(shutil.copy(certificate, folder / "broker.pem"))
        self.plain_port = free_port()
        self.broker = Broker(
            folder,
            f"certfile {self.shown}",
            f"keyfile {self.shown}",
            *lines,
            f"listener {self.plain_port} 127.0.0.1",
            *("allow_anonymous true", "user root"),
            port=port,
        )
        self.broker.start()
        wait_until(lambda: is_listening(self.plain_port))

    def show(self, certificate: Path) -> None:
        shutil.copy(certificate, self.shown)
        self.broker.reload()

    def arguments(self, folder: Path, *more: str) -> tuple[str, ...]:
        url = f"mqtts://127.0.0.1:{self.broker.port}/plant/line1"
        control = str(folder / "none.sock")
        return ("mqtt", url, "--folder", str(folder / "log"), "--control", control, *more)


def server_tls(certificate: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return tls


def said(folder: Path) -> list[str]:
    """What a publisher's process said: each complaint in one line, and no traceback."""
    lines = (folder / SAID_NAME).read_text().splitlines()
    assert not any("Traceback" in each or each.startswith(" ") for each in lines), lines
    return lines
