"""What an inspector judges with at this moment: one value, replaced as a whole between parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.arrays import BoolMask
from ssn_edge_runtime.decision import ReviewZone, ScoringMethod, Thresholds
from ssn_edge_runtime.errors import ConfigError, EngineError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.settings import DeviceSettings


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """Thresholds and region of one moment.

    Args:
        thresholds: The cut-offs.
        review: Scores for a person.
        region_mask: The graph's, (h, w) bool; None for everywhere.
        region_frame_size_hw: Frames that the region was drawn on; others are refused.
        settings_id: Of the device settings; None for the package's own thresholds.
        settings: They themselves.
        recipe: Its name.
    """

    thresholds: Thresholds
    review: ReviewZone | None = None
    region_mask: BoolMask | None = None
    region_frame_size_hw: tuple[int, int] | None = None
    settings_id: str | None = None
    settings: DeviceSettings | None = None
    recipe: str | None = None


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
        folder: Where the settings are, and a region's mask file beside them.

    Raises:
        ConfigError: They are for another package, hold no such recipe, or a region that cannot be
            used.
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
    if region is None:
        return InForce(
            thresholds, review, settings_id=settings.settings_id, settings=settings, recipe=recipe
        )
    if manifest.scoring_rule.method is ScoringMethod.CLASSIFICATION and (
        thresholds.min_area_px is None
    ):
        raise ConfigError(
            f"{name} have a region, but this package scores by classification, which sees the "
            "whole picture: it would change nothing; set a minimum area, or crop with --roi in "
            "training"
        )
    if manifest.frame_size_hw is not None and manifest.frame_size_hw != region.frame_size_hw:
        (height, width), (own_height, own_width) = region.frame_size_hw, manifest.frame_size_hw
        raise ConfigError(
            f"{name} have a region that was drawn on {width} x {height} pixels, the package's "
            f"frames have {own_width} x {own_height}; draw it again"
        )
    return InForce(
        thresholds,
        review,
        region_mask=region.network_mask(manifest.geometry, folder),
        region_frame_size_hw=region.frame_size_hw,
        settings_id=settings.settings_id,
        settings=settings,
        recipe=recipe,
    )
