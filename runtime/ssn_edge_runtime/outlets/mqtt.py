"""A line's messages to an MQTT broker, by a process of its own. For information, never for signals.

Needs ``paho-mqtt`` (the extra ``mqtt``). See runtime/README.md, "Outlets", for topics and schema.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.files import read_private
from ssn_edge_runtime.outlets.backlog import Owed
from ssn_edge_runtime.outlets.current import CurrentValues
from ssn_edge_runtime.outlets.peer import Peer, PeerError, client_tls, parse_peer, why_lost
from ssn_edge_runtime.outlets.process import OutletProcess, begin_beside
from ssn_edge_runtime.outlets.publisher import is_event_for_peers, publish, publisher_options
from ssn_edge_runtime.outlets.words import tell
from ssn_edge_runtime.record import LineKind
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.sinks.tail import TailLine

if TYPE_CHECKING:
    from paho.mqtt.enums import MQTTErrorCode

    from ssn_edge_runtime.outlets.mqtt_client import PublishingClient

SCHEMES = {"mqtt": (1883, False), "mqtts": (8883, True)}
LIKE = "mqtt://HOST[:PORT]/PREFIX or mqtts://HOST[:PORT]/PREFIX"
OPTION = "--mqtt"
PLACE_NAME = "mqtt.place.json"
USER_VARIABLE = "SSN_EDGE_MQTT_USER"
PASSWORD_VARIABLE = "SSN_EDGE_MQTT_PASSWORD"
CONNECT_S = 5.0
KEEPALIVE_S = 15
ACKNOWLEDGE_S = 30.0
"""A broker that has a message for longer, and does not say so, is left and tried again."""
WINDOW = 16
QOS = 1


def parse_mqtt(text: str) -> Peer:
    """Read a broker's URL; its path is the prefix of all topics.

    Raises:
        ConfigError: It is none, or has no prefix.
    """
    peer = parse_peer(text, OPTION, SCHEMES, LIKE)
    prefix = peer.path.rstrip("/")
    if not prefix or any(each in prefix for each in "+#?$\0") or "//" in prefix:
        raise ConfigError(
            f"--mqtt {text}: a prefix for the topics is wanted, without + # ? $, such as "
            "mqtt://broker/plant/line1"
        )
    return peer


def read_login(path: Path | None) -> tuple[str, str] | None:
    """User and password: of a file (``user:password``, mode 0600), or of the environment.

    Raises:
        ConfigError: The file is none, or others may read it.
    """
    if path is None:
        user = os.environ.get(USER_VARIABLE)
        return None if user is None else (user, os.environ.get(PASSWORD_VARIABLE, ""))
    try:
        text = read_private(path).decode().strip()
    except UnicodeDecodeError:
        text = ""
    user, colon, password = text.partition(":")
    if not user or not colon or "\n" in text:
        raise ConfigError(f"{path}: one line of user:password is wanted")
    return user, password


class MqttTransport:
    """One broker, by MQTT 3.1.1.

    Args:
        peer: Broker and prefix.
        values: What is retained: state, counters, head.
        login: User and password.
        tls: How it is spoken to over TLS, see `client_tls`; None without.
        client_id: The same after each loss, so that the broker ends the lost connection first and
            its last will does not come after the new connection's `online`.
    """

    window = WINDOW
    is_there_once_connected = True
    refused = 0

    def __init__(
        self,
        peer: Peer,
        values: CurrentValues,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        client_id: str,
    ) -> None:
        self._peer = peer
        self._values = values
        self._login = login
        self._client_id = client_id
        self._tls = tls
        self._client: PublishingClient | None = None
        self._on_way: dict[int, Owed] = {}
        self._sent_s: dict[int, float] = {}
        self._settled: list[Owed] = []
        self._answer: str | None = None

    def connect(self) -> None:
        """Connect, and wait for the broker's word.

        Raises:
            PeerError: It is not there, or refuses.
        """
        from paho.mqtt.client import MQTTv311
        from paho.mqtt.enums import CallbackAPIVersion

        from ssn_edge_runtime.outlets.mqtt_client import PublishingClient

        client = PublishingClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=MQTTv311,
            reconnect_on_failure=False,  # a refusal is ours to answer, at our pace
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(2 * WINDOW)
        client.will_set(self._topic("online"), b"false", qos=QOS, retain=True)
        if self._login is not None:
            client.username_pw_set(*self._login)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        self._answer = None
        client.on_connect = lambda client, data, flags, code, properties: self._connected(
            "" if not code.is_failure else str(code)
        )
        client.on_publish = lambda client, data, mid, code, properties: self._published(mid)
        self._client = client
        try:
            client.connect(self._peer.address(), self._peer.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise PeerError(why_lost(error, OPTION)) from error
        until_s = monotonic() + CONNECT_S
        while self._answer is None:
            self._loop(0.1)
            if monotonic() > until_s:
                raise PeerError("does not answer")
        if self._answer:
            raise PeerError(self._refusal())
        self._values.forget()
        self._retain("online", b"true")

    def send(self, kind: str, payload: bytes, token: Owed) -> None:
        """Publish one message, not retained: it is of its moment."""
        self._on_way[self._publish(kind, payload, is_retained=False)] = token

    def turn(self, timeout_s: float) -> Iterable[Owed]:
        """Publish what changed, wait for acknowledgements; what was acknowledged."""
        for topic, payload in self._values.changed():
            self._retain(topic, payload)
        self._loop(0.0 if self._settled else timeout_s)
        oldest_s = next(iter(self._sent_s.values()), None)
        if not self._settled and oldest_s is not None and monotonic() - oldest_s > ACKNOWLEDGE_S:
            # It answers pings, so its connection would stay for good, and what changes pile up.
            raise PeerError(f"has not acknowledged a message for {ACKNOWLEDGE_S:g} s")
        settled, self._settled = self._settled, []
        return settled

    def close(self, *, is_orderly: bool) -> None:
        """Say that nobody publishes any more, where the broker still listens."""
        client, self._client = self._client, None
        self._on_way.clear()
        self._sent_s.clear()
        self._settled.clear()
        if client is None:
            return
        if is_orderly and client.is_connected():
            # The line has ended by now, and has published its last head.
            self._values.look_at_once()
            for topic, payload in self._values.changed():
                client.publish(self._topic(topic), payload, qos=QOS, retain=True)
            sent = client.publish(self._topic("online"), b"false", qos=QOS, retain=True)
            until_s = monotonic() + 0.5
            while sent.rc == 0 and not sent.is_published() and monotonic() < until_s:
                if client.loop(0.05) != 0:
                    break
            client.disconnect()
            return
        # Without the word of farewell, so that the broker publishes the last will.
        client._reset_sockets()

    def _retain(self, topic: str, payload: bytes) -> None:
        self._publish(topic, payload, is_retained=True)

    def _publish(self, topic: str, payload: bytes, *, is_retained: bool) -> int:
        # Acknowledgements are read in `_loop` alone, so that none comes before this is noted.
        assert self._client is not None
        sent = self._client.publish(self._topic(topic), payload, qos=QOS, retain=is_retained)
        if sent.rc != 0:
            raise self._lost(sent.rc)
        self._sent_s[sent.mid] = monotonic()
        mid: int = sent.mid
        return mid

    def _loop(self, timeout_s: float) -> None:
        assert self._client is not None
        try:
            code = self._client.loop(timeout_s)
        except (OSError, ValueError) as error:
            raise PeerError(f"is lost ({error})") from error
        if code != 0:
            raise self._lost(code)

    def _lost(self, code: MQTTErrorCode) -> PeerError:
        from paho.mqtt.client import error_string

        assert self._client is not None
        if self._answer:
            return PeerError(self._refusal())
        trouble = self._client.trouble
        if isinstance(trouble, ssl.SSLError):
            return PeerError(why_lost(trouble, OPTION))
        return PeerError(f"is lost ({trouble or error_string(code).rstrip('.')})")

    def _refusal(self) -> str:
        return f"the broker refuses: {self._answer}"

    def _connected(self, refusal: str) -> None:
        self._answer = refusal

    def _published(self, mid: int) -> None:
        self._sent_s.pop(mid, None)
        token = self._on_way.pop(mid, None)
        if token is not None:
            self._settled.append(token)

    def _topic(self, name: str) -> str:
        return f"{self._peer.path.rstrip('/')}/{name}"


def is_wanted(line: TailLine) -> bool:
    """Verdicts and events; a trigger's part is told by its verdict."""
    return line.kind == LineKind.VERDICT.value or is_event_for_peers(line)


