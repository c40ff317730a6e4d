"""Where a device's settings live: one file that is always whole, and the versions before it.

``settings.json`` is the version in force. Every version ever saved also lies beside it as
``settings-<version>.json``, unchanged, so that an older one can come back with its own hash and
its own signature.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import locked, write_whole
from ssn_edge_runtime.settings import SETTINGS_NAME, DeviceSettings, Signature
from ssn_edge_runtime.settings_json import settings_from_json, settings_to_json

LARGEST_FILE_BYTES = 4 * 2**20
VERSIONS_KEPT = 50
_LOCK_NAME = ".settings.lock"
_VERSION_NAME = re.compile(r"settings-(\d{1,9})\.json")


def read_settings(path: Path) -> DeviceSettings:
    """Read one settings file.

    Raises:
        ConfigError: It cannot be read, was changed by hand, or holds what cannot be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {LARGEST_FILE_BYTES} bytes: no settings")
    try:
        return settings_from_json(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


class SettingsStore:
    """The settings of one folder. Safe to use from several processes: writers take turns.

    A reader needs no lock: the file in force is replaced in one step, never written to.

    Args:
        path: The file in force, such as ``settings.json``.
    """

    def __init__(self, path: Path = Path(SETTINGS_NAME)) -> None:
        if path.suffix != ".json":
            raise ConfigError(f"{path}: settings are kept in a file that ends in .json")
        if _VERSION_NAME.fullmatch(path.name):
            raise ConfigError(
                f"{path}: is a version that is kept; ssn-edge settings rollback brings it back"
            )
        self.path = path

    def current(self) -> DeviceSettings | None:
        """The settings in force; None where none were saved yet.

        Raises:
            ConfigError: See `read_settings`.
        """
        return read_settings(self.path) if self.path.exists() else None

    def history(self) -> tuple[DeviceSettings, ...]:
        """All versions that are kept, oldest first.

        Raises:
            ConfigError: One of them cannot be used.
        """
        return tuple(read_settings(self.kept(version)) for version in self._versions())

    def save(
        self,
        change: Callable[[DeviceSettings | None], DeviceSettings],
        *,
        signature_of: Callable[[DeviceSettings], Signature | None] = lambda settings: None,
    ) -> DeviceSettings:
        """Make the next version of the settings in force and put it in their place.

        Args:
            change: Makes it of the settings in force; called while no one else can write. Version,
                previous id and time are filled in here, and a signature is dropped.
            signature_of: Signs the finished version before anything of it is written; what it
                raises leaves the old one. None for none.

        Returns:
            The settings in force now; the old ones if nothing but these differs.

        Raises:
            ConfigError: The settings in force cannot be used.
            StorageError: The disk does not take them; the old ones stay in force.
        """
        with self._lock():
            before = self.current()
            wanted = change(before)
            if before is not None and before == replace(
                wanted,
                version=before.version,
                previous_id=before.previous_id,
                written_at=before.written_at,
                note=before.note,
                signature=before.signature,
            ):
                return before
            settings = replace(
                wanted,
                version=max([*self._versions(), 0 if before is None else before.version]) + 1,
                previous_id=None if before is None else before.settings_id,
                written_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                signature=None,
            )
            settings = replace(settings, signature=signature_of(settings))
            data = settings_to_json(settings)
            # The kept version first: what is in force can always be brought back.
            write_whole(self.kept(settings.version), data, durable=True)
            write_whole(self.path, data, durable=True)
            self._retire(settings.version)
        return settings

    def roll_back(
        self,
        version: int | None = None,
        *,
        before: Callable[[DeviceSettings], None] = lambda settings: None,
    ) -> DeviceSettings:
        """Bring an older version back, as it was: same id, same signature.

        Args:
            version: Which; None for the one that the settings in force were made from.
            before: Told which one comes back, just before it does.

        Raises:
            ConfigError: It is not kept, or there is nothing to go back to.
            StorageError: The disk does not take it; the settings in force stay so.
        """
        with self._lock():
            path = self.kept(self._version_before() if version is None else version)
            if not path.exists():
                kept = ", ".join(map(str, self._versions())) or "none"
                raise ConfigError(f"{path}: is not kept; versions {kept} are")
            settings = read_settings(path)
            before(settings)
            write_whole(self.path, settings_to_json(settings), durable=True)
        return settings

    def sign(self, signature_of: Callable[[DeviceSettings], Signature]) -> DeviceSettings:
        """Put a signature on the settings in force, and on their kept version: the id stays.

        Raises:
            ConfigError: There are none, or they cannot be used.
            StorageError: The disk does not take them; they stay as they were.
        """
        with self._lock():
            settings = read_settings(self.path)
            signed = replace(settings, signature=signature_of(settings))
            data = settings_to_json(signed)
            kept = self.kept(settings.version)
            # A file that was signed elsewhere may have another version's name in the way.
            if kept.exists() and read_settings(kept).settings_id == signed.settings_id:
                write_whole(kept, data, durable=True)
            write_whole(self.path, data, durable=True)
        return signed

    def _version_before(self) -> int:
        try:
            current = self.current()
        except ConfigError:
            # Damaged or changed by hand: the newest one that is whole.
            return max([*self._versions(), 0])
        if current is None or current.previous_id is None:
            raise ConfigError(f"{self.path}: there is no older version to go back to")
        for version in reversed(self._versions()):
            if read_settings(self.kept(version)).settings_id == current.previous_id:
                return version
        raise ConfigError(f"{self.path}: the version before is no longer kept")

    def kept(self, version: int) -> Path:
        """Where a version is kept, whether it is there or not."""
        return self.path.with_name(f"settings-{version}.json")

    def _versions(self) -> list[int]:
        found = [_VERSION_NAME.fullmatch(path.name) for path in self.path.parent.glob("settings-*")]
        return sorted(int(match[1]) for match in found if match is not None)

    def _retire(self, newest: int) -> None:
        for version in self._versions():
            if version <= newest - VERSIONS_KEPT:
                with contextlib.suppress(OSError):
                    self.kept(version).unlink()

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.path.with_name(_LOCK_NAME))
