"""Zones as the decision rule sees them: which network pixels meet which cut-offs.

A pixel may lie in several zones, and on the border of one in the rest of the frame, too: it meets
the lowest cut-off of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.errors import ConfigError


@dataclass(frozen=True, slots=True, eq=False)
class JudgedZone:
    """A part of the map with its cut-offs.

    Args:
        name: Of the zone; None for the rest of what is judged.
        image: For the score of the map's maximum in here.
        pixel: For the map in here.
        min_area_px: Camera pixels from which on a defect that touches it fails the part; None for
            none.
        mask: Where it lies, (h, w) bool at the network's size.
    """

    name: str | None
    image: float
    pixel: float
    min_area_px: float | None
    mask: BoolMask


class JudgedZones:
    """All zones and the rest: together they are all that is judged.

    Args:
        zones: At least one, the rest last.
        judged: What is judged, (h, w) bool; None for everywhere.

    Raises:
        ConfigError: A judged pixel would meet no cut-off, or one that is not judged would.
    """

    def __init__(self, zones: Sequence[JudgedZone], judged: BoolMask | None = None) -> None:
        if not zones or any(not zone.mask.any() for zone in zones):
            raise ConfigError("a zone without a pixel, or no zone at all: nothing would be judged")
        shape = zones[0].mask.shape
        wanted = np.ones(shape, np.bool_) if judged is None else judged
        if any(zone.mask.shape != shape for zone in zones) or not np.array_equal(
            np.logical_or.reduce([zone.mask for zone in zones]), wanted
        ):
            raise ConfigError("zones and rest are not what is judged: a part could pass unseen")
        self.zones = tuple(zones)
        self.judged = wanted
        self.lowest_pixel = min(zone.pixel for zone in zones)
        """The engine's pixel threshold: its mask then holds that of each zone."""
        lowest = np.float32(self.lowest_pixel)
        # float32, as the graph compares.
        pixel = np.full(shape, np.inf, np.float32)
        for zone in zones:
            pixel[zone.mask] = np.minimum(pixel[zone.mask], np.float32(zone.pixel))
        self._pixel = pixel
        self._is_lowest = (pixel == lowest) | ~wanted
        self._above_lowest = np.where(wanted, pixel - lowest, np.float32(0))
        self.min_areas = self._areas()
        """The smallest minimum area at each pixel, (h, w) float64, infinite for none; None where no
        zone has one."""
        self._places = [np.flatnonzero(zone.mask) for zone in zones]

    @property
    def by_name(self) -> Mapping[str, JudgedZone]:
        """Without the rest."""
        return {zone.name: zone for zone in self.zones if zone.name is not None}

    def mask(self, anomaly_map: FloatArray, engine_mask: BoolMask) -> BoolMask:
        """The defect mask: each pixel at its own threshold.

        Args:
            anomaly_map: (h, w) float32 logits.
            engine_mask: (h, w) bool, made at `lowest_pixel` and held against the map already.
        """
        return np.asarray(np.where(self._is_lowest, engine_mask, anomaly_map >= self._pixel))

    def levelled(self, anomaly_map: FloatArray) -> FloatArray:
        """The map as far above `lowest_pixel` as it is above each pixel's own threshold."""
        return np.asarray(anomaly_map - self._above_lowest, dtype=np.float32)

    def deciding(
        self, anomaly_map: FloatArray, map_max_logit: float, score: Callable[[float], float]
    ) -> tuple[JudgedZone, float]:
        """The zone, or the rest, whose score lies highest above its threshold, and that score.

        If it is below the threshold, all are.

        Args:
            anomaly_map: (h, w) float32 logits.
            map_max_logit: The graph's own maximum of what is judged.
            score: Makes the raw score of a map maximum; never falls with it.
        """
        maxima = [float(anomaly_map.ravel().take(place).max()) for place in self._places]
        highest = max(maxima)
        # The graph's number, which may be a rounding away from the map's, stays the highest: so
        # zones with the general thresholds score what the whole frame does.
        scores = [
            score(map_max_logit if maximum == highest else min(maximum, map_max_logit))
            for maximum in maxima
        ]
        # The sign of a difference of floats is exact, so no score at its threshold is lost.
        margins = [raw - zone.image for raw, zone in zip(scores, self.zones, strict=True)]
        place = margins.index(max(margins))
        return self.zones[place], scores[place]

    def _areas(self) -> npt.NDArray[np.float64] | None:
        if all(zone.min_area_px is None for zone in self.zones):
            return None
        areas = np.full(self.judged.shape, np.inf, np.float64)
        for zone in self.zones:
            if zone.min_area_px is not None:
                areas[zone.mask] = np.minimum(areas[zone.mask], zone.min_area_px)
        return areas
