"""Peers that are real, and may be killed: a broker with a subscriber, an HTTP server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep
from typing import Any

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def wait_until(is_so: Callable[[], object], within_s: float = 60.0) -> None:
    until_s = monotonic() + within_s
    while not is_so():
        assert monotonic() < until_s, "it never came to be"
        sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Broker:
    """mosquitto on a port of loopback; what it keeps is gone when it is killed."""

    def __init__(self, folder: Path, *lines: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._config = folder / "mosquitto.conf"
        settings = lines or ("allow_anonymous true",)
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *settings]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        wait_until(lambda: is_listening(self.port))

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def reload(self) -> None:
        """Read the certificates anew; connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def freeze(self, *, is_frozen: bool) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if is_frozen else signal.SIGCONT)


class Listener:
    """Subscribes to all of a broker's topics, whenever it is there."""

    def __init__(self, port: int, *, login: tuple[str, str] | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard: list[tuple[str, bytes, bool]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if login is not None:
            self._client.username_pw_set(*login)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda client, data, message: self.heard.append(
            (message.topic, message.payload, message.retain)
        )
        self._ready = threading.Event()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def on(self, topic: str) -> list[Any]:
        """What was said there, parsed."""
        return [json.loads(payload) for name, payload, _ in list(self.heard) if name == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Receiver:
    """An HTTP server that keeps what is posted; answers as it is told.

    Args:
        port: Of it; any if 0.
        tls: Makes it an HTTPS server; other certificates may be loaded at any time.
    """

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status: Callable[[bytes], int] = lambda body: 204
        self.leads_to = ""
        """Where it leads to, with a status of 3xx; itself if empty."""
        self.connected_s: list[float] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.status(body)
                if status < 300:
                    receiver.posts.append((dict(self.headers.items()), body))
                self.send_response(status)
                if 300 <= status < 400:
                    here = f"http://127.0.0.1:{receiver.port}/elsewhere"
                    self.send_header("Location", receiver.leads_to or here)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def get_request(self) -> tuple[socket.socket, object]:
                found = super().get_request()
                receiver.connected_s.append(monotonic())
                return found

            def handle_error(self, *_: object) -> None:
                pass  # whoever refuses a certificate leaves in the middle of the handshake

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


SAID_NAME = "said.txt"


@contextmanager
def publisher(
    module: str, *arguments: str, folder: Path | None = None, is_quick: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A publisher's process by itself; ended in order.

    Args:
        module: Which.
        arguments: Its own.
        folder: Where what it says goes, `SAID_NAME`; to the test's own if None.
        is_quick: Whether it waits less than it does: `quick_publisher`.
    """
    program = ["-m", f"ssn_edge_runtime.outlets.{module}"]
    if is_quick:
        program = [str(Path(__file__).with_name("quick_publisher.py")), module]
    with ExitStack() as opened:
        said = None if folder is None else opened.enter_context((folder / SAID_NAME).open("wb"))
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert "listens" in json.loads(process.stdout.readline())
            yield process
            process.stdin.close()
            assert process.wait(20) in (0, -signal.SIGKILL)
        finally:
            process.kill()
            process.stdin.close()
            process.stdout.close()
            process.wait()
