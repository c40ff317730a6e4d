from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge.bus_request import BusRequest
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.mqtt import parse_mqtt, read_login
from ssn_edge_runtime.outlets.opcua_address import parse_opcua
from ssn_edge_runtime.outlets.peer import PeerError
from ssn_edge_runtime.outlets.webhook import open_key, parse_webhook


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("mqtt://127.0.0.1/line1", "127.0.0.1", 1883, "line1"),
        ("mqtts://broker.example/plant/line1", "broker.example", 8883, "plant/line1"),
        ("mqtt://[fd00::1]:99/a", "fd00::1", 99, "a"),
        ("mqtt://192.168.1.4/a", "192.168.1.4", 1883, "a"),
    ],
)
def test_a_broker(text: str, host: str, port: int, path: str) -> None:
    peer = parse_mqtt(text)
    assert (peer.host, peer.port, peer.path) == (host, port, path)
    assert parse_mqtt(str(peer)) == peer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mqtt://user:secret@10.0.0.1/a", "do not belong into the address"),
        ("mqtt://8.8.8.8/a", "use mqtts://"),
        ("mqtt://0.0.0.0/a", "use mqtts://"),
        ("mqtt://[::ffff:8.8.8.8]/a", "use mqtts://"),
        ("mqtt://10.0.0.1", "a prefix for the topics"),
        ("mqtt://10.0.0.1/a/+/b", "a prefix for the topics"),
        ("mqtt://10.0.0.1/a//b", "a prefix for the topics"),
        ("http://10.0.0.1/a", "is wanted"),
        ("mqtt://10.0.0.1:99999/a", "is wanted"),
        ("mqtt://10.0.0.1/a b", "is wanted"),
        ("", "is wanted"),
    ],
)
def test_what_is_no_broker(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_mqtt(text)
    assert "secret" not in str(caught.value)


def test_a_name_is_checked_when_it_is_looked_up() -> None:
    assert parse_webhook("http://localhost:8080/hook?line=1").address() in ("127.0.0.1", "::1")
    with pytest.raises(PeerError, match="has no address"):
        parse_webhook("http://nowhere.invalid/hook").address()
    with pytest.raises(ConfigError, match="use https://"):
        parse_webhook("http://1.1.1.1/hook")
    with pytest.raises(ConfigError, match="write the rest as %XX"):
        parse_webhook("https://mes.example/höök")


def test_secrets_are_read_from_files_of_their_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "login"
    login.write_text("line1:a:b\n")
    with pytest.raises(ConfigError, match="others may read it"):
        read_login(login)
    login.chmod(0o600)
    assert read_login(login) == ("line1", "a:b")
    login.write_text("line1\n")
    with pytest.raises(ConfigError, match="user:password"):
        read_login(login)
    monkeypatch.setenv("SSN_EDGE_MQTT_USER", "u")
    monkeypatch.setenv("SSN_EDGE_MQTT_PASSWORD", "p")
    assert read_login(None) == ("u", "p")
    key = open_key(tmp_path / "key")
    assert len(key) == 64
    assert open_key(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").write_text("short")
    with pytest.raises(ConfigError, match="16 bytes"):
        open_key(tmp_path / "key")


def test_an_opc_ua_server_that_others_reach_asks_who_they_are() -> None:
    assert parse_opcua("opc.tcp://localhost", has_users=False, is_open=False).port == 4840
    with pytest.raises(ConfigError, match="without a name"):
        parse_opcua("opc.tcp://0.0.0.0:4840", has_users=False, is_open=False)
    assert not parse_opcua("opc.tcp://0.0.0.0", has_users=True, is_open=False).is_loopback
    for text in ("opc.tcp://host", "http://127.0.0.1", "opc.tcp://127.0.0.1/x", "", "opc.tcp://"):
        with pytest.raises(ConfigError, match="is wanted"):
            parse_opcua(text, has_users=True, is_open=True)


def test_options_without_their_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--mqtt is not"):
        BusRequest(mqtt_login=tmp_path)
    with pytest.raises(ConfigError, match="--webhook is not"):
        BusRequest(webhook_cert=tmp_path)
    with pytest.raises(ConfigError, match="--opcua is not"):
        BusRequest(opcua_open=True)
