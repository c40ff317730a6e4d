"""The packages that a device has had, each with the settings that went with it: use, list, go back.

The file in force is replaced in one step, as ``settings.json`` is; what was in force lies beside
it in ``packages/``, with ``history.json``. A change of both is written down whole before its first
step, in ``part.ssn.next.json``: whoever finds that file takes the steps that are left.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge.line_talk import OnMessage, have_line_take
from ssn_edge.project import find_package, find_settings
from ssn_edge_runtime.errors import ConfigError, PackageError, StorageError
from ssn_edge_runtime.files import locked, sync_folder, write_whole
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.strict_json import Fields, canonical_json
from ssn_edge_runtime.trust import Trust

FOLDER = "packages"
HISTORY_NAME = "history.json"
NEXT_SUFFIX = ".next.json"
LOCK_NAME = ".packages.lock"
HISTORY_SCHEMA = 1
PACKAGES_KEPT = 10


@dataclass(frozen=True, slots=True)
class KeptPackage:
    """One entry of the history.

    Args:
        package_id: Of the package.
        file: Its copy, in the folder of kept packages.
        settings_version: Of the settings that were in force with it; None for its own thresholds.
        put_at: UTC, when it came to be in force.
        note: Why, for people.
    """

    package_id: str
    file: str
    settings_version: int | None
    put_at: str
    note: str


def unfinished_change(path: Path) -> Path:
    """Where a change of the package in force is written down until its last step is taken."""
    return path.parent / FOLDER / f"{path.name}{NEXT_SUFFIX}"


class PackageStore:
    """A device's packages.

    Args:
        path: The file in force, such as ``part.ssn``.
        settings: The settings in force; beside it are the kept ones.
    """

    def __init__(self, path: Path, settings: Path) -> None:
        self.path = path
        self.settings = SettingsStore(settings)
        self.folder = path.parent / FOLDER
        self._next = unfinished_change(path)

    def history(self) -> tuple[KeptPackage, ...]:
        """What was in force, oldest first; the last one is.

        Raises:
            ConfigError: It cannot be read.
        """
        return self._read(self.folder / HISTORY_NAME)

    def _read(self, path: Path) -> tuple[KeptPackage, ...]:
        if not path.exists():
            return ()
        try:
            fields = Fields(json.loads(path.read_bytes()), "the file", refusal=ConfigError)
            if fields.whole("schema") != HISTORY_SCHEMA:
                raise ConfigError(f"its schema is not {HISTORY_SCHEMA}")
            entries = tuple(_entry(each) for each in fields.items("packages"))
            fields.done()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except (ConfigError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{path}: is no history of packages ({error}); move it away"
            ) from error
        return entries

    def use(
        self,
        package: Path,
        *,
        note: str = "",
        control: Path | None = None,
        trust: Trust | None = None,
        on_message: OnMessage = lambda message: None,
    ) -> KeptPackage:
        """Put a package in the place of the one in force, with the newest settings kept for it.

        Args:
            package: The new one.
            note: Why, for people.
            control: Socket of a line that runs: it takes the package first, and the file in force
                follows once the new engine has proved itself there. None where no line runs.
            trust: Who must have signed it; None takes it signed or not.
            on_message: Told what is waited for.

        Raises:
            PackageError: It cannot be used, or the line refused it or went back.
            ConfigError: Settings or history cannot be used.
            SourceError: No line answers on the socket.
            StorageError: It cannot be written.
        """
        with Package.open(package, trust=trust) as opened:
            package_id = opened.package_id
        version = max(
            (each.version for each in self.settings.history() if each.package_id == package_id),
            default=None,
        )
        return self._put(package, package_id, version, note, control, on_message)

    def put(
        self,
        wanted: KeptPackage,
        note: str = "",
        control: Path | None = None,
        on_message: OnMessage = lambda message: None,
    ) -> KeptPackage:
        """Put a package of the history in force again, with its settings, as they were.

        Args:
            wanted: Which; see `wanted`.
            note: Why, for people.
            control: As `use` takes it.
            on_message: As `use` takes it.

        Raises:
            PackageError: It cannot be used, or the line refused it or went back.
            ConfigError: Settings or history cannot be used.
            SourceError: No line answers on the socket.
            StorageError: It cannot be written.
        """
        return self._put(
            self.kept_file(wanted),
            wanted.package_id,
            wanted.settings_version,
            note,
            control,
            on_message,
        )

    def is_begun(self, wanted: KeptPackage) -> bool:
        """Whether a package is in force, or will be once its change is finished."""
        try:
            with Package.open(self.path) as opened:
                return self._next.exists() or opened.package_id == wanted.package_id
        except PackageError:
            return True

    def wanted(self, to: int | None = None) -> KeptPackage:
        """The package of the history to go back to; see `package_rollback.roll_back`.

        Args:
            to: Its number, from 1; None for the one before.

        Raises:
            ConfigError: There is none such.
        """
        self.finish()
        history = self._with_what_is_in_force(self.history())
        if to is None and len(history) < 2:
            raise ConfigError(
                f"{self.folder}: there is no package before the one in force to go back to; put "
                "another one in force: ssn-edge package use"
            )
        number = len(history) - 1 if to is None else to
        if not 1 <= number <= len(history):
            raise ConfigError(
                f"{self.folder}: there is no package {number} to go back to; {len(history)} are in "
                "the history: ssn-edge package list"
            )
        return history[number - 1]

    def kept_file(self, entry: KeptPackage) -> Path:
        """Where a package of the history lies."""
        return self.folder / entry.file

    def kept_settings(self, entry: KeptPackage) -> Path | None:
        """The settings that were in force with it; None for its own thresholds.

        Raises:
            ConfigError: They are no longer kept.
        """
        if entry.settings_version is None:
            return None
        path = self.settings.kept(entry.settings_version)
        if not path.exists():
            raise ConfigError(f"{path}: is no longer kept, and it went with this package")
        return path

    def finish(self) -> KeptPackage | None:
        """Take the steps that are left of a change that was cut short; what is in force since.

        Returns:
            None where no change was cut short.

        Raises:
            ConfigError: What is to be in force cannot be found.
            StorageError: It cannot be written.
        """
        if not self._next.exists():
            return None
        with self._lock():
            return self._finish()

    def _put(
        self,
        package: Path,
        package_id: str,
        version: int | None,
        note: str,
        control: Path | None,
        on_message: OnMessage,
    ) -> KeptPackage:
        self.finish()
        entry = _entry_of(package, version, note)
        if entry.package_id != package_id:
            raise PackageError(f"{package}: is another package than it was; look at the disk")
        settings = self.kept_settings(entry)
        self._keep(package, entry)
        if version is None:
            self.settings.current()  # one that cannot be read is not thrown away
        if control is not None:
            file = (self.folder / entry.file).absolute()
            have_line_take(control, file, settings, package_id, on_message)
        with self._lock():
            self._finish()
            history = self._with_what_is_in_force(self.history())
            if history and not self.kept_file(history[-1]).exists():
                self._keep(self.path, history[-1])
            write_whole(self._next, _document((*history, entry)), durable=True)
            self._finish()
        return entry

    def _finish(self) -> KeptPackage | None:
        """Each step may be taken again. Rename last: from then on there is nothing left to do."""
        history = self._read(self._next)
        if not history:
            return None
        entry = history[-1]
        settings = self.kept_settings(entry)
        data = self._content(entry)
        # A start in between that does not come by here must be refused, which rejects all: a
        # package with the settings of another one is, a package without any judges.
        if settings is not None:
            self.settings.roll_back(entry.settings_version)
        if not (self.path.exists() and self.path.read_bytes() == data):
            write_whole(self.path, data, durable=True)
        if settings is None:
            self.settings.path.unlink(missing_ok=True)
        try:
            if settings is None:
                sync_folder(self.settings.path.parent)
            self._next.replace(self.folder / HISTORY_NAME)
            sync_folder(self.folder)
        except OSError as error:
            raise StorageError(f"{self._next} cannot be renamed: {error.strerror}") from error
        self._retire(history)
        return entry

    def _content(self, entry: KeptPackage) -> bytes:
        path = self.kept_file(entry)
        try:
            with Package.open(path) as opened:
                if opened.package_id == entry.package_id:
                    return path.read_bytes()
        except OSError as error:
            raise PackageError(f"{path}: cannot be read ({error.strerror})") from error
        raise PackageError(f"{path}: is another package than it was; look at the disk")

    def _with_what_is_in_force(self, history: tuple[KeptPackage, ...]) -> tuple[KeptPackage, ...]:
        """The history with its end as it is now: settings change, and files come by hand."""
        try:
            current = self.settings.current()
            version = None if current is None else current.version
            with Package.open(self.path) as opened:
                package_id = opened.package_id
        except (ConfigError, PackageError):
            return history  # what cannot be read never judged
        if current is not None and current.package_id != package_id:
            return history
        if history and history[-1].package_id == package_id:
            return (*history[:-1], replace(history[-1], settings_version=version))
        return (*history, _entry_of(self.path, version, ""))

    def _keep(self, package: Path, entry: KeptPackage) -> None:
        data, target = package.read_bytes(), self.kept_file(entry)
        if not (target.exists() and target.read_bytes() == data):
            write_whole(target, data, durable=True)

    def _retire(self, history: tuple[KeptPackage, ...]) -> None:
        named = {each.file for each in history}
        for path in self.folder.glob("*.ssn"):
            if path.name not in named:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.folder / LOCK_NAME)


def find_in_force(
    package: Path | None,
    settings: Path | None,
    *,
    default: Path,
    on_message: OnMessage = lambda message: None,
) -> tuple[Path, Path | None]:
    """The package that is meant and its settings, once a change that was cut short is finished.

    Args:
        package: The one named; None for the one in this directory.
        settings: Those named; None for the default, if they are there.
        default: Where settings are.
        on_message: Told what was finished.

    Raises:
        PackageError: There is none, or more than one to choose from.
        ConfigError: There are no settings of that name, or the change cannot be finished.
        StorageError: It cannot be written.
    """
    path = find_package(package)
    if unfinished_change(path).exists():
        entry = PackageStore(path, settings or default).finish()
        if entry is not None:
            on_message(f"{path}: finished the change to {entry.package_id[:16]} that was cut short")
    return path, find_settings(settings, default=default)


def _entry_of(package: Path, version: int | None, note: str) -> KeptPackage:
    with Package.open(package) as opened:
        package_id = opened.package_id
    put_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return KeptPackage(package_id, f"{package_id[:16]}.ssn", version, put_at, note)


def _document(history: tuple[KeptPackage, ...]) -> bytes:
    packages = [asdict(each) for each in history[-PACKAGES_KEPT:]]
    return canonical_json({"schema": HISTORY_SCHEMA, "packages": packages}) + b"\n"


def _entry(item: object) -> KeptPackage:
    fields = Fields(item, "a package", refusal=ConfigError)
    entry = KeptPackage(
        package_id=fields.text("package_id"),
        file=fields.text("file"),
        settings_version=fields.whole_or_none("settings_version"),
        put_at=fields.text("put_at"),
        note=fields.text("note"),
    )
    fields.done()
    if entry.file != f"{entry.package_id[:16]}.ssn":
        raise ConfigError(f"it names {entry.file!r}")
    return entry
