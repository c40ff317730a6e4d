"""Changing a device's settings: what `ssn-edge settings` does, callable from Python."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssn_edge.region_files import region_from_file, region_text
from ssn_edge.risk_words import promise_lines
from ssn_edge.zone_settings import ZoneChange, changed_zones, zone_lines
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ReviewZone, Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.in_force import put_in_force
from ssn_edge_runtime.manifest import Caught, Risk
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.supervision import ShiftCalendar
from ssn_edge_runtime.trust import Trust


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What is to change; None leaves a value as it is.

    Args:
        package: The model package that the settings are for.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`: thresholds are bound to
            the engine that runs.
        precision: ``auto``, or one of the package's.
        recipe: Changes thresholds and region of this recipe in place of the general ones.
        image_threshold: A logit.
        pixel_threshold: A logit.
        min_area_px: In camera pixels; 0 for none.
        review: The review zone's two logits; empty for none.
        region: A grey PNG of the camera's size, or JSON with ``frame_size_hw``, ``include`` and
            ``exclude``; an empty path for none.
        line: Fields of `LineSettings` by name.
        note: Why, for people.
        is_new: Begin anew, in place of changing the settings that are there.
        risk: What the thresholds promise of good parts; None for those that a person sets.
        caught: What they promise of defects; likewise.
        zone: A part of the frame with thresholds of its own; None for no change of one.
        trust: Who must have signed the package; None takes it signed or not.
    """

    package: Path
    engine: str = "auto"
    precision: str = "auto"
    recipe: str | None = None
    image_threshold: float | None = None
    pixel_threshold: float | None = None
    min_area_px: float | None = None
    review: tuple[float, ...] | None = None
    region: Path | None = None
    line: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    is_new: bool = False
    risk: Risk | None = None
    zone: ZoneChange | None = None
    caught: Caught | None = None
    trust: Trust | None = None


def change_settings(store: SettingsStore, change: SettingsChange) -> DeviceSettings:
    """Save the next version of a device's settings, once it was seen to fit package and engine.

    What does not change stays bound as it is; thresholds of the precision that runs are bound to
    the engine that runs now, which must be certified for the package and pass its self-test.

    Returns:
        The settings in force now.

    Raises:
        ConfigError: The settings there are for another package, or the new ones do not fit.
        EngineError: No engine that may decide here.
        PackageError: Not a whole, unchanged package.
        StorageError: The disk does not take them.
    """
    with Inspector.open(
        change.package,
        engine=change.engine,
        precision=change.precision,
        trust=None if change.trust is None else change.trust.for_a_trial(),
    ) as inspector:
        return change_settings_with(inspector, store, change)


def change_settings_with(
    inspector: Inspector, store: SettingsStore, change: SettingsChange
) -> DeviceSettings:
    """The same with an inspector of the package that is open already; see `change_settings`."""
    made: list[Path] = []

    def changed(before: DeviceSettings | None) -> DeviceSettings:
        base = settings_to_change(before, inspector, store.path, is_new=change.is_new)
        settings = _changed(base, change, inspector, store.path.parent, made)
        put_in_force(
            settings,
            inspector.manifest,
            package_id=inspector.package_id,
            precision=inspector.precision,
            engine=inspector.engine_name,
            engine_sha256=inspector.engine_sha256,
            recipe=change.recipe,
            folder=store.path.parent,
        )
        ShiftCalendar(settings.line.shifts, settings.line.time_zone)  # such a zone is known
        return settings

    try:
        return store.save(changed)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def settings_to_change(
    before: DeviceSettings | None, inspector: Inspector, path: Path, *, is_new: bool
) -> DeviceSettings:
    """The settings in force, or empty ones for the inspector's package.

    Raises:
        ConfigError: Those in force are for another package, and no new ones were asked for.
    """
    if before is None or is_new:
        return DeviceSettings(inspector.package_id)
    if before.package_id != inspector.package_id:
        raise ConfigError(
            f"{path} is for package {before.package_id[:16]}, this one is "
            f"{inspector.package_id[:16]}; begin new settings for it: add --new"
        )
    return before


