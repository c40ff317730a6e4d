"""Where an OPC UA server listens, and who may read there without a name."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ssn_edge_runtime.errors import ConfigError

PORT = 4840


@dataclass(frozen=True, slots=True)
class OpcUaAddress:
    """An address to listen on.

    Args:
        host: IP address.
        port: TCP.
        is_loopback: Whether only this machine reaches it.
    """

    host: str
    port: int
    is_loopback: bool

    def __str__(self) -> str:
        """As a client names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"opc.tcp://{host}:{self.port}"


def parse_opcua(text: str, *, has_users: bool, is_open: bool) -> OpcUaAddress:
    """Read the address of an OPC UA server.

    Args:
        text: ``opc.tcp://ADDRESS[:PORT]``.
        has_users: Whether there is a file of users.
        is_open: Whether everyone may read.

    Raises:
        ConfigError: It is none, or others could reach it and nobody is to be asked who they are.
    """
    try:
        url = urlsplit(text)
        port = url.port
        host = "127.0.0.1" if url.hostname == "localhost" else url.hostname or ""
        found = ipaddress.ip_address(host)
    except ValueError:
        raise _wrong(text) from None
    if url.scheme != "opc.tcp" or url.path.strip("/") or url.query or url.username is not None:
        raise _wrong(text)
    if not (found.is_loopback or has_users or is_open):
        raise ConfigError(
            f"--opcua {text}: other machines could read there without a name; give the server "
            "users (--opcua-users FILE), or say that everyone may read (--opcua-open)"
        )
    return OpcUaAddress(host, PORT if port is None else port, found.is_loopback)


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        f"--opcua {text}: the address of one of this machine's interfaces is wanted, such as "
        "opc.tcp://127.0.0.1:4840"
    )
