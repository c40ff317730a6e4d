"""The packages that a device has had, each with the settings that went with it: use, list, go back.

The file in force is replaced in one step, as ``settings.json`` is; what was in force lies beside
it in ``packages/``, with ``history.json``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, PackageError, SourceError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.strict_json import Fields, canonical_json
from ssn_edge_runtime.trust import Trust

FOLDER = "packages"
HISTORY_NAME = "history.json"
HISTORY_SCHEMA = 1
PACKAGES_KEPT = 10
ANSWER_S = 300.0
"""Opening an engine takes its time; see the unit's start timeout."""
LOOK_S = 0.5

OnMessage = Callable[[str], None]


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

    def history(self) -> tuple[KeptPackage, ...]:
        """What was in force, oldest first; the last one is.

        Raises:
            ConfigError: It cannot be read.
        """
        path = self.folder / HISTORY_NAME
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

    def roll_back(
        self,
        to: int | None = None,
        *,
        note: str = "",
        control: Path | None = None,
        on_message: OnMessage = lambda message: None,
    ) -> KeptPackage:
        """Bring a package and its settings back, together, as they were.

        Args:
            to: Its number in the history, from 1; None for the one before.
            note: Why, for people.
            control: As `use` takes it.
            on_message: As `use` takes it.

        Raises:
            ConfigError: There is none such.
        """
        history = self.history()
        number = len(history) - 1 if to is None else to
        if not 1 <= number <= len(history):
            raise ConfigError(
                f"{self.folder}: there is no package {number} to go back to; {len(history)} are in "
                "the history: ssn-edge package list"
            )
        wanted = history[number - 1]
        kept = self.folder / wanted.file
        return self._put(
            kept, wanted.package_id, wanted.settings_version, note, control, on_message
        )

    def _put(
        self,
        package: Path,
        package_id: str,
        version: int | None,
        note: str,
        control: Path | None,
        on_message: OnMessage,
    ) -> KeptPackage:
        history = self.history()
        settings = None if version is None else self.settings.kept(version)
        if settings is not None and not settings.exists():
            raise ConfigError(f"{settings}: is no longer kept, and it went with this package")
        if not history and self.path.exists():
            history = (self._kept(self.path, self._version(), ""),)
        entry = self._kept(package, version, note)
        if entry.package_id != package_id:
            raise PackageError(f"{package}: is another package than it was; look at the disk")
        if control is not None:
            file = (self.folder / entry.file).absolute()
            have_line_take(control, file, settings, package_id, on_message)
        # Settings first: with those of another package a start is refused, which rejects all.
        if version is not None:
            self.settings.roll_back(version)
        elif self.settings.path.exists():
            self.settings.current()  # one that cannot be read is not thrown away
            self.settings.path.unlink()
        write_whole(self.path, (self.folder / entry.file).read_bytes(), durable=True)
        self._write((*history, entry))
        return entry

    def _version(self) -> int | None:
        current = self.settings.current()
        return None if current is None else current.version

    def _kept(self, package: Path, version: int | None, note: str) -> KeptPackage:
        with Package.open(package) as opened:
            package_id = opened.package_id
        name = f"{package_id[:16]}.ssn"
        data = package.read_bytes()
        target = self.folder / name
        if not (target.exists() and target.read_bytes() == data):
            write_whole(target, data, durable=True)
        put_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return KeptPackage(package_id, name, version, put_at, note)

    def _write(self, history: tuple[KeptPackage, ...]) -> None:
        history = history[-PACKAGES_KEPT:]
        document = {"schema": HISTORY_SCHEMA, "packages": [asdict(each) for each in history]}
        write_whole(self.folder / HISTORY_NAME, canonical_json(document) + b"\n", durable=True)
        named = {each.file for each in history}
        for path in self.folder.glob("*.ssn"):
            if path.name not in named:
                with contextlib.suppress(OSError):
                    path.unlink()


def have_line_take(
    control: Path,
    package: Path,
    settings: Path | None,
    package_id: str,
    on_message: OnMessage = lambda message: None,
) -> None:
    """Have a line that runs take a package, and wait until it has proved itself there.

    Raises:
        PackageError: The line refused it, or went back to the one before.
        SourceError: No line answers.
        ConfigError: A path that a line of text cannot hold.
    """
    words = ["package", str(package)] + ([] if settings is None else [str(settings.absolute())])
    if any(len(word.split()) != 1 for word in words):
        raise ConfigError(f"{package}: a line takes paths without blanks; move it")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
            talk.settimeout(ANSWER_S)
            talk.connect(str(control))
            with talk.makefile("rw") as lines:

                def ask(text: str) -> str:
                    lines.write(f"{text}\n")
                    lines.flush()
                    return lines.readline().strip()

                answer = ask(" ".join(words))
                if answer != f"package {package_id}":
                    reason = answer.removeprefix("error: ") or "the line ended"
                    raise PackageError(f"the line keeps its package: {reason}")
                on_message(
                    "the line judges with it; waiting until the new engine has proved itself"
                )
                while True:
                    told = ask("package").split()
                    if len(told) != 3 or told[1] != package_id:
                        raise PackageError(
                            "the line went back to the package before: the new engine failed; see "
                            "the package events in its log"
                        )
                    if told[2] == "settled":
                        return
                    time.sleep(LOOK_S)
    except OSError as error:
        raise SourceError(
            f"{control}: no line answers there ({error.strerror or error}); start one with "
            "--control, or leave --control out where none runs"
        ) from error


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
