"""Who may do what at an OPC UA server: names, roles and scrypt hashes in one file.

``python -m ssn_edge_runtime.outlets.opcua_users FILE NAME --role operator`` asks for the password.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import hmac
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.files import read_private, write_private

COST, BLOCK, LANES = 2**14, 8, 1
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 256


class Role(str, Enum):
    """What a user may do; each equal to its text."""

    VIEWER = "viewer"
    """Read."""
    OPERATOR = "operator"
    """Give triggers and select recipes as well."""


@dataclass(frozen=True, slots=True)
class KnownUser:
    """One user.

    Args:
        role: What he may do.
        salt: Of the hash.
        digest: scrypt of the password.
    """

    role: Role
    salt: bytes
    digest: bytes

    def has_password(self, password: str) -> bool:
        """Whether it is his; takes some 50 ms, as it should."""
        data = password.encode()
        if len(data) > LONGEST_PASSWORD:
            return False
        return hmac.compare_digest(_digest(data, self.salt), self.digest)


def new_user(password: str, role: Role) -> KnownUser:
    """A user with a password.

    Raises:
        ConfigError: It is too short or too long.
    """
    data = password.encode()
    if not SHORTEST_PASSWORD <= len(data) <= LONGEST_PASSWORD:
        raise ConfigError(
            f"a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} bytes is wanted"
        )
    salt = os.urandom(16)
    return KnownUser(role, salt, _digest(data, salt))


def read_users(path: Path) -> dict[str, KnownUser]:
    """All users of a file (mode 0600).

    Raises:
        ConfigError: It is none, or others may read it.
    """
    try:
        found = json.loads(read_private(path))["users"]
        return {
            str(name): KnownUser(
                Role(each["role"]), bytes.fromhex(each["salt"]), bytes.fromhex(each["scrypt"])
            )
            for name, each in found.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: holds no users; python -m ssn_edge_runtime.outlets.opcua_users adds one"
        ) from error


def write_users(path: Path, users: Mapping[str, KnownUser]) -> None:
    """Put users into a file, for its owner alone.

    Raises:
        StorageError: It cannot be written.
    """
    document = {
        "users": {
            name: {
                "role": each.role.value,
                "salt": each.salt.hex(),
                "scrypt": each.digest.hex(),
            }
            for name, each in users.items()
        }
    }
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    write_private(beside, json.dumps(document, indent=1).encode() + b"\n")
    beside.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Add a user, or give one another password; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.outlets.opcua_users",
        description="Add a user to a file for ssn-edge run --opcua-users, or change one.",
    )
    parser.add_argument("file", type=Path, help="made if it is not there")
    parser.add_argument("name", help="of the user")
    parser.add_argument("--role", choices=[each.value for each in Role], default="viewer")
    parser.add_argument("--remove", action="store_true", help="the user goes")
    options = parser.parse_args(arguments)
    try:
        users = read_users(options.file) if options.file.exists() else {}
        if options.remove:
            users.pop(options.name, None)
        else:
            # Never an argument: every process list would show it.
            is_asked = sys.stdin.isatty()
            password = getpass.getpass() if is_asked else sys.stdin.readline().rstrip("\n")
            users[options.name] = new_user(password, Role(options.role))
        write_users(options.file, users)
    except SsnEdgeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _digest(password: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=COST, r=BLOCK, p=LANES, dklen=32)


if __name__ == "__main__":
    sys.exit(main())
