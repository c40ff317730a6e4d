"""A backup brought back: what `ssn-edge restore` does."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge.backup.content import Backup, BackupFile, read_backup
from ssn_edge.packages import unfinished_change
from ssn_edge.service import UNIT_FOLDER
from ssn_edge_runtime.errors import ConfigError, PackageError, StorageError
from ssn_edge_runtime.files import sync_folder, write_whole
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings_json import settings_from_json
from ssn_edge_runtime.settings_store import read_settings
from ssn_edge_runtime.sinks.device_key import PUBLIC_SUFFIX
from ssn_edge_runtime.trust.state import TrustState
from ssn_edge_runtime.trust.trusted_keys import REVOKED_NAME


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is to be brought back.

    Args:
        source: The backup.
        folder: The project directory that it goes to.
        is_forced: Whether it may go over what is newer.
        with_unit: Whether the systemd unit is put in place as well.
        unit_folder: Where units are.
    """

    source: Path
    folder: Path = Path()
    is_forced: bool = False
    with_unit: bool = False
    unit_folder: Path = UNIT_FOLDER


def restore_backup(request: RestoreRequest) -> tuple[Path, ...]:
    """Bring a device's files back: all of them, or none.

    A key or package that was revoked here since stays revoked, and what the device has taken stays
    noted: a backup is no way around either.

    Returns:
        The files that were written; those that are there as they should be are left alone.

    Raises:
        DatasetError: No whole, unchanged backup.
        PackageError: Its package cannot be used.
        ConfigError: What is there is newer, or its settings cannot be used.
        StorageError: It cannot be written; everything is as it was.
    """
    backup = read_backup(request.source)
    for each in backup.of("package"):
        _refuse_unfinished(request.folder / each.path)
    wanted: list[tuple[Path, bytes, bool]] = []
    for each in backup.files:
        if each.role == "state" or (each.role == "unit" and not request.with_unit):
            continue
        target = (
            request.unit_folder / each.path.name
            if each.role == "unit"
            else request.folder / each.path
        )
        data = each.data
        if each.role == "trust" and each.path.name == REVOKED_NAME:
            data = _with_revoked(data, target)
        is_secret = each.role == "key" and each.path.suffix != PUBLIC_SUFFIX
        if not (target.exists() and target.read_bytes() == data):
            _refuse_foreign(target)
            if not request.is_forced:
                _refuse_newer(target, each, backup)
            wanted.append((target, data, is_secret))
    _check(backup, request)
    _put(wanted)
    for each in backup.of("state"):
        _take_state(request.folder / each.path, each.data)
    return tuple(target for target, _, _ in wanted)


def _refuse_foreign(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target}: is in the way, and is no file; move it")


def _refuse_unfinished(package: Path) -> None:
    """A change of the package that was cut short would be finished over what is restored."""
    unfinished = unfinished_change(package)
    if unfinished.exists():
        raise ConfigError(
            f"{unfinished}: a change of the package was cut short here; finish it (ssn-edge run "
            "does), or remove that file, and restore then"
        )


def _refuse_newer(target: Path, file: BackupFile, backup: Backup) -> None:
    """By what the file itself says where it does, and else by when it was written."""
    if not target.exists():
        return
    why = ""
    if file.role == "settings" and file.path.suffix == ".json":
        with contextlib.suppress(ConfigError):
            there, then = read_settings(target).version, settings_from_json(file.data).version
            if there > then:
                why = f"has version {there}, the backup has version {then}"
    made_at = datetime.strptime(backup.made_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    if not why and target.stat().st_mtime > made_at.timestamp() + 1:
        why = f"was written after the backup, which is of {backup.made_at}"
    if why:
        raise ConfigError(f"{target}: {why}; nothing was restored, --force goes over it")


def _check(backup: Backup, request: RestoreRequest) -> None:
    """See that package and settings can be used, before anything is replaced."""
    for file in backup.of("package"):
        trial = request.folder / f".{file.path.name}.{os.getpid()}.restore"
        try:
            write_whole(trial, file.data)
            Package.open(trial).close()
        except PackageError as error:
            reason = str(error).removeprefix(f"{trial}: ")
            raise PackageError(f"{request.source}: its package: {reason}") from error
        finally:
            trial.unlink(missing_ok=True)
    for file in backup.of("settings"):
        if file.path.suffix == ".json":
            try:
                settings_from_json(file.data)
            except ConfigError as error:
                raise ConfigError(f"{request.source}: {file.path} {error}") from error


def _put(wanted: Sequence[tuple[Path, bytes, bool]]) -> None:
    """Write all beside their places, then exchange them; at a fault everything goes back."""
    staged: list[tuple[Path, Path]] = []
    moved: list[tuple[Path, Path | None]] = []
    pid = os.getpid()
    try:
        for target, data, is_secret in wanted:
            beside = target.with_name(f".{target.name}.{pid}.new")
            write_whole(beside, data, mode=0o600 if is_secret else None)
            staged.append((beside, target))
        for beside, target in staged:
            before = None
            if target.exists():
                before = target.with_name(f".{target.name}.{pid}.before")
                os.link(target, before)
            moved.append((target, before))
            beside.replace(target)
        for folder in {target.parent for _, target in staged}:
            sync_folder(folder)
    except BaseException as error:
        for target, before in reversed(moved):
            with contextlib.suppress(OSError):
                if before is None:
                    target.unlink()
                else:
                    before.replace(target)
        if isinstance(error, OSError):
            raise StorageError(
                f"{error.filename}: cannot be written ({error.strerror}); nothing was restored"
            ) from error
        raise
    finally:
        for beside, _ in staged:
            beside.unlink(missing_ok=True)
        for _, before in moved:
            if before is not None:
                before.unlink(missing_ok=True)


def _with_revoked(data: bytes, target: Path) -> bytes:
    """The backup's list, and what was revoked here since."""
    if not target.exists():
        return data
    text = data.decode("utf-8", "replace")
    held = {line.partition("#")[0].strip().lower() for line in text.splitlines()}
    more = [
        line
        for line in target.read_text(encoding="utf-8").splitlines()
        if (word := line.partition("#")[0].strip().lower()) and word not in held
    ]
    end = "" if text.endswith("\n") or not text else "\n"
    return (text + end + "".join(f"{line}\n" for line in more)).encode()


def _take_state(path: Path, data: bytes) -> None:
    try:
        document = json.loads(data)
        packages, settings = document["packages"], document["settings"]
        state = TrustState(path)
        for name, serial in packages.items():
            state.take_package(name, int(serial))
        for package_id, version in settings.items():
            state.take_settings(package_id, int(version))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: the backup's cannot be understood") from error