def settings_lines(settings: DeviceSettings) -> list[str]:
    """Settings for a terminal."""
    before = "" if settings.previous_id is None else f", from {settings.previous_id[:12]}"
    lines = [
        f"version {settings.version} of {settings.written_at} ({settings.settings_id[:12]}{before})"
        + (f": {settings.note}" if settings.note else ""),
        f"  package {settings.package_id[:16]}, "
        + ("signed" if settings.signature is not None else "not signed"),
    ]
    parts = [("", settings.precisions, settings.region)]
    parts += [
        (f"recipe {name}: ", recipe.precisions, recipe.region)
        for name, recipe in settings.recipes.items()
    ]
    for name, precisions, region in parts:
        for precision, fitted in precisions.items():
            lines.append(f"  {name}{precision}: {_fitted_text(fitted)}")
            lines += [f"  {name}{precision}, {text}" for text in zone_lines(fitted.zones)]
            lines += [f"    promised: {line}" for line in promise_lines(fitted.risk, fitted.caught)]
        if region is not None:
            lines.append(f"  {name}region: {region_text(region)}")
    if not settings.precisions:
        lines.append("  thresholds: the package's own")
    line = settings.line
    limits = {
        "deadline": None if line.deadline_ms is None else f"{line.deadline_ms:g} ms",
        "alarm after": line.alarm_after,
        "halt after": line.halt_after,
        "alarm at": None if line.alarm_reject_rate is None else f"{line.alarm_reject_rate:.2%}",
        "halt at": None if line.halt_reject_rate is None else f"{line.halt_reject_rate:.2%}",
        "drift alarms": "none"
        if line.alarm_drift is None
        else f"one false one in {line.alarm_drift} parts",
        "hottest": None
        if line.max_temperature_c is None
        else f"{line.max_temperature_c:g} degrees C",
        "shifts": " ".join(line.shifts) + (f" {line.time_zone}" if line.time_zone else ""),
    }
    text = ", ".join(f"{name} {value}" for name, value in limits.items() if value is not None)
    return [*lines, f"  line: {text}"]


def _fitted_text(fitted: Fitted) -> str:
    thresholds, review = fitted.thresholds, fitted.review
    area = "" if thresholds.min_area_px is None else f", area {thresholds.min_area_px:g} px"
    zone = "" if review is None else f", review {review.low:g} to {review.high:g}"
    return (
        f"image {thresholds.image:g}, pixel {thresholds.pixel:g}{area}{zone}; "
        f"{fitted.engine} {fitted.engine_sha256[:12]}"
    )


def _changed(
    base: DeviceSettings,
    change: SettingsChange,
    inspector: Inspector,
    folder: Path,
    made: list[Path],
) -> DeviceSettings:
    own = base.recipes.get(change.recipe or "", Recipe(base.precisions, base.region))
    if change.recipe is not None and change.recipe not in base.recipes:
        own = Recipe()
    precisions = dict(own.precisions)
    fitted = _fitted(base, change, inspector, own, folder, made)
    if fitted is not None:
        precisions[inspector.precision] = fitted
    region = own.region
    if change.region is not None:
        is_none = change.region == Path()
        region = None if is_none else region_from_file(change.region, folder, made)
    settings = replace(base, note=change.note, line=replace(base.line, **change.line))
    if change.recipe is None:
        return replace(settings, precisions=precisions, region=region)
    recipes = {**base.recipes, change.recipe: Recipe(precisions, region)}
    return replace(settings, recipes=recipes)


def _fitted(
    base: DeviceSettings,
    change: SettingsChange,
    inspector: Inspector,
    own: Recipe,
    folder: Path,
    made: list[Path],
) -> Fitted | None:
    """Thresholds of the precision that runs; None where neither are set nor were."""
    recipe = change.recipe if change.recipe in base.recipes else None
    before = base.fitted(inspector.precision, recipe)
    package = inspector.manifest.precisions[inspector.precision]
    if before is None:
        before = Fitted(package.thresholds, "", "0" * 64, risk=package.risk)
        is_held = False
    else:
        is_held = change.recipe is None or inspector.precision in (
            base.recipes[recipe].precisions if recipe is not None else {}
        )
    old = before.thresholds
    thresholds = Thresholds(
        image=old.image if change.image_threshold is None else change.image_threshold,
        pixel=old.pixel if change.pixel_threshold is None else change.pixel_threshold,
        min_area_px=old.min_area_px if change.min_area_px is None else change.min_area_px or None,
    )
    review = before.review
    if change.review is not None:
        if len(change.review) not in (0, 2):
            raise ConfigError("the review zone is two logits, such as 1.5,2.5")
        review = ReviewZone(*change.review) if change.review else None
    zones = changed_zones(
        before.zones,
        change.zone,
        elsewhere=own.precisions.values(),
        frame_size_hw=inspector.manifest.frame_size_hw,
        folder=folder,
        made=made,
    )
    is_same = (thresholds, review, zones) == (old, before.review, dict(before.zones))
    # A threshold that a person moved no longer carries the promise, nor does it with another region
    # to be judged, in another zone, or with other scores to be reviewed.
    is_as_fitted = is_same and change.region is None
    is_fitted = change.risk is not None or change.caught is not None
    risk, caught = change.risk, change.caught
    if is_as_fitted and not is_fitted:
        risk, caught = before.risk, before.caught
    if not is_held and not is_fitted and is_same:
        return None
    return Fitted(
        thresholds,
        inspector.engine_name,
        inspector.engine_sha256,
        review=review,
        risk=risk,
        zones=zones,
        caught=caught,
    )
