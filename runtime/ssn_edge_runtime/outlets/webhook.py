"""Rejects and events as signed POSTs to an HTTP server, by a process of its own.

The standard library alone. See runtime/README.md, "Outlets", for headers and signature.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import re
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic, sleep, time

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.files import read_private, write_private
from ssn_edge_runtime.outlets.backlog import Message, Owed
from ssn_edge_runtime.outlets.peer import Peer, PeerError, client_tls, parse_peer, why_lost
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
OPTION = "--webhook"
PLACE_NAME = "webhook.place.json"
POST_S = 5.0
"""For connecting, for the handshake of TLS, for sending and for the answer, each as a whole."""
LONGEST_HEAD = 65_536
"""Bytes of an answer up to its empty line."""
SHORTEST_KEY = 16
KEEPS = frozenset({401, 403, 404, 405, 408, 421, 425, 426, 429})
"""Refusals below 500 that are not of the message: it is given again."""


def parse_webhook(text: str) -> Peer:
    """Read a server's URL.

    Raises:
        ConfigError: It is none, or neither private nor encrypted.
    """
    peer = parse_peer(text, OPTION, SCHEMES, LIKE)
    if not peer.path.isascii():
        raise ConfigError(f"--webhook {text}: a path in ASCII is wanted; write the rest as %XX")
    return peer


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
        tls: How it is spoken to over TLS, see `client_tls`; None without.
    """

    window = 1
    is_there_once_connected = False

    def __init__(self, peer: Peer, key: bytes, *, tls: ssl.SSLContext | None = None) -> None:
        self._peer = peer
        self._key = key
        self._tls = tls
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
            # By its name also where the address that was checked is connected to.
            "Host": self._peer.host_and_port,
            "Content-Type": "application/json",
            "User-Agent": "ssn-edge",
            "Connection": "close",
            "X-SSN-Edge-Kind": kind,
            "X-SSN-Edge-Line": str(token.line if isinstance(token, Message) else token.last_line),
            "X-SSN-Edge-Timestamp": str(at_s),
            "X-SSN-Edge-Signature": signature(self._key, at_s, payload),
        }
        connection = self._connection()
        try:
            connection.request("POST", "/" + self._peer.path, body=payload, headers=headers)
            return read_status(connection.sock, monotonic() + POST_S)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise PeerError(why_lost(error, OPTION)) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        address, port = self._peer.address(), self._peer.port
        if self._tls is not None:
            return http.client.HTTPSConnection(address, port, timeout=POST_S, context=self._tls)
        return http.client.HTTPConnection(address, port, timeout=POST_S)


def read_status(talk: socket.socket, until_s: float) -> int:
    """The status of an HTTP answer, once its head is whole; interim ones (1xx) are skipped.

    Not by the standard library's client: there a server may drip, each byte in time, and send
    6 MiB of headers.

    Args:
        talk: The connection, on which a request was sent.
        until_s: On the clock `monotonic`; nothing is waited for beyond.

    Raises:
        PeerError: It is no such answer, or one without an end.
        OSError: The connection is lost, or nothing more came in time.
    """
    said = bytearray()
    while True:
        looked_at = max(0, len(said) - 2)
        left_s = until_s - monotonic()
        if left_s <= 0:
            raise TimeoutError
        talk.settimeout(left_s)
        piece = talk.recv(4096)
        said += piece
        while (end := _HEAD_END.search(said, looked_at)) is not None:
            line = _STATUS_LINE.match(said)
            if line is None:
                raise PeerError("answers, and not as HTTP does")
            status = int(line[1])
            if status >= 200:
                return status
            del said[: end.end()]
            looked_at = 0
        if not piece:
            raise PeerError("hangs up without an answer")
        if len(said) > LONGEST_HEAD:
            raise PeerError(f"answers with a head of more than {LONGEST_HEAD} bytes")


_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])(?: [^\n]*)?\r?\n")


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
    certificate: Path | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The process that posts a line's rejects and events, not yet open.

    Args:
        url: See `parse_webhook`.
        folder: Of the journal.
        key: Of the signatures; made if it is not there.
        authority: Certificates of the server's authority; None for the system's.
        certificate: What the line shows of itself, with its private key.
        on_message: Told when it is up, and when it is gone for good.

    Raises:
        ConfigError: An address that is none, or no key.
    """
    peer = parse_webhook(url)
    client_tls(peer, OPTION, authority=authority, certificate=certificate)
    if key is None:
        raise ConfigError(
            "--webhook signs what it posts, so that the receiver knows whose it is; name a file "
            "for the key, it is made if it is not there: --webhook-key FILE"
        )
    open_key(key)
    arguments = [url, "--folder", str(folder), "--key", str(key)]
    arguments += [] if authority is None else ["--ca", str(authority)]
    arguments += [] if certificate is None else ["--cert", str(certificate)]
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
        tls = client_tls(peer, OPTION, authority=options.ca, certificate=options.cert)
        transport = WebhookTransport(peer, open_key(options.key), tls=tls)
        publish(peer, transport, options, stop, place_name=PLACE_NAME, is_wanted=is_wanted)
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
