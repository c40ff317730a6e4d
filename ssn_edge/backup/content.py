"""What a backup holds: files by what they are, hashed, in the byte form of a package's archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ssn_edge_runtime.archive import read_directory
from ssn_edge_runtime.errors import ConfigError, DatasetError, PackageError
from ssn_edge_runtime.strict_json import Fields, canonical_json

BACKUP_SCHEMA = 1
INDEX_NAME = "backup.json"
ROLES = ("package", "settings", "trust", "state", "project", "unit", "key")
MAX_INDEX_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of a device.

    Args:
        role: One of `ROLES`.
        path: Where it was, from the project directory; one that lay elsewhere has its name alone.
        data: All of it.
    """

    role: str
    path: PurePosixPath
    data: bytes

    @property
    def entry(self) -> str:
        """Its name in the archive."""
        return f"{self.role}/{self.path}"


@dataclass(frozen=True, slots=True)
class Backup:
    """A whole backup.

    Args:
        made_at: UTC, as in ``2026-11-28T21:00:00Z``.
        files: In the archive's order.
    """

    made_at: str
    files: tuple[BackupFile, ...]

    def of(self, role: str) -> tuple[BackupFile, ...]:
        """Those of one role."""
        return tuple(each for each in self.files if each.role == role)


def backup_contents(backup: Backup) -> Mapping[str, bytes]:
    """The archive's entries: an index with the hash of each file, then the files."""
    index = {
        "schema": BACKUP_SCHEMA,
        "made_at": backup.made_at,
        "files": {
            each.entry: {"bytes": len(each.data), "sha256": hashlib.sha256(each.data).hexdigest()}
            for each in backup.files
        },
    }
    return {INDEX_NAME: canonical_json(index), **{each.entry: each.data for each in backup.files}}


def read_backup(path: Path) -> Backup:
    """Read a backup, each byte checked.

    Raises:
        DatasetError: It is not there, or not whole and unchanged.
    """
    try:
        with path.open("rb") as file:
            found = {}
            for entry in read_directory(file):
                file.seek(entry.data_offset)
                if entry.name in found:
                    raise PackageError(f"it holds {entry.name} twice")
                found[entry.name] = file.read(entry.size_bytes)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except PackageError as error:
        raise DatasetError(f"{path}: is no whole backup: {error}") from error
    try:
        return _checked(found)
    except (ConfigError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is no whole, unchanged backup: {error}") from error


def _checked(found: dict[str, bytes]) -> Backup:
    data = found.pop(INDEX_NAME, b"")
    if len(data) > MAX_INDEX_BYTES:
        raise ConfigError("its index is too large")
    fields = Fields(json.loads(data), "its index", refusal=ConfigError)
    if (schema := fields.whole("schema")) != BACKUP_SCHEMA:
        raise ConfigError(f"it has schema {schema}, this ssn-edge reads {BACKUP_SCHEMA}")
    made_at, listed = fields.text("made_at"), fields.entries("files")
    fields.done()
    if set(listed) != set(found):
        raise ConfigError("its index lists other files than it holds")
    files = []
    for name in found:
        hashes = Fields(listed[name], name, refusal=ConfigError)
        size, sha256 = hashes.whole("bytes"), hashes.text("sha256")
        hashes.done()
        if len(found[name]) != size or hashlib.sha256(found[name]).hexdigest() != sha256:
            raise ConfigError(f"{name} was changed")
        role, _, rest = name.partition("/")
        where = PurePosixPath(rest)
        is_inside = rest and not where.is_absolute() and ".." not in where.parts
        if role not in ROLES or not is_inside or str(where) != rest:
            raise ConfigError(f"it holds {name!r}, which has no place on a device")
        files.append(BackupFile(role, where, found[name]))
    return Backup(made_at, tuple(files))