def mqtt_outlet(
    url: str,
    folder: Path,
    control: Path,
    *,
    login: Path | None,
    authority: Path | None,
    certificate: Path | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The process that publishes a line's messages, not yet open.

    Args:
        url: See `parse_mqtt`.
        folder: Of the journal.
        control: The line's control socket.
        login: File of user and password.
        authority: Certificates of the broker's authority; None for the system's.
        certificate: What the line shows of itself, with its private key.
        on_message: Told when it is up, and when it is gone for good.

    Raises:
        ConfigError: An address that is none, or ``paho-mqtt`` is not installed.
    """
    peer = parse_mqtt(url)
    _require_paho()
    client_tls(peer, OPTION, authority=authority, certificate=certificate)
    if login is not None:
        read_login(login)
    arguments = [url, "--folder", str(folder), "--control", str(control)]
    arguments += [] if login is None else ["--login", str(login)]
    arguments += [] if authority is None else ["--ca", str(authority)]
    arguments += [] if certificate is None else ["--cert", str(certificate)]
    return OutletProcess(
        url,
        "ssn_edge_runtime.outlets.mqtt",
        arguments,
        what="told what the line decides",
        outlet="mqtt",
        on_message=on_message,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.outlets.mqtt",
        description="Publish what a line decides to an MQTT broker.",
    )
    parser.add_argument("url", help=LIKE)
    publisher_options(parser, "broker")
    parser.add_argument("--control", type=Path, required=True, help="the line's control socket")
    parser.add_argument("--login", type=Path, help="file of user:password")
    options = parser.parse_args(arguments)
    stop = begin_beside()
    try:
        peer = parse_mqtt(options.url)
        _require_paho()
        # Asked seldom, and once more at the end: an answer from before would outlive the line.
        line = LineClient(options.control, deadline_ms=1000.0, state_age_s=0.0)
        transport = MqttTransport(
            peer,
            CurrentValues(line, options.folder),
            login=read_login(options.login),
            tls=client_tls(peer, OPTION, authority=options.ca, certificate=options.cert),
            client_id=_client_id(peer, options.folder),
        )
        publish(peer, transport, options, stop, place_name=PLACE_NAME, is_wanted=is_wanted)
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


def _client_id(peer: Peer, folder: Path) -> str:
    """The same for the same line; 23 characters at most, which every broker takes."""
    whose = f"{socket.gethostname()} {folder.absolute()} {peer}"
    return "ssn-" + hashlib.sha256(whose.encode()).hexdigest()[:18]


def _require_paho() -> None:
    try:
        import paho.mqtt.client  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "--mqtt needs the package paho-mqtt; install it: pip install 'ssn-edge[mqtt]'"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
