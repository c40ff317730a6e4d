"""The newest package and settings that a device has taken, so that older ones are noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.files import locked, write_whole
from ssn_edge_runtime.strict_json import Fields, canonical_json

STATE_NAME = "trust-state.json"
STATE_SCHEMA = 1
LARGEST_STATE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Returning:
    """A package that was in force here before, and that someone brings back on purpose.

    It alone is let pass, until it or another package judges: what was taken stays noted meanwhile,
    so that nothing else that is older slips in with it.

    Args:
        package_id: SHA-256 of its manifest.
        settings_version: Of the settings that come back with it; None for its own thresholds.
    """

    package_id: str
    settings_version: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """How far a device has come.

    Args:
        packages: Highest serial that was taken, by the package's name.
        settings: Highest version that was taken, by the package's id.
        returning: What may come back although it is older; None for nothing.
    """

    packages: Mapping[str, int]
    settings: Mapping[str, int]
    returning: Returning | None = None

    def is_returning(self, package_id: str) -> bool:
        """Whether someone brings this very package back."""
        return self.returning is not None and self.returning.package_id == package_id


class TrustState:
    """Its file: replaced as a whole, under a lock, and only where something changes.

    It protects from an old file that is brought from elsewhere, not from someone who may write
    here: keep it where only the line's own user may.

    Args:
        path: The file; it is made with the first package that is taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Accepted:
        """What was taken so far; nothing where there is no file yet.

        Raises:
            ConfigError: It cannot be read or understood: an old package would go unnoticed.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(LARGEST_STATE_BYTES + 1)
        except FileNotFoundError:
            return Accepted({}, {})
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror})") from error
        try:
            fields = Fields(json.loads(data), "the file", refusal=ConfigError)
            if fields.whole("schema") != STATE_SCHEMA:
                raise ConfigError(f"its schema is not {STATE_SCHEMA}")
            accepted = Accepted(
                _numbers(fields.entries("packages")),
                _numbers(fields.entries("settings")),
                _returning(fields),
            )
            fields.done()
        except (ConfigError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{self.path}: does not say which packages were taken ({error}); bring it back "
                "from a backup, or remove it to begin anew"
            ) from error
        return accepted

    def take_package(
        self,
        name: str,
        serial: int,
        *,
        package_id: str = "",
        has_settings: bool = True,
        goes_back: bool = False,
    ) -> None:
        """Note a package that judges now; what was let return is so no more, come or not.

        Args:
            name: Its manifest's.
            serial: Its signature's.
            package_id: SHA-256 of its manifest.
            has_settings: Whether device settings judge with it.
            goes_back: Whether a lower number replaces a higher one: someone said so.

        Raises:
            ConfigError: The file cannot be understood.
            StorageError: It cannot be written.
        """

        def change(before: Accepted) -> Accepted:
            settings = dict(before.settings)
            if not has_settings and before.returning == Returning(package_id, None):
                settings.pop(package_id, None)
            lowers = goes_back or before.is_returning(package_id)
            return Accepted(_raised(before.packages, name, serial, lowers), settings)

        self._change(change)

    def take_settings(self, package_id: str, version: int, *, goes_back: bool = False) -> None:
        """Note settings that are in force now; see `take_package`."""

        def change(before: Accepted) -> Accepted:
            lowers = goes_back or before.returning == Returning(package_id, version)
            return replace(before, settings=_raised(before.settings, package_id, version, lowers))

        self._change(change)

    def let_return(self, returning: Returning | None) -> None:
        """Let this one package come back, in place of any other; None for none.

        Raises:
            ConfigError: The file cannot be understood.
            StorageError: It cannot be written.
        """
        self._change(lambda before: replace(before, returning=returning))

    def _change(self, change: Callable[[Accepted], Accepted]) -> None:
        if change(before := self.read()) == before:
            return  # nothing is written, also where nothing may be
        with self._lock():
            before = self.read()
            after = change(before)
            if after == before:
                return
            document: dict[str, object] = {
                "schema": STATE_SCHEMA,
                "packages": dict(after.packages),
                "settings": dict(after.settings),
            }
            if after.returning is not None:
                document["returning"] = asdict(after.returning)
            write_whole(self.path, canonical_json(document) + b"\n", durable=True)

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self.path.with_name(f".{self.path.name}.lock"))


def _raised(before: Mapping[str, int], key: str, number: int, goes_back: bool) -> dict[str, int]:
    return {**before, key: number if goes_back else max(number, before.get(key, 0))}


def _returning(fields: Fields) -> Returning | None:
    if "returning" not in fields.names():
        return None
    inner = Fields(fields.entries("returning"), "returning", refusal=ConfigError)
    returning = Returning(inner.text("package_id"), inner.whole_or_none("settings_version"))
    inner.done()
    return returning


def _numbers(document: Mapping[str, object]) -> dict[str, int]:
    fields = Fields(dict(document), "a number", refusal=ConfigError)
    return {name: fields.whole(name) for name in fields.names()}
