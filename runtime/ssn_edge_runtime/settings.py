"""What was fitted or chosen on this device: thresholds, regions, recipes, limits of the line.

A package is immutable; these settings lie beside it, in ``settings.json``. They are bound to the
package and to the engines that they were fitted on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ssn_edge_runtime.decision import ReviewZone, Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.manifest import PRECISIONS, Caught, Risk
from ssn_edge_runtime.region import Region
from ssn_edge_runtime.zones import MOST_ZONES, Zone

SETTINGS_SCHEMA = 1
SETTINGS_NAME = "settings.json"
SIGNATURE_ALGORITHM = "ed25519"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


ALARM_EVERY_PARTS = 10_000_000
"""Of drift: at ten parts a second one false alarm in eleven days, at most; a rarer one costs few
parts."""
LEAST_ALARM_EVERY_PARTS = 1000


@dataclass(frozen=True, slots=True)
class Fitted:
    """Thresholds of one precision, and what they were fitted on.

    Args:
        thresholds: In place of the package's.
        engine: Name of the engine that gave the scores.
        engine_sha256: Its identity, `Inspector.engine_sha256`; another engine refuses them.
        review: Scores that a person is to look at; None for none.
        risk: What the thresholds promise of good parts; None where nothing is promised.
        caught: What they promise of defects; likewise.
        zones: Parts of the frame with thresholds of their own, by name.
    """

    thresholds: Thresholds
    engine: str
    engine_sha256: str
    review: ReviewZone | None = None
    risk: Risk | None = None
    zones: Mapping[str, Zone] = field(default_factory=dict)
    caught: Caught | None = None

    def __post_init__(self) -> None:
        """Refuse a zone beside the threshold: scores between the two would be judged again."""
        zone = self.review
        if zone is not None and not zone.low <= self.thresholds.image <= zone.high:
            raise ConfigError(
                f"the review zone from {zone.low:g} to {zone.high:g} leaves out the image "
                f"threshold {self.thresholds.image:g}; it must reach it from both sides"
            )
        if not _SHA256.fullmatch(self.engine_sha256):
            raise ConfigError("the engine's SHA-256 is not one")
        if len(self.zones) > MOST_ZONES:
            raise ConfigError(f"there are {len(self.zones)} zones; {MOST_ZONES} can be kept")
        for name in self.zones:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"a zone is named {name!r}; letters, digits, _.- are wanted")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What differs for one product; what it leaves out is the general setting.

    Args:
        precisions: Thresholds by precision.
        region: What is judged of it; None for the general region.
    """

    precisions: Mapping[str, Fitted] = field(default_factory=dict)
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class LineSettings:
    """Limits of the line. None switches one off.

    Args:
        deadline_ms: From trigger to verdict.
        alarm_after: Rejects (fails and unknowns) in a row that raise an alarm.
        halt_after: Rejects in a row that halt the line.
        alarm_reject_rate: Share of rejects within the window that raises an alarm.
        halt_reject_rate: Share of rejects within the window that halts the line.
        reject_window_s: Length of that window, in seconds.
        reject_min_parts: Parts in the window below which its share says nothing.
        alarm_drift: Of drift alarms, at most one false one in so many parts.
        max_temperature_c: Above it every part is `unknown(overheated)`; None for what the device
            itself calls critical, less a margin.
        shifts: Local times at which a shift begins, such as ``06:00``.
        time_zone: Of the shifts, such as ``Europe/Berlin``; empty for the device's.
    """

    deadline_ms: float | None = None
    alarm_after: int | None = None
    halt_after: int | None = None
    alarm_reject_rate: float | None = None
    halt_reject_rate: float | None = None
    reject_window_s: float = 600.0
    reject_min_parts: int = 50
    alarm_drift: int | None = ALARM_EVERY_PARTS
    max_temperature_c: float | None = None
    shifts: tuple[str, ...] = ("06:00", "14:00", "22:00")
    time_zone: str = ""

    def __post_init__(self) -> None:
        """Refuse limits that would never, or always, strike."""
        for name in ("alarm_after", "halt_after"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigError(f"{name} is {count}; 1 or more parts in a row are wanted")
        for name in ("alarm_reject_rate", "halt_reject_rate"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise ConfigError(f"{name} is {share}; a share above 0, at most 1, is wanted")
        for name in ("deadline_ms", "reject_window_s"):
            span = getattr(self, name)
            if span is not None and not 0 < span <= 1e9:  # false for NaN, too
                raise ConfigError(f"{name} is {span}; a time above 0 is wanted")
        if self.reject_min_parts < 1:
            raise ConfigError(f"reject_min_parts is {self.reject_min_parts}; 1 or more is wanted")
        if self.alarm_drift is not None and self.alarm_drift < LEAST_ALARM_EVERY_PARTS:
            raise ConfigError(
                f"one false drift alarm in {self.alarm_drift} parts; {LEAST_ALARM_EVERY_PARTS} or "
                "more are wanted, or 0 for no alarms"
            )
        if self.max_temperature_c is not None and not 0 < self.max_temperature_c <= 150:
            raise ConfigError(
                f"max_temperature_c is {self.max_temperature_c}; 0 to 150 degrees are wanted"
            )
        if not self.shifts or len(set(self.shifts)) != len(self.shifts):
            raise ConfigError("shifts: at least one beginning is wanted, each once")
        for start in self.shifts:
            if not _TIME_OF_DAY.fullmatch(start):
                raise ConfigError(f"a shift begins at {start!r}; a time such as 06:00 is wanted")


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature over `DeviceSettings.signed_bytes`; `Trust.check_settings` checks it.

    Args:
        key_id: SHA-256 of the raw public key (32 bytes), in hexadecimal.
        value: The signature (64 bytes), in hexadecimal.
    """

    key_id: str
    value: str

    def __post_init__(self) -> None:
        """Refuse what has not the form of one."""
        if not _SHA256.fullmatch(self.key_id) or not re.fullmatch(r"[0-9a-f]{128}", self.value):
            raise ConfigError("the signature is not 64 bytes of an Ed25519 key, in hexadecimal")


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One version of a device's settings.

    Args:
        package_id: Of the package that they are for; another one refuses them.
        precisions: Thresholds by precision, each bound to its engine.
        version: Running number on this device, from 1; the store gives it.
        previous_id: `settings_id` of the version that this one was made from.
        written_at: UTC, as in ``2026-11-28T21:00:00Z``.
        note: Why, for people.
        region: What is judged of a frame; None for all of it.
        recipes: What differs for a product, by name.
        line: Limits of the line.
        signature: Outside of the hash.
    """

    package_id: str
    precisions: Mapping[str, Fitted] = field(default_factory=dict)
    version: int = 1
    previous_id: str | None = None
    written_at: str = ""
    note: str = ""
    region: Region | None = None
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    line: LineSettings = field(default_factory=LineSettings)
    signature: Signature | None = None

    def __post_init__(self) -> None:
        """Refuse names and hashes that are none."""
        if not _SHA256.fullmatch(self.package_id):
            raise ConfigError("the package id is not a SHA-256")
        if self.previous_id is not None and not _SHA256.fullmatch(self.previous_id):
            raise ConfigError("the id of the previous settings is not a SHA-256")
        if self.version < 1:
            raise ConfigError(f"settings of version {self.version}; they are counted from 1")
        for name in self.recipes:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"a recipe is named {name!r}; letters, digits, _.- are wanted")
        used = {*self.precisions}.union(*(each.precisions for each in self.recipes.values()))
        for precision in sorted(used - set(PRECISIONS)):
            raise ConfigError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")

    @property
    def hashed_bytes(self) -> bytes:
        """All but the signature, as canonical JSON."""
        from ssn_edge_runtime.settings_json import hashed_bytes

        return hashed_bytes(self)

    @property
    def settings_id(self) -> str:
        """SHA-256 of `hashed_bytes`, in hexadecimal: what a record names."""
        return hashlib.sha256(self.hashed_bytes).hexdigest()

    @property
    def signed_bytes(self) -> bytes:
        """What a signature is over: a line that says what is signed, and `hashed_bytes`."""
        return b"ssn-edge settings 1\n" + self.hashed_bytes

    def fitted(self, precision: str, recipe: str | None = None) -> Fitted | None:
        """The thresholds of a precision under a recipe; None where none were fitted.

        Raises:
            ConfigError: There is no such recipe.
        """
        own = self._recipe(recipe).precisions.get(precision)
        return self.precisions.get(precision) if own is None else own

    def zones_of(self, recipe: str | None = None, *, but: str) -> frozenset[str]:
        """Names of the zones that other precisions hold, where thresholds of one are looked for.

        Raises:
            ConfigError: There is no such recipe.
        """
        own = self._recipe(recipe).precisions
        held = [own] if but in own else [own, self.precisions]
        return frozenset(
            zone
            for each in held
            for name, fitted in each.items()
            if name != but
            for zone in fitted.zones
        )

    def region_of(self, recipe: str | None = None) -> Region | None:
        """What is judged of a frame under a recipe.

        Raises:
            ConfigError: There is no such recipe.
        """
        own = self._recipe(recipe).region
        return self.region if own is None else own

    def _recipe(self, name: str | None) -> Recipe:
        if name is None:
            return Recipe()
        if name not in self.recipes:
            held = ", ".join(sorted(self.recipes)) or "none"
            raise ConfigError(f"the settings hold no recipe {name!r}; they hold {held}")
        return self.recipes[name]
