"""The OPC UA server's process beside a line; without the library, which that process imports."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.outlets.opcua_address import parse_opcua
from ssn_edge_runtime.outlets.opcua_users import read_users
from ssn_edge_runtime.outlets.process import OutletProcess


def opcua_outlet(
    address: str,
    folder: Path,
    control: Path,
    *,
    users: Path | None,
    is_open: bool,
    is_shadow: bool,
    settings: Path | None,
    deadline_ms: float,
    takes_triggers: bool,
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The server's process, not yet open.

    Args:
        address: Where it listens, as `parse_opcua` reads it.
        folder: Of the journal.
        control: The line's control socket.
        users: File of users; None lets nobody do more than read.
        is_open: Whether everyone on the network may read.
        is_shadow: Nothing is driven, and so nothing passes.
        settings: The device's settings, whose recipes may be selected.
        deadline_ms: The line's.
        takes_triggers: Whether the line does.
        on_message: Told when it is up, and when it is gone for good.

    Raises:
        ConfigError: An address or users that are none, or ``asyncua`` is not installed.
    """
    parse_opcua(address, has_users=users is not None, is_open=is_open)
    if find_spec("asyncua") is None:
        raise ConfigError(
            "--opcua needs the package asyncua; install it: pip install 'ssn-edge[opcua]'"
        )
    if users is not None:
        read_users(users)
    arguments = [address, "--folder", str(folder), "--control", str(control)]
    arguments += ["--deadline-ms", repr(deadline_ms)]
    arguments += [] if users is None else ["--users", str(users.absolute())]
    arguments += [] if settings is None else ["--settings", str(settings.absolute())]
    arguments += ["--open"] * is_open + ["--shadow"] * is_shadow
    arguments += ["--takes-triggers"] * takes_triggers
    return OutletProcess(
        address,
        "ssn_edge_runtime.outlets.opcua",
        arguments,
        what="showing the line",
        outlet="opcua",
        on_message=on_message,
    )
