"""Packages and settings signed in their place: what `ssn-edge sign` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.settings_store import SettingsStore, read_settings
from ssn_edge_runtime.sinks.device_key import PUBLIC_SUFFIX, DeviceKey
from ssn_edge_runtime.trust import sign_settings


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed.

    Args:
        path: The file.
        what: ``package`` or ``settings``.
        id: Its id.
        key_id: Of the key.
        serial: The package's serial, or the settings' version.
        key_ids: Of all signatures that it has now.
    """

    path: Path
    what: str
    id: str
    key_id: str
    serial: int
    key_ids: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "path": str(self.path),
            "what": self.what,
            "id": self.id,
            "key_id": self.key_id,
            "serial": self.serial,
            "key_ids": list(self.key_ids),
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        number = "serial" if self.what == "package" else "version"
        others = [each[:16] for each in self.key_ids if each != self.key_id]
        also = f"; also signed by key {', '.join(others)}" if others else ""
        return [
            f"{self.path}: {self.what} {self.id[:16]} signed, {number} {self.serial}, by key "
            f"{self.key_id[:16]}{also}"
        ]


def sign_file(path: Path, key: DeviceKey, *, serial: int | None = None) -> Signed:
    """Sign a package (``.ssn``) or a device's settings (``.json``) in its place.

    Raises:
        ConfigError: Neither of the two, settings that cannot be used, or a serial for settings.
        PackageError: Not a whole, unchanged package.
        StorageError: It cannot be written; the file is as it was.
    """
    if path.suffix == ".json":
        if serial is not None:
            raise ConfigError("--serial is for packages; settings have their version for it")
        read_settings(path)  # before a lock file is made beside what is not there
        settings = SettingsStore(path).sign(lambda unsigned: sign_settings(key, unsigned))
        return Signed(
            path, "settings", settings.settings_id, key.key_id, settings.version, (key.key_id,)
        )
    from ssn_edge_export.signing import sign_package_file
    from ssn_edge_runtime.package import Package

    signatures = sign_package_file(path, key, serial=serial)
    own = next(each for each in signatures if each.key_id == key.key_id)
    with Package.open(path) as package:
        package_id = package.package_id
    key_ids = tuple(each.key_id for each in signatures)
    return Signed(path, "package", package_id, key.key_id, own.serial, key_ids)


def public_file(key: Path) -> Path:
    """Where a key's public half lies."""
    return key.with_name(key.name + PUBLIC_SUFFIX)
