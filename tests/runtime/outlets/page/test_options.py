"""Where the page may be served, and to whom: refused before anything is opened."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.page.access import Access
from ssn_edge_runtime.outlets.page.options import PageOptions, page_options
from ssn_edge_runtime.outlets.page.process import page_outlet
from ssn_edge_runtime.outlets.page.roles import Role, new_token, read_tokens, revoke_token


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "line")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "page.crt", tmp_path / "page.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1:0", "localhost:8080", "[::1]:8080"])
def test_loopback_needs_nothing(listen: str) -> None:
    assert not PageOptions(listen).is_open


@pytest.mark.parametrize(
    "listen", ["", ":", "here", "70000", "-1", "1.2.3:80", "host:80", "0.0.0.0:", "8080x", "٣"]
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        PageOptions(listen)


def test_other_machines_need_tokens_and_tls_or_a_proxy(
    tmp_path: Path, tokens: dict[str, str], certificate: tuple[Path, Path]
) -> None:
    file = tmp_path / "page-tokens.json"
    for options in (
        {},
        {"tokens": file},
        {"proxy": "line.example"},
        {"certificate": certificate[0], "key": certificate[1]},
    ):
        with pytest.raises(ConfigError, match=r"0\.0\.0\.0:8080: other machines reach it"):
            PageOptions("0.0.0.0:8080", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="other machines reach it"):
        PageOptions("8080", proxy="line.example")
    for options in (
        {"tokens": file, "proxy": "line.example"},
        {"tokens": file, "certificate": certificate[0], "key": certificate[1]},
    ):
        assert PageOptions("0.0.0.0:8080", **options).is_open  # type: ignore[arg-type]


def test_the_command_line_says_so_in_one_line_and_writes_nothing(
    tmp_path: Path, package_path: Path
) -> None:
    call = [sys.executable, "-m", "ssn_edge", "run", "--device", "test:", "--package",
            str(package_path), "--output", str(tmp_path / "out")]  # fmt: skip
    for more in (
        ["--page", "0.0.0.0:8080"],
        ["--page", "nowhere"],
        ["--page-tokens", "x"],
        ["--page", "8080", "--page-key", "x"],
        ["--page", "8080", "--page-tokens", str(tmp_path / "missing.json")],
        ["--page", "8080", "--single-process"],
    ):
        ended = subprocess.run([*call, *more], capture_output=True, text=True, check=False)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.count("\n") <= 3
        assert "--page" in ended.stderr or "missing.json" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_options_come_back_from_json(tmp_path: Path, tokens: dict[str, str]) -> None:
    options = page_options("8080", tmp_path / "page-tokens.json", None, None, None, ["line3"])
    assert options is not None
    assert PageOptions.from_json(options.to_json()) == options


def test_tokens_that_others_may_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    text = new_token(path, "anna", Role.ENGINEER)
    assert text not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="anna has a token"):
        new_token(path, "anna", Role.VIEWER)
    path.chmod(0o620)
    with pytest.raises(ConfigError, match="others may write"):
        read_tokens(path)
    path.chmod(0o600)
    revoke_token(path, "anna")
    assert read_tokens(path) == ()
    with pytest.raises(ConfigError, match="no token there"):
        revoke_token(path, "anna")


def _headers(**given: str) -> object:
    values = {name.replace("_", "-").lower(): value for name, value in given.items()}
    return lambda name: [values[name.lower()]] if name.lower() in values else []


def test_behind_a_proxy_only_its_name_and_https_are_answered(
    tmp_path: Path, tokens: dict[str, str]
) -> None:
    file = tmp_path / "page-tokens.json"
    access = Access(PageOptions("127.0.0.1:8080", tokens=file, proxy="line.example"), 8080)

    def refusal(**given: str) -> tuple[int, str] | None:
        return access.refusal(_headers(**given))  # type: ignore[arg-type]

    good = {"Host": "line.example", "X_Forwarded_Proto": "https"}
    assert refusal(**good, Origin="https://line.example") is None
    assert refusal(Host="line.example") is not None
    assert refusal(**{**good, "Host": "127.0.0.1:8080"}) is not None
    assert refusal(**good, Origin="http://line.example") is not None
    assert refusal(**{**good, "X_Forwarded_Proto": "http"}) is not None
    assert access.role(_headers(**good)) is None  # type: ignore[arg-type]
    assert access.role(_headers(Authorization=f"Bearer {tokens['emma']}")) is Role.VIEWER  # type: ignore[arg-type]
    session = access.log_in(tokens["emma"])
    assert session is not None
    assert access.cookie_header(session)[1].startswith("__Host-")
    assert "; Secure" in access.cookie_header(session)[1]


def test_over_tls_nobody_sees_anything_without_a_token(
    tmp_path: Path, tokens: dict[str, str], certificate: tuple[Path, Path]
) -> None:
    options = PageOptions(
        "0.0.0.0:0", tokens=tmp_path / "page-tokens.json",
        certificate=certificate[0], key=certificate[1],
    )  # fmt: skip
    said: list[str] = []
    outlet = page_outlet(
        options, tmp_path / "control.sock", tmp_path, tmp_path / "part.ssn", None,
        deadline_ms=500.0, on_message=said.append,
    )  # fmt: skip
    context = ssl.create_default_context(cafile=str(certificate[0]))

    def ask(url: str, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, context=context, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    with outlet:
        port = said[0].partition("/:")[0].rpartition(":")[2].strip("/: ").split("/")[0]
        base = f"https://127.0.0.1:{port}"
        assert ask(f"{base}/")[0] == 200
        for path in ("/api/snapshot", "/metrics", "/api/live/frame", "/api/scores"):
            assert ask(base + path)[0] == 401
        bearer = f"Bearer {tokens['vera']}"
        assert ask(f"{base}/metrics", Authorization=bearer)[0] == 200
        assert ask(f"{base}/metrics", Authorization="Bearer guessed")[0] == 401
        status, ready = ask(f"{base}/readyz")
        assert status == 503
        assert b"cause" not in ready
        assert ask(f"{base}/healthz")[0] == 200
        with socket.create_connection(("127.0.0.1", int(port)), 20) as clear:
            clear.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert not clear.recv(100).startswith(b"HTTP"), "only TLS is spoken"
