"""Peers by their address: what one is, and how openly a line may talk to it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import read_private


class PeerError(Exception):
    """A peer is not there, does not answer, or refuses; it is tried again."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer by its URL.

    Args:
        scheme: Such as ``mqtts``.
        host: Name or address.
        port: Of it.
        path: What follows, without the first slash.
        is_encrypted: Whether the scheme stands for TLS.
    """

    scheme: str
    host: str
    port: int
    path: str
    is_encrypted: bool

    def __str__(self) -> str:
        """The URL, which holds no secret."""
        return f"{self.scheme}://{self.host_and_port}/{self.path}".rstrip("/")

    @property
    def host_and_port(self) -> str:
        """As a URL has it between the slashes."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def without_path(self) -> str:
        """The URL up to its path: that of a hook is often its secret."""
        return str(replace(self, path=""))

    def address(self) -> str:
        """The host to connect to; for a peer without TLS an address that was checked.

        Without TLS, verdicts and passwords are readable on the way: only this machine and private
        networks are allowed. The address is used as it was checked, so that a name which changes
        its mind leads nowhere else. With TLS the certificate says who it is.

        Raises:
            PeerError: The name has no address now, or one that is not private.
        """
        if self.is_encrypted:
            return self.host
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise PeerError(f"{self.host} has no address ({error})") from error
        addresses = [str(each[4][0]) for each in found]
        for each in addresses:
            if not _is_private(each):
                raise PeerError(_too_open(self, each))
        return addresses[0]


def parse_peer(text: str, option: str, schemes: dict[str, tuple[int, bool]], like: str) -> Peer:
    """Read a peer's URL.

    Args:
        text: It.
        option: Whose it is, for messages.
        schemes: Default port, and whether it is TLS, by scheme.
        like: What is wanted, for messages.

    Raises:
        ConfigError: It is none, holds a password, or is neither private nor encrypted.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise ConfigError(f"{option}: no such address ({error}); {like} is wanted") from None
    if url.password is not None or url.username is not None:
        # Not even the name: whoever gives it there puts the password beside it next.
        raise ConfigError(
            f"{option}: user and password do not belong into the address, where every process list "
            "shows them; give them in a file or in the environment (see --help)"
        )
    if url.scheme not in schemes or not url.hostname or _has_blank(text):
        raise ConfigError(f"{option} {_shown(url, text)}: {like} is wanted")
    default, is_encrypted = schemes[url.scheme]
    path = url.path.lstrip("/") + (f"?{url.query}" if url.query else "")
    peer = Peer(url.scheme, url.hostname, port or default, path, is_encrypted)
    if not is_encrypted and _is_address(peer.host) and not _is_private(peer.host):
        raise ConfigError(f"{option} {text}: {_too_open(peer, peer.host)}")
    return peer


def client_tls(
    peer: Peer, option: str, *, authority: Path | None = None, certificate: Path | None = None
) -> ssl.SSLContext | None:
    """TLS 1.2 or newer to a peer, whose certificate and name are always checked; None without TLS.

    Args:
        peer: It.
        option: Its own, such as ``--mqtt``; those of the files follow from it.
        authority: Certificates (PEM) that the peer is checked against; None for the system's.
        certificate: What this line shows of itself: certificate and private key in one PEM file.

    Raises:
        ConfigError: A file that is none, a key that others may read, or files without TLS.
    """
    if not peer.is_encrypted:
        for name, file in (("ca", authority), ("cert", certificate)):
            if file is not None:
                raise ConfigError(
                    f"{option}-{name} is given, and {peer.scheme}:// knows no certificates; use "
                    f"{peer.scheme}s://"
                )
        return None
    try:
        tls = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(f"{option}-ca {authority}: cannot be read ({error})") from error
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        read_private(certificate)  # refuses one that others may read: the key is in it
        try:
            # A password for a key that has one: else OpenSSL would ask the terminal, and wait.
            tls.load_cert_chain(certificate, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{option}-cert {certificate}: a certificate and its private key without a "
                f"password are wanted, in one PEM file ({error})"
            ) from error
    return tls


def why_lost(error: Exception, option: str) -> str:
    """What is wrong with a peer, in one line that holds nothing the peer wrote.

    Args:
        error: What connecting or talking raised.
        option: The peer's, such as ``--mqtt``.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _HINTS.get(error.verify_code, "").format(option=option)
        return f"its certificate is refused: {error.verify_message.rstrip('.')}{hint}"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({error.reason or 'the connection was closed'})"
    if isinstance(error, TimeoutError):
        return "does not answer in time"
    return f"cannot be reached ({error})"


_NO_AUTHORITY = "; {option}-ca FILE names a plant's own authority"
_NO_TIME = ", or this device's clock is wrong"
_HINTS = {
    **dict.fromkeys((18, 19, 20, 21), _NO_AUTHORITY),
    **dict.fromkeys((9, 10), _NO_TIME),
}
"""By OpenSSL's X509_V_ERR numbers."""


def _shown(url: SplitResult, text: str) -> str:
    return text if url.netloc else text or "(nothing)"


def _has_blank(text: str) -> bool:
    return any(each.isspace() or not each.isprintable() for each in text)


def _too_open(peer: Peer, address: str) -> str:
    return (
        f"{address} is no address of this machine or of a private network, and "
        f"{peer.scheme}:// is readable on the way there; use {peer.scheme}s://"
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_private(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return (found.is_private or found.is_loopback or found.is_link_local) and not (
        found.is_unspecified or found.is_multicast
    )
