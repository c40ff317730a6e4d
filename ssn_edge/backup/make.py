"""A backup made: what `ssn-edge backup` does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from ssn_edge.backup.content import Backup, BackupFile, backup_contents, read_backup
from ssn_edge.project import find_package, find_settings
from ssn_edge.service import UNIT_FOLDER
from ssn_edge.settings import SETTINGS_NAME, read_settings
from ssn_edge.trust import state_path
from ssn_edge_runtime.archive import archive_pieces
from ssn_edge_runtime.errors import ConfigError, PackageError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks.device_key import PUBLIC_SUFFIX
from ssn_edge_runtime.trust.trusted_keys import (
    REVOKED_NAME,
    SETTINGS_FOLDER,
    TrustedKeys,
)


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What is to be kept.

    Args:
        target: The file; one that is there is not overwritten.
        folder: The project directory.
        package: None for the one in the folder.
        settings: None for the project's, if they are there.
        trust: Folder of trusted keys; None for the project's, if it names one.
        key: The device's key; None for the project's. Without `with_keys` its public half alone.
        with_keys: Whether the private key goes in.
        unit: Name of the systemd unit.
        unit_folder: Where units are.
    """

    target: Path
    folder: Path = Path()
    package: Path | None = None
    settings: Path | None = None
    trust: Path | None = None
    key: Path | None = None
    with_keys: bool = False
    unit: str = "ssn-edge"
    unit_folder: Path = UNIT_FOLDER


def make_backup(request: BackupRequest) -> Backup:
    """Collect a device's files, each seen to be sound, and write them as one.

    Raises:
        ConfigError: The target is there already, or settings, keys or project file cannot be used.
        PackageError: There is no package, or it is not whole.
        StorageError: The target cannot be written.
    """
    if request.target.exists():
        raise ConfigError(f"{request.target}: is there already; name another file")
    folder = request.folder
    project = read_settings(folder / SETTINGS_NAME)
    files: list[BackupFile] = []

    def add(role: str, path: Path, *, together: Path | None = None) -> None:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        files.append(BackupFile(role, _place(path, folder, together), data))

    package = find_package(request.package, folder=folder)
    Package.open(package).close()
    add("package", package)
    settings = find_settings(request.settings, default=folder / project.run.settings)
    if settings is not None:
        store = SettingsStore(settings)
        store.current()
        store.history()
        for path in sorted(settings.parent.glob("settings-*.json")):
            add("settings", path)
        for path in sorted(settings.parent.glob("region-*.png")):
            add("settings", path)
        add("settings", settings)
    keys = request.trust or (folder / project.trust.keys if project.trust.keys else None)
    if keys is not None:
        TrustedKeys.read(keys)
        for path in _trusted(keys):
            add("trust", path, together=keys if keys.is_dir() else keys.parent)
    state = folder / state_path(project.trust, Path(project.run.output))
    if state.exists():
        add("state", state)
    if (folder / SETTINGS_NAME).exists():
        add("project", folder / SETTINGS_NAME)
    unit = request.unit_folder / f"{request.unit}.service"
    if unit.exists():
        add("unit", unit)
    key = request.key or (folder / project.run.key if project.run.key else None)
    if key is not None:
        for path in (
            key.with_name(key.name + PUBLIC_SUFFIX),
            *([key] if request.with_keys else []),
        ):
            if path.exists():
                add("key", path)
    elif request.with_keys:
        raise ConfigError("--with-keys: this device has no key of its own; name it: --key FILE")
    made_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    backup = Backup(made_at, tuple(files))
    _write(request.target, backup, is_secret=request.with_keys)
    return backup


def _write(target: Path, backup: Backup, *, is_secret: bool) -> None:
    try:
        data = b"".join(archive_pieces(backup_contents(backup)))
    except PackageError as error:
        raise ConfigError(f"{target}: cannot hold this device: {error}") from error
    write_whole(target, data, durable=True, mode=0o600 if is_secret else None)
    try:
        if read_backup(target) != backup:
            raise ConfigError(f"{target}: does not read back as it was written; look at the disk")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _trusted(keys: Path) -> list[Path]:
    """The files that say whom a device trusts."""
    if keys.is_file():
        return [keys]
    in_all = [each for each in sorted(keys.iterdir()) if each.suffix == PUBLIC_SUFFIX]
    for_settings = sorted((keys / SETTINGS_FOLDER).glob(f"*{PUBLIC_SUFFIX}"))
    revoked = keys / REVOKED_NAME
    return [*in_all, *for_settings, *([revoked] if revoked.exists() else [])]


def _place(path: Path, folder: Path, together: Path | None) -> PurePosixPath:
    """Where a file goes, from the project directory.

    Of a folder elsewhere the own name is kept, so that what is only understood together, such as
    trusted keys and the list of those that were revoked, stays so.
    """
    try:
        return PurePosixPath(path.resolve().relative_to(folder.resolve()).as_posix())
    except ValueError:
        if together is None:
            return PurePosixPath(path.name)
        whole = together.resolve()
        return PurePosixPath(whole.name, path.resolve().relative_to(whole).as_posix())
