"""Zones: parts of the frame with thresholds of their own, and what the network sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.judged_zones import JudgedZone, JudgedZones
from ssn_edge_runtime.preprocess import Geometry
from ssn_edge_runtime.region import Region, network_mask

MOST_ZONES = 64


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the frame with thresholds of its own; what it leaves out is the general one.

    Args:
        region: Where it lies, in camera pixels.
        image: For the score of the map's maximum in it, a logit.
        pixel: For the map in it, a logit.
        min_area_px: A defect that touches it fails the part from this area on, in camera pixels.
    """

    region: Region
    image: float | None = None
    pixel: float | None = None
    min_area_px: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no score can be compared with, and a zone that changes nothing."""
        if self.image is self.pixel is self.min_area_px is None:
            raise ConfigError(
                "a zone sets nothing: an image threshold, a pixel threshold or a minimum area is "
                "wanted"
            )
        self.thresholds(Thresholds(0.0, 0.0))

    def thresholds(self, general: Thresholds) -> Thresholds:
        """What holds in it."""
        return Thresholds(
            image=general.image if self.image is None else self.image,
            pixel=general.pixel if self.pixel is None else self.pixel,
            min_area_px=general.min_area_px if self.min_area_px is None else self.min_area_px,
        )


def judged_zones(
    zones: Mapping[str, Zone],
    general: Thresholds,
    *,
    region: Region | None,
    geometry: Geometry,
    folder: Path | None,
) -> JudgedZones:
    """Bring zones to the network's size, with the general thresholds for the rest.

    A network pixel belongs to each zone, and to the rest, of which it covers a camera pixel that is
    judged: on a border it meets the thresholds of both sides.

    Args:
        zones: By name, at least one.
        general: Thresholds outside of them, and what they leave out.
        region: What is judged of the frame; None for all of it.
        geometry: Of the package.
        folder: Where the settings are, and mask files beside them.

    Raises:
        ConfigError: A zone holds nothing of what is judged, was drawn on other frames than the
            region or another zone, or its mask file cannot be used.
    """
    size = (
        next(iter(zones.values())).region.frame_size_hw
        if region is None
        else (region.frame_size_hw)
    )
    is_judged = np.ones(size, np.bool_) if region is None else region.camera_mask(folder)
    rest = is_judged.copy()
    found: list[JudgedZone] = []
    for name in sorted(zones):
        zone = zones[name]
        if zone.region.frame_size_hw != size:
            (height, width), (own_height, own_width) = size, zone.region.frame_size_hw
            raise ConfigError(
                f"zone {name} was drawn on {own_width} x {own_height} pixels, the region or "
                f"another zone on {width} x {height}; draw it again"
            )
        inside = zone.region.camera_mask(folder) & is_judged
        rest &= ~inside
        mask = network_mask(inside, geometry)
        if not mask.any():
            raise ConfigError(
                f"zone {name} holds nothing of what is judged, so it would change nothing; draw it "
                f"again, or remove it: ssn-edge settings set --remove-zone {name}"
            )
        thresholds = zone.thresholds(general)
        found.append(
            JudgedZone(name, thresholds.image, thresholds.pixel, thresholds.min_area_px, mask)
        )
    outside = network_mask(rest, geometry)
    if outside.any():
        found.append(JudgedZone(None, general.image, general.pixel, general.min_area_px, outside))
    return JudgedZones(found, None if region is None else network_mask(is_judged, geometry))
