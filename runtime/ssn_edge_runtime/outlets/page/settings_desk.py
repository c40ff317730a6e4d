"""This device's settings as the page shows them; a threshold becomes their next version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.errors import ConfigError, SsnEdgeError
from ssn_edge_runtime.outlets.page.settings_signer import SettingsSigner
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
        signer: Of what is made here.
    """

    def __init__(self, path: Path | None, package: Path, signer: SettingsSigner) -> None:
        self._path = path
        self._package = package
        self._signer = signer
        self._state: tuple[int, int, int] | None = None
        self._settings: DeviceSettings | None = None
        self._error: str | None = None
        self._refusal: str | None = None

    def look(self) -> bool:
        """Read the file if it was replaced, see if a version may be made; whether either is new."""
        if self._path is None:
            return False
        is_new = self._read_again(self._path)
        before, self._refusal = self._refusal, self._refused(self._path)
        return is_new or self._refusal != before

    def _read_again(self, path: Path) -> bool:
        try:
            found = path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            state = None
        if state == self._state:
            return False
        self._state = state
        try:
            self._settings, self._error = SettingsStore(path).current(), None
        except SsnEdgeError as error:
            self._settings, self._error = None, str(error)
        return True

    def _refused(self, path: Path) -> str | None:
        if not os.access(path.parent, os.W_OK):
            return (
                f"the line's user may not write to {path.parent}; keep the settings where it may "
                "(of a systemd unit: in the folder of the decisions)"
            )
        return self._signer.refusal()

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
            "is_signed": settings is not None and settings.signature is not None,
            "signing_key_id": self._signer.key_id,
            "needs_signature": self._signer.needs_signature,
            "is_in_force": settings is not None
            and identity.get("settings_id") == settings.settings_id,
            "why_not": self._why_not(),
        }

    def apply(
        self, threshold: float, *, seen_id: str, identity: Mapping[str, Any], user: str
    ) -> DeviceSettings:
        """Save the next version, signed if there is a key, with another image threshold.

        Args:
            threshold: A logit, for what runs now.
            seen_id: `settings_id` of the version that the user saw; another one in force refuses.
            identity: The last record: package, precision, engine and recipe that are judged with.
            user: For the note.

        Raises:
            ConfigError: There are no settings, others came between, they do not fit, or the line
                takes nothing that is signed by this page.
            PackageError: The package cannot be read.
            SignatureError: The line would refuse the version, signed as it is.
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

        if (refusal := self._refused(self._path)) is not None:
            raise ConfigError(refusal)
        return SettingsStore(self._path).save(changed, signature_of=self._signer.signature_of)

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
        fitted = replace(
            fitted,
            thresholds=replace(fitted.thresholds, image=threshold),
            risk=None,
            caught=None,
        )
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
        return self._error or self._refusal
