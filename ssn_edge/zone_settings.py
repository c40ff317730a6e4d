"""Zones in a device's settings: made, changed, removed, shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ssn_edge.region_files import region_from_file, region_text
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.region import Polygon, Region
from ssn_edge_runtime.settings import Fitted
from ssn_edge_runtime.zones import Zone


@dataclass(frozen=True, slots=True)
class ZoneChange:
    """What is to change of one zone; None leaves a value as it is.

    Args:
        name: Of the zone; one that is not there yet is made.
        region: Where it lies: a file as of a region.
        polygons: The same as polygons in camera pixels, in place of a file.
        image_threshold: A logit.
        pixel_threshold: A logit.
        min_area_px: In camera pixels; 0 for the general one.
        is_removed: It is to go.
    """

    name: str
    region: Path | None = None
    polygons: tuple[Polygon, ...] = ()
    image_threshold: float | None = None
    pixel_threshold: float | None = None
    min_area_px: float | None = None
    is_removed: bool = False


def changed_zones(
    before: Mapping[str, Zone],
    change: ZoneChange | None,
    *,
    elsewhere: Iterable[Fitted],
    frame_size_hw: tuple[int, int] | None,
    folder: Path,
    made: list[Path],
) -> dict[str, Zone]:
    """The zones of a precision after a change.

    Args:
        before: Those of now.
        change: None for none.
        elsewhere: Other precisions' thresholds: a zone of the same name there says where it lies.
        frame_size_hw: Of the package's frames, for polygons; None where it states none.
        folder: Where the settings are.
        made: Takes a mask file, if one was written.

    Raises:
        ConfigError: There is no such zone to remove, no place for a new one, or one that is none.
    """
    zones = dict(before)
    if change is None:
        return zones
    if change.is_removed:
        if change.name not in zones:
            held = ", ".join(sorted(zones)) or "none"
            raise ConfigError(f"there is no zone {change.name!r} to remove; there are {held}")
        del zones[change.name]
        return zones
    old = zones.get(change.name)
    region = _region(change, frame_size_hw, folder, made)
    if region is None:
        named = [each.zones[change.name] for each in elsewhere if change.name in each.zones]
        known = [*([] if old is None else [old]), *named]
        if not known:
            raise ConfigError(
                f"zone {change.name!r} is new: say where it lies with --zone-polygon "
                "X,Y,X,Y,X,Y or --region FILE"
            )
        region = known[0].region
    given: dict[str, float | None] = {}
    for name, value in (
        ("image", change.image_threshold),
        ("pixel", change.pixel_threshold),
        ("min_area_px", change.min_area_px),
    ):
        if value is not None:
            given[name] = None if name == "min_area_px" and value == 0 else value
    zones[change.name] = (
        Zone(region, **given) if old is None else replace(old, region=region, **given)
    )
    return zones


def zone_lines(zones: Mapping[str, Zone]) -> list[str]:
    """Zones for a terminal."""
    lines = []
    for name, zone in sorted(zones.items()):
        values = {"image": zone.image, "pixel": zone.pixel, "area": zone.min_area_px}
        text = ", ".join(
            f"{what} {value:g}" + (" px" if what == "area" else "")
            for what, value in values.items()
            if value is not None
        )
        lines.append(f"zone {name}: {text}; {region_text(zone.region)}")
    return lines


def _region(
    change: ZoneChange, frame_size_hw: tuple[int, int] | None, folder: Path, made: list[Path]
) -> Region | None:
    if change.polygons and change.region is not None:
        raise ConfigError("a zone lies where --zone-polygon says, or --region; give one of them")
    if change.region is not None:
        if change.region == Path():
            raise ConfigError(
                f"a zone lies somewhere; to remove it: ssn-edge settings set --remove-zone "
                f"{change.name}"
            )
        return region_from_file(change.region, folder, made)
    if not change.polygons:
        return None
    if frame_size_hw is None:
        raise ConfigError(
            "the package does not state the size of its frames, so --zone-polygon is of no known "
            "frame; give --region FILE, JSON with frame_size_hw and include"
        )
    return Region(frame_size_hw, include=change.polygons)
