"""Rejects and events as signed POSTs to an HTTP server, by a process of its own.

The standard library alone. See runtime/README.md, "Outlets", for headers and signature.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from time import sleep, time

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.files import read_private, write_private
from ssn_edge_runtime.outlets.backlog import Message, Owed
from ssn_edge_runtime.outlets.peer import Peer, PeerError, parse_peer
from ssn_edge_runtime.outlets.process import OutletProcess, begin_beside
from ssn_edge_runtime.outlets.publisher import (
    is_event_for_peers,
    logger,
    publish,
    publisher_options,
)
from ssn_edge_runtime.outlets.words import tell
from ssn_edge_runtime.record import LineKind
from ssn_edge_runtime.sinks.tail import TailLine

SCHEMES = {"http": (80, False), "https": (443, True)}
LIKE = "https://HOST[:PORT]/PATH, or http:// to this machine or a private network"
PLACE_NAME = "webhook.place.json"
POST_S = 5.0
"""From the first packet to the answer's status."""
SHORTEST_KEY = 16
KEEPS = frozenset({401, 403, 404, 405, 408, 421, 425, 426, 429})
"""Refusals below 500 that are not of the message: it is given again."""


def parse_webhook(text: str) -> Peer:
    """Read a server's URL.

    Raises:
        ConfigError: It is none, or neither private nor encrypted.
    """
    return parse_peer(text, "--webhook", SCHEMES, LIKE)


def open_key(path: Path) -> bytes:
    """Read the key of the signatures, or make it on first use: 64 hexadecimal digits.

    Raises:
        ConfigError: Others may read it, or it is too short.
        StorageError: It cannot be written.
    """
    if not path.exists():
        write_private(path, secrets.token_hex(32).encode() + b"\n")
    key = read_private(path).strip()
    if len(key) < SHORTEST_KEY:
        raise ConfigError(f"{path}: a key of {SHORTEST_KEY} bytes or more is wanted")
    return key


def signature(key: bytes, at_s: int, body: bytes) -> str:
    """What ``X-SSN-Edge-Signature`` says: HMAC-SHA256 over time, a dot, and the body."""
    mac = hmac.new(key, f"{at_s}.".encode() + body, hashlib.sha256)
    return f"sha256={mac.hexdigest()}"


class WebhookTransport:
    """One server; a connection for each message, whose answer's body is not read.

    Args:
        peer: It.
        key: Of the signatures.
        authority: Certificates that an HTTPS server is checked against; None for the system's.
    """

    window = 1
    is_there_once_connected = False

    def __init__(self, peer: Peer, key: bytes, *, authority: Path | None = None) -> None:
        self._peer = peer
        self._key = key
        self._tls: ssl.SSLContext | None = None
        if peer.is_encrypted:
            try:
                self._tls = ssl.create_default_context(cafile=authority)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"--webhook-ca {authority}: cannot be read ({error})") from error
        self._settled: list[Owed] = []
        self.refused = 0
        """Messages that the server did not take and will not take."""

    def connect(self) -> None:
        """Nothing is held between messages."""

    def send(self, kind: str, payload: bytes, token: Owed) -> None:
        """Post one message, and wait for the answer's status.

        Raises:
            PeerError: The server is not there, or says that it should come again.
        """
        status = self._post(kind, payload, token)
        if 400 <= status < 500 and status not in KEEPS:
            self.refused += 1
            logger.warning(
                "%s: refuses a message with status %d; it is left out", self._peer, status
            )
        elif not 200 <= status < 300:
            what = "leads elsewhere, which is not followed" if 300 <= status < 400 else "answers"
            raise PeerError(f"{what} (status {status})")
        self._settled.append(token)

    def turn(self, timeout_s: float) -> Iterable[Owed]:
        """What was taken; waits if there was nothing."""
        settled, self._settled = self._settled, []
        if not settled:
            sleep(timeout_s)
        return settled

    def close(self, *, is_orderly: bool) -> None:
        """Forget what was taken and not yet told."""
        self._settled.clear()

    def _post(self, kind: str, payload: bytes, token: Owed) -> int:
        at_s = int(time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "ssn-edge",
            "Connection": "close",
            "X-SSN-Edge-Kind": kind,
            "X-SSN-Edge-Line": str(token.line if isinstance(token, Message) else token.last_line),
            "X-SSN-Edge-Timestamp": str(at_s),
            "X-SSN-Edge-Signature": signature(self._key, at_s, payload),
        }
        connection = self._connection()
        end = Timer(POST_S, _hang_up, [connection])
        end.daemon = True
        end.start()
        try:
            connection.request("POST", "/" + self._peer.path, body=payload, headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise PeerError(f"cannot be reached ({error or type(error).__name__})") from error
        finally:
            end.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        address, port = self._peer.address(), self._peer.port
        if self._tls is not None:
            return http.client.HTTPSConnection(address, port, timeout=POST_S, context=self._tls)
        return http.client.HTTPConnection(address, port, timeout=POST_S)


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """End a talk that drips: the timeout of a socket is for each of its bytes."""
    held = connection.sock
    if held is not None:
        with suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)


def is_wanted(line: TailLine) -> bool:
    """Rejects and events."""
    if line.kind == LineKind.VERDICT.value:
        return line.document.get("verdict") != Verdict.PASS.value
    return is_event_for_peers(line)


def webhook_outlet(
    url: str,
    folder: Path,
    *,
    key: Path | None,
    authority: Path | None,
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The process that posts a line's rejects and events, not yet open.

    Args:
        url: See `parse_webhook`.
        folder: Of the journal.
        key: Of the signatures; made if it is not there.
        authority: Certificates of the server's authority.
        on_message: Told when it is up, and when it is gone for good.

    Raises:
        ConfigError: An address that is none, or no key.
    """
    peer = parse_webhook(url)
    if key is None:
        raise ConfigError(
            "--webhook signs what it posts, so that the receiver knows whose it is; name a file "
            "for the key, it is made if it is not there: --webhook-key FILE"
        )
    open_key(key)
    arguments = [url, "--folder", str(folder), "--key", str(key)]
    arguments += [] if authority is None else ["--ca", str(authority)]
    return OutletProcess(
        url,
        "ssn_edge_runtime.outlets.webhook",
        arguments,
        what="told of rejects and events",
        outlet="webhook",
        peer=peer.without_path(),  # which may hold what nobody else should know
        on_message=on_message,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Post until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.outlets.webhook",
        description="Post a line's rejects and events to an HTTP server.",
    )
    parser.add_argument("url", help=LIKE)
    publisher_options(parser, "server")
    parser.add_argument("--key", type=Path, required=True, help="key of the signatures")
    options = parser.parse_args(arguments)
    stop = begin_beside()
    try:
        peer = parse_webhook(options.url)
        transport = WebhookTransport(peer, open_key(options.key), authority=options.ca)
        publish(peer, transport, options, stop, place_name=PLACE_NAME, is_wanted=is_wanted)
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
