"""Broker and webhook over TLS: whose certificate is not right gets nothing, and later all of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import signal
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from certificates import WRONG, Authority, wrong_certificate
from publisher_peers import (
    MOSQUITTO,
    Listener,
    Receiver,
    publisher,
    wait_until,
)
from real_line import line_with, pull
from test_ends import verdicts
from test_publishers import posted, sequences, write
from tls_peers import TlsBroker, said, server_tls

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.mqtt import mqtt_outlet
from ssn_edge_runtime.outlets.peer import client_tls, parse_peer
from ssn_edge_runtime.outlets.webhook import parse_webhook, webhook_outlet
from ssn_edge_runtime.sinks import Journal

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "log") as journal:
        yield journal


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def webhook_arguments(receiver: Receiver, folder: Path, *more: str) -> tuple[str, ...]:
    url = f"https://127.0.0.1:{receiver.port}/hook"
    return ("webhook", url, "--folder", str(folder / "log"), "--key", str(folder / "key"), *more)


@needs_broker
@pytest.mark.parametrize("kind", WRONG)
def test_a_broker_whose_certificate_is_wrong_gets_nothing_until_it_is_right(
    tmp_path: Path, journal: Journal, authority: Authority, kind: str
) -> None:
    wrong = wrong_certificate(kind, authority, Authority(tmp_path, "other"))
    peer = TlsBroker(tmp_path, wrong)
    listener = Listener(peer.plain_port)
    arguments = peer.arguments(tmp_path, "--ca", str(authority.path))
    try:
        with publisher(*arguments, folder=tmp_path) as process:
            wrote = write(journal, 30)
            wait_until(lambda: said(tmp_path))
            wrote += write(journal, 30)
            (line,) = said(tmp_path)
            assert line.startswith(f"mqtts://127.0.0.1:{peer.broker.port}/plant/line1: ")
            for part in WRONG[kind]:
                assert part in line
            assert listener.heard == []
            assert process.poll() is None
            peer.show(authority.issue("right", "127.0.0.1"))
            wait_until(lambda: sequences(listener) == wrote)
            wait_until(lambda: said(tmp_path)[-1].endswith(": is back"))
            assert len(said(tmp_path)) == 2  # each attempt went wrong in the same way
    finally:
        listener.close()
        peer.broker.kill()
    assert listener.on("plant/line1/event") == []  # nothing was dropped


@needs_broker
def test_a_broker_that_asks_who_the_line_is_takes_its_certificate_and_its_name(
    tmp_path: Path, journal: Journal, authority: Authority
) -> None:
    asks = ("require_certificate true", f"cafile {authority.path}", "use_identity_as_username true")
    peer = TlsBroker(tmp_path, authority.issue("right", "127.0.0.1"), *asks)
    listener = Listener(peer.plain_port)
    arguments = peer.arguments(tmp_path, "--ca", str(authority.path))
    try:
        with publisher(*arguments, folder=tmp_path):
            wrote = write(journal, 3)
            wait_until(lambda: said(tmp_path))
            assert "TLS" in said(tmp_path)[0] or "is lost" in said(tmp_path)[0]
        assert listener.heard == []
        mine = authority.issue("line1")
        with publisher(*arguments, "--cert", str(mine), folder=tmp_path) as process:
            wait_until(lambda: sequences(listener) == wrote)
            assert b"PRIVATE" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        listener.close()
        peer.broker.kill()


@needs_broker
def test_a_password_that_is_wrong_is_told_and_never_shown(
    tmp_path: Path, journal: Journal, authority: Authority
) -> None:
    peer = TlsBroker(tmp_path, authority.issue("right", "127.0.0.1"))
    peer.broker.kill()
    config = tmp_path / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    peer.broker.start()
    (tmp_path / "login").write_text("line1:correct horse\n")
    (tmp_path / "login").chmod(0o600)
    more = ("--ca", str(authority.path), "--login", str(tmp_path / "login"))
    try:
        with publisher(*peer.arguments(tmp_path, *more), folder=tmp_path) as process:
            wait_until(lambda: said(tmp_path))
            assert b"horse" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        peer.broker.kill()
    (line,) = said(tmp_path)
    assert "the broker refuses: Not authorized" in line
    assert "horse" not in line


@pytest.mark.parametrize("kind", WRONG)
def test_a_server_whose_certificate_is_wrong_gets_nothing_until_it_is_right(
    tmp_path: Path, journal: Journal, authority: Authority, kind: str
) -> None:
    wrong = wrong_certificate(kind, authority, Authority(tmp_path, "other"))
    tls = server_tls(wrong)
    receiver = Receiver(tls=tls)
    arguments = webhook_arguments(receiver, tmp_path, "--ca", str(authority.path))
    try:
        with publisher(*arguments, folder=tmp_path):
            wrote = write(journal, 5)
            wait_until(lambda: len(receiver.connected_s) == 3)
            wrote += write(journal, 5)
            assert receiver.posts == []
            (line,) = said(tmp_path)
            assert line.startswith(f"https://127.0.0.1:{receiver.port}/hook: ")
            for part in WRONG[kind]:
                assert part in line
            first_s, _, third_s = receiver.connected_s[:3]
            assert third_s - first_s > 1.0  # pauses of 0.5 to 1 s, and of 1 to 2 s
            tls.load_cert_chain(authority.issue("right", "127.0.0.1"))
            wait_until(lambda: posted(receiver) == wrote)
            assert said(tmp_path)[1:] == [f"https://127.0.0.1:{receiver.port}/hook: is back"]
    finally:
        receiver.close()
    key = (tmp_path / "key").read_bytes().strip()
    for headers, body in receiver.posts:
        signed = headers["X-SSN-Edge-Timestamp"].encode() + b"." + body
        wanted = "sha256=" + hmac.new(key, signed, hashlib.sha256).hexdigest()
        assert headers["X-SSN-Edge-Signature"] == wanted


def test_a_server_that_asks_who_the_line_is_takes_its_certificate(
    tmp_path: Path, journal: Journal, authority: Authority
) -> None:
    tls = server_tls(authority.issue("right", "127.0.0.1"))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(authority.path)
    receiver = Receiver(tls=tls)
    arguments = webhook_arguments(receiver, tmp_path, "--ca", str(authority.path))
    try:
        with publisher(*arguments, folder=tmp_path):
            wrote = write(journal, 3)
            wait_until(lambda: said(tmp_path))
        assert receiver.posts == []
        mine = authority.issue("line1")
        with publisher(*arguments, "--cert", str(mine)):
            wait_until(lambda: posted(receiver) == wrote)
    finally:
        receiver.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_that_is_signed_for_one_server_goes_to_another(
    tmp_path: Path, journal: Journal, authority: Authority, status: int
) -> None:
    receiver = Receiver(tls=server_tls(authority.issue("right", "127.0.0.1")))
    elsewhere = Receiver()
    receiver.status = lambda body: status
    receiver.leads_to = f"http://127.0.0.1:{elsewhere.port}/hook"
    arguments = webhook_arguments(receiver, tmp_path, "--ca", str(authority.path))
    try:
        with publisher(*arguments, folder=tmp_path):
            wrote = write(journal, 2)
            wait_until(lambda: said(tmp_path))
            (line,) = said(tmp_path)
            assert f"leads elsewhere, which is not followed (status {status})" in line
            receiver.status = lambda body: 204
            wait_until(lambda: posted(receiver) == wrote)
        assert elsewhere.connected_s == []
    finally:
        receiver.close()
        elsewhere.close()


def test_what_came_before_tls_1_2_is_not_spoken(
    tmp_path: Path, journal: Journal, authority: Authority
) -> None:
    tls = server_tls(authority.issue("right", "127.0.0.1"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    receiver = Receiver(tls=tls)
    arguments = webhook_arguments(receiver, tmp_path, "--ca", str(authority.path))
    try:
        with publisher(*arguments, folder=tmp_path):
            write(journal, 1)
            wait_until(lambda: said(tmp_path))
    finally:
        receiver.close()
    assert receiver.posts == []
    assert "TLS fails" in said(tmp_path)[0]
    mine = client_tls(parse_webhook("https://127.0.0.1/"), "--webhook", authority=authority.path)
    assert mine is not None
    assert mine.minimum_version == ssl.TLSVersion.TLSv1_2  # whatever the system's own allows
    assert mine.verify_mode is ssl.CERT_REQUIRED
    assert mine.check_hostname


def test_files_that_are_none_and_files_without_tls_are_refused_at_the_start(
    tmp_path: Path, authority: Authority
) -> None:
    whole = authority.issue("line1")
    lone = tmp_path / "lone.pem"
    lone.touch(0o600)
    lone.write_bytes(authority.path.read_bytes())
    shown = Path(shutil.copy(whole, tmp_path / "shown.pem"))
    shown.chmod(0o644)
    noise = tmp_path / "noise.pem"
    noise.write_text("no certificate\n")
    folder, key = tmp_path / "log", tmp_path / "key"
    for ca, cert, message in (
        (tmp_path / "none.pem", None, "--webhook-ca .*none.pem: cannot be read"),
        (noise, None, "--webhook-ca .*noise.pem: cannot be read"),
        (None, tmp_path / "none.pem", "none.pem: cannot be read"),
        (None, shown, "others may read it"),
        (None, lone, "--webhook-cert .*lone.pem: a certificate and its private key"),
    ):
        with pytest.raises(ConfigError, match=message):
            webhook_outlet("https://h/", folder, key=key, authority=ca, certificate=cert)
    for ca, cert in ((authority.path, None), (None, whole)):
        with pytest.raises(ConfigError, match="knows no certificates; use https"):
            webhook_outlet("http://127.0.0.1/", folder, key=key, authority=ca, certificate=cert)
        with pytest.raises(ConfigError, match=r"--mqtt-c[a-z]* is given, and mqtt://"):
            mqtt_outlet(
                "mqtt://127.0.0.1/a", folder, folder, login=None, authority=ca, certificate=cert
            )
    assert not key.exists()
    assert not folder.exists()


def test_a_key_with_a_password_is_refused_and_asks_no_terminal(
    tmp_path: Path, authority: Authority
) -> None:
    from cryptography.hazmat.primitives import serialization

    plain = authority.issue("line1").read_bytes()
    locked = serialization.load_pem_private_key(plain, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    path = tmp_path / "locked.pem"
    path.touch(0o600)
    path.write_bytes(locked + plain.partition(b"-----END PRIVATE KEY-----\n")[2])
    peer = parse_peer("mqtts://h/a", "--mqtt", {"mqtts": (8883, True)}, "")
    with pytest.raises(ConfigError, match="without a password are wanted, in one PEM file"):
        client_tls(peer, "--mqtt", certificate=path)


@needs_broker
def test_a_line_whose_peers_have_wrong_certificates_judges_on_and_tells_them_later(
    tmp_path: Path, no_process_is_left: None, package_path: Path, authority: Authority
) -> None:
    peer = TlsBroker(tmp_path, authority.issue("old", "127.0.0.1", is_expired=True))
    tls = server_tls(Authority(tmp_path, "other").issue("wrong", "127.0.0.1"))
    receiver = Receiver(tls=tls)
    listener = Listener(peer.plain_port)
    options = [
        *("--mqtt", f"mqtts://127.0.0.1:{peer.broker.port}/p/l1"),
        *("--mqtt-ca", str(authority.path), "--webhook-ca", str(authority.path)),
        *("--webhook", f"https://127.0.0.1:{receiver.port}/"),
        *("--webhook-key", str(tmp_path / "k")),
    ]
    try:
        with line_with(tmp_path, package_path, *options) as line:
            began_s = monotonic()
            told: list[str] = []
            while monotonic() - began_s < 5:
                told += pull(tmp_path, len(told) + 1, 10)
            assert len(receiver.connected_s) > 1
            assert receiver.posts == []
            assert listener.heard == []
            right = authority.issue("right", "127.0.0.1")
            peer.show(right)
            tls.load_cert_chain(right)
            records = verdicts(tmp_path / "out")
            rejects = [each["sequence"] for each in records if each["verdict"] != "pass"]
            wait_until(
                lambda: (
                    [each["sequence"] for each in listener.on("p/l1/verdict")]
                    == list(range(1, len(told) + 1))
                )
            )
            wait_until(lambda: [each for each in posted(receiver) if each] == rejects)
            wait_until(lambda: receiver.posts)  # events, where there was no reject
            line.send_signal(signal.SIGTERM)
            _, err = line.communicate(timeout=60)
            assert line.returncode == 0, err
            assert "Traceback" not in err
    finally:
        listener.close()
        receiver.close()
        peer.broker.kill()
    assert {each.split()[2] for each in told} <= {"none", "defect"}
    events = [json.loads(body)["event"] for _, body in receiver.posts if b'"event":' in body]
    assert "outlet_dropped" not in events
