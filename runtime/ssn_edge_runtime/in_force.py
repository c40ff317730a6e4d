"""What an inspector judges with at this moment: one value, replaced as a whole between parts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ssn_edge_runtime.arrays import BoolMask
from ssn_edge_runtime.decision import ReviewZone, ScoringMethod, Thresholds
from ssn_edge_runtime.errors import ConfigError, EngineError
from ssn_edge_runtime.judged_zones import JudgedZone, JudgedZones
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.region import Region
from ssn_edge_runtime.settings import DeviceSettings, Fitted
from ssn_edge_runtime.zones import Zone, judged_zones

logger = logging.getLogger(__name__)

GENERAL = ""
"""Named in place of a recipe: the settings without one."""


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """Thresholds and region of one moment.

    Args:
        thresholds: The cut-offs.
        review: Scores for a person.
        region_mask: The graph's, (h, w) bool; None for everywhere.
        region_frame_size_hw: Frames that region and zones were drawn on; others are refused.
        settings_id: Of the device settings; None for the package's own thresholds.
        settings: They themselves.
        recipe: Its name.
        zones: Parts of the frame with thresholds of their own; None for none.
    """

    thresholds: Thresholds
    review: ReviewZone | None = None
    region_mask: BoolMask | None = None
    region_frame_size_hw: tuple[int, int] | None = None
    settings_id: str | None = None
    settings: DeviceSettings | None = None
    recipe: str | None = None
    zones: JudgedZones | None = None

    @property
    def zones_by_name(self) -> Mapping[str, JudgedZone]:
        """Zones with cut-offs of their own; empty for none."""
        return {} if self.zones is None else self.zones.by_name

    @property
    def engine_pixel(self) -> float:
        """The pixel threshold that the engine is given: the lowest of all."""
        return self.thresholds.pixel if self.zones is None else self.zones.lowest_pixel


@dataclass(frozen=True, slots=True, eq=False)
class AllInForce:
    """What the line judges with, and what a part that names its recipe is judged with.

    Args:
        own: The line's.
        recipes: Every recipe of the settings that can be used here, by name; `GENERAL` is what
            counts without one.
    """

    own: InForce
    recipes: Mapping[str, InForce] = field(default_factory=dict)


def put_all_in_force(
    settings: DeviceSettings,
    manifest: Manifest,
    *,
    package_id: str,
    precision: str,
    engine: str,
    engine_sha256: str,
    recipe: str | None = None,
    folder: Path | None = None,
    before: AllInForce | None = None,
) -> AllInForce:
    """As `put_in_force`, with every recipe; one that cannot be used here is left out, and logged.

    Of the settings that `before` was made of, the other recipes are not made a second time.

    Raises:
        ConfigError, EngineError: As `put_in_force`, for the recipe that is asked for.
    """
    put = partial(
        put_in_force,
        settings,
        manifest,
        package_id=package_id,
        precision=precision,
        engine=engine,
        engine_sha256=engine_sha256,
        folder=folder,
    )
    own = put(
        recipe=recipe
    )  # what is asked for is looked at anew: its mask's file may have changed
    if before is not None and before.own.settings_id == settings.settings_id:
        return AllInForce(own, {**before.recipes, recipe or GENERAL: own})
    recipes = {}
    for name in (GENERAL, *settings.recipes):
        try:
            recipes[name] = own if (name or None) == recipe else put(recipe=name or None)
        except (ConfigError, EngineError) as error:
            logger.warning(
                "%s cannot be used here: %s",
                f"recipe {name}" if name else "settings without a recipe",
                error,
            )
    return AllInForce(own, recipes)


def put_in_force(
    settings: DeviceSettings,
    manifest: Manifest,
    *,
    package_id: str,
    precision: str,
    engine: str,
    engine_sha256: str,
    recipe: str | None = None,
    folder: Path | None = None,
) -> InForce:
    """Check that settings are for this package and engine, and make of them what judges.

    Args:
        settings: Of this device.
        manifest: Of the package.
        package_id: The package's.
        precision: Of the model that runs.
        engine: The engine's name.
        engine_sha256: Its identity.
        recipe: Which recipe; None for the general settings.
        folder: Where the settings are, and mask files beside them.

    Raises:
        ConfigError: They are for another package, hold no such recipe, or a region or zones that
            cannot be used.
        EngineError: They were fitted on another engine, or for other precisions only.
    """
    name = f"settings version {settings.version} ({settings.settings_id[:12]})"
    if settings.package_id != package_id:
        raise ConfigError(
            f"{name} are for package {settings.package_id[:16]}, this one is {package_id[:16]}; "
            "calibrate again for this package, or begin new ones: ssn-edge settings set --new"
        )
    region = settings.region_of(recipe)
    fitted = settings.fitted(precision, recipe)
    if fitted is None:
        if settings.precisions:
            held = ", ".join(settings.precisions)
            raise EngineError(
                f"{name} hold thresholds for {held} and none for {precision}; recalibrate for it, "
                f"or run --precision {next(iter(settings.precisions))}"
            )
        thresholds, review = manifest.precisions[precision].thresholds, None
    else:
        if (fitted.engine, fitted.engine_sha256) != (engine, engine_sha256):
            raise EngineError(
                f"{name} were fitted for {precision} on engine {fitted.engine} "
                f"({fitted.engine_sha256[:12]}), this is {engine} ({engine_sha256[:12]}); "
                "recalibrate, or, if ssn-edge verify finds that it still decides right, take them "
                "over: ssn-edge settings set"
            )
        thresholds, review = fitted.thresholds, fitted.review
    zones = _zones(name, settings, manifest, fitted, precision=precision, recipe=recipe)
    if region is not None:
        _check_region(name, "a region", region, manifest)
        areas = [thresholds.min_area_px, *(zone.min_area_px for zone in zones.values())]
        if manifest.scoring_rule.method is ScoringMethod.CLASSIFICATION and not any(areas):
            raise ConfigError(
                f"{name} have a region, but this package scores by classification, which sees the "
                "whole picture: it would change nothing; set a minimum area, or crop with --roi in "
                "training"
            )
    drawn = [zone.region for zone in zones.values()] if region is None else [region]
    return InForce(
        thresholds,
        review,
        region_mask=None if region is None else region.network_mask(manifest.geometry, folder),
        region_frame_size_hw=drawn[0].frame_size_hw if drawn else None,
        settings_id=settings.settings_id,
        settings=settings,
        recipe=recipe,
        zones=judged_zones(
            zones, thresholds, region=region, geometry=manifest.geometry, folder=folder
        )
        if zones
        else None,
    )


def _zones(
    name: str,
    settings: DeviceSettings,
    manifest: Manifest,
    fitted: Fitted | None,
    *,
    precision: str,
    recipe: str | None,
) -> Mapping[str, Zone]:
    """The zones of a precision, none of them left behind with another one."""
    zones: Mapping[str, Zone] = {} if fitted is None else fitted.zones
    missing = sorted(settings.zones_of(recipe, but=precision) - set(zones))
    if missing:
        raise EngineError(
            f"{name} hold zone {missing[0]} for another precision and not for {precision}; set it "
            f"for this one, too: ssn-edge settings set --precision {precision} --zone {missing[0]}"
        )
    for zone_name, zone in zones.items():
        _check_region(name, f"zone {zone_name}", zone.region, manifest)
        if manifest.scoring_rule.method is ScoringMethod.CLASSIFICATION and zone.image is not None:
            raise ConfigError(
                f"{name} have an image threshold in zone {zone_name}, but this package scores by "
                "classification, which sees the whole picture; set a pixel threshold and a minimum "
                "area there, or export with --scoring map_max"
            )
    return zones


def _check_region(name: str, what: str, region: Region, manifest: Manifest) -> None:
    if manifest.frame_size_hw is not None and manifest.frame_size_hw != region.frame_size_hw:
        (height, width), (own_height, own_width) = region.frame_size_hw, manifest.frame_size_hw
        raise ConfigError(
            f"{name} have {what} that was drawn on {width} x {height} pixels, the package's "
            f"frames have {own_width} x {own_height}; draw it again"
        )
