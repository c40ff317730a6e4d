"""This device's settings as the page shows them; a threshold becomes their next version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_store import SettingsStore

NO_SETTINGS = (
    "the line runs with the package's own thresholds; to move one here, start it with settings: "
    "ssn-edge settings set --note begin, then ssn-edge run --settings settings.json"
)


class SettingsDesk:
    """The settings file of a line that runs; safe from several threads.

    The line takes a new version up by itself, between two parts; nothing here reaches into it.

    Args:
        path: The file in force; None where there is none.
        package: That is judged with.
    """

    def __init__(self, path: Path | None, package: Path) -> None:
        self._path = path
        self._package = package
        self._state: tuple[int, int, int] | None = None
        self._settings: DeviceSettings | None = None
        self._error: str | None = None

    def look(self) -> bool:
        """Read the file if it was replaced; whether it was."""
        if self._path is None:
            return False
        try:
            found = self._path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            state = None
        if state == self._state:
            return False
        self._state = state
        try:
            self._settings, self._error = SettingsStore(self._path).current(), None
        except SsnEdgeError as error:
            self._settings, self._error = None, str(error)
        return True

    def document(self, identity: Mapping[str, Any]) -> dict[str, object]:
        """What the page shows.

        Args:
            identity: The last record: what is in force, and for which recipe.
        """
        settings = self._settings
        return {
            "settings_id": None if settings is None else settings.settings_id,
            "version": None if settings is None else settings.version,
            "written_at": None if settings is None else settings.written_at,
            "note": None if settings is None else settings.note,
            "recipes": [] if settings is None else sorted(settings.recipes),
            "recipe": identity.get("recipe"),
            "threshold": identity.get("threshold"),
            "is_in_force": settings is not None
            and identity.get("settings_id") == settings.settings_id,
            "why_not": self._why_not(),
        }

    def apply(
        self, threshold: float, *, seen_id: str, identity: Mapping[str, Any], user: str
    ) -> DeviceSettings:
        """Save the next version, with another image threshold for what runs now.

        Args:
            threshold: A logit.
            seen_id: `settings_id` of the version that the user saw; another one in force refuses.
            identity: The last record: package, precision, engine and recipe that are judged with.
            user: For the note.

        Raises:
            ConfigError: There are no settings, others came between, or they do not fit.
            PackageError: The package cannot be read.
            StorageError: The disk does not take them.
        """
        if self._path is None:
            raise ConfigError(NO_SETTINGS)
        if identity.get("settings_id") != seen_id:
            raise ConfigError(
                "the line does not judge with these settings; look again, and then move it"
            )

        def changed(before: DeviceSettings | None) -> DeviceSettings:
            if before is None or before.settings_id != seen_id:
                raise ConfigError("somebody else changed the settings; look again, then move it")
            return self._changed(before, threshold, identity, user)

        return SettingsStore(self._path).save(changed)

    def _changed(
        self, before: DeviceSettings, threshold: float, identity: Mapping[str, Any], user: str
    ) -> DeviceSettings:
        precision, recipe = str(identity.get("precision")), identity.get("recipe")
        if before.package_id != identity.get("package_id"):
            raise ConfigError("the settings are for another package than the one that is judged")
        fitted = before.fitted(precision, recipe)
        if fitted is None:
            fitted = Fitted(
                self._own_thresholds(precision, before.package_id),
                str(identity.get("engine")),
                str(identity.get("engine_sha256")),
            )
        # A threshold that a person moved no longer carries what was promised for the old one.
        fitted = replace(fitted, thresholds=replace(fitted.thresholds, image=threshold), risk=None)
        note = f"page: {user} set the image threshold to {threshold:g}"
        if recipe is None:
            return replace(before, precisions={**before.precisions, precision: fitted}, note=note)
        own = before.recipes.get(recipe, Recipe())
        own = replace(own, precisions={**own.precisions, precision: fitted})
        return replace(before, recipes={**before.recipes, recipe: own}, note=note)

    def _own_thresholds(self, precision: str, package_id: str) -> Thresholds:
        with Package.open(self._package) as package:
            if package.package_id != package_id or precision not in package.manifest.precisions:
                raise ConfigError(f"{self._package}: is not the package that is judged with")
            return package.manifest.precisions[precision].thresholds

    def _why_not(self) -> str | None:
        if self._path is None or (self._settings is None and self._error is None):
            return NO_SETTINGS
        return self._error
