"""Where a PLC finds this device, and who may speak to it: one named interface, and a list."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError

PORT = 502
HEARTBEAT_MS = 1000
SHORTEST_HEARTBEAT_MS = 100
"""A PLC may beat every 100 ms at best, and answers of a busy network come late."""
LONGEST_HEARTBEAT_MS = 10_000
"""So long a pass may be shown to a PLC that is gone."""
_LOOPBACK = ("127.0.0.0/8", "::1/128")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class PlcAddress:
    """Where to listen, and for whom.

    Args:
        host: Address of an interface of this device.
        port: 0 takes any that is free.
        allowed: Whose connections are taken.
        heartbeat_ms: Without another heartbeat of the PLC for longer, it is taken for lost.
    """

    host: Address
    port: int
    allowed: tuple[Network, ...]
    heartbeat_ms: int = HEARTBEAT_MS

    def allows(self, peer: str) -> bool:
        """Whether a peer, by its address, may connect."""
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.allowed)

    def __str__(self) -> str:
        """As it is written on the command line."""
        host = f"[{self.host}]" if self.host.version == 6 else str(self.host)
        is_default = self.heartbeat_ms == HEARTBEAT_MS
        return f"{host}:{self.port}" + ("" if is_default else f"?heartbeat_ms={self.heartbeat_ms}")


def parse_plc_address(text: str, allow: Sequence[str] = ()) -> PlcAddress:
    """``192.168.10.5:502``, ``192.168.10.5`` or ``[::1]:502``, and ``192.168.10.0/24`` for whom.

    With ``?heartbeat_ms=500`` behind it, another time than `HEARTBEAT_MS`.

    Args:
        text: An interface's address, with or without a port and options.
        allow: Networks or addresses; may be left out on loopback.

    Raises:
        ConfigError: No such address, or other machines could reach it and nobody is named.
    """
    where, has_options, query = text.partition("?")
    host, port = _host_and_port(where)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(
            f"--modbus {text}: the address of one interface is wanted, such as 192.168.10.5:502 or "
            "127.0.0.1:5020"
        ) from None
    if not allow and not address.is_loopback:
        raise ConfigError(
            f"--modbus {text}: other machines could reach {address}, and Modbus asks nobody who "
            "they are; name the PLC: --modbus-allow 192.168.10.20, or its network"
        )
    networks = tuple(_network(each) for each in allow or _LOOPBACK)
    heartbeat_ms = _heartbeat_ms(text, query) if has_options else HEARTBEAT_MS
    return PlcAddress(address, port, networks, heartbeat_ms)


def _heartbeat_ms(text: str, query: str) -> int:
    """The one option that there is."""
    name, _, value = query.partition("=")
    if name != "heartbeat_ms":
        raise ConfigError(
            f"--modbus {text}: {name or 'nothing'} is no option of it; heartbeat_ms=500 is one"
        )
    number = int(value) if re.fullmatch(r"[0-9]{1,6}", value) else 0
    if not SHORTEST_HEARTBEAT_MS <= number <= LONGEST_HEARTBEAT_MS:
        raise ConfigError(
            f"--modbus {text}: heartbeat_ms={value}: {SHORTEST_HEARTBEAT_MS} to "
            f"{LONGEST_HEARTBEAT_MS} ms are wanted, and at least twice the time between two beats "
            "of the PLC"
        )
    return number


def _host_and_port(text: str) -> tuple[str, int]:
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port if not rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdecimal()) or int(port) > 0xFFFF:
        raise ConfigError(f"--modbus {text}: a port from 1 to 65535 is wanted after the address")
    return host, int(port)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"--modbus-allow {text}: an address or a network is wanted, such as 192.168.10.20 or "
            f"192.168.10.0/24 ({error})"
        ) from None
    if network.prefixlen == 0:
        raise ConfigError(f"--modbus-allow {text}: that is everybody; name the PLC's network")
    return network
