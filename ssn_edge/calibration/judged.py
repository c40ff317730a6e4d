"""Held-out pictures through the very package and engine that will run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssn_edge.calibration.held_out import HeldOut
from ssn_edge_calibrate.composite import (
    PartScore,
    at_pixel_threshold,
    causes,
    part_score,
    reject_scores,
)
from ssn_edge_calibrate.groups import highest_of_groups, lowest_of_groups
from ssn_edge_calibrate.operating_point import RejectScores, Sample
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import ReviewZone, Thresholds
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe


@dataclass(frozen=True, slots=True)
class Judged:
    """Pictures with their labels, groups and scores, in one order.

    Args:
        labels: 0 normal, 1 anomalous.
        groups: Names.
        parts: What was found.
        unit: What is counted, ``pictures`` or ``groups``.
    """

    labels: tuple[int, ...]
    groups: tuple[str, ...]
    parts: tuple[PartScore, ...]
    unit: str

    def sample(self, min_area_px: float | None) -> Sample:
        """What thresholds are chosen by: a score for each picture, or for each group its worst.

        Args:
            min_area_px: As it will be in force; None for none.
        """
        good, defects = self._of(0), self._of(1)
        scores = reject_scores([self.parts[i] for i in good], min_area_px=min_area_px)
        found = reject_scores([self.parts[i] for i in defects], min_area_px=min_area_px)
        return Sample(
            good=_array(highest_of_groups(scores, [self.groups[i] for i in good])),
            defects=_array(lowest_of_groups(found, [self.groups[i] for i in defects])),
            unit=self.unit,
            causes=causes([self.parts[i] for i in good], min_area_px=min_area_px),
        )

    def of_good(self, value: Callable[[PartScore], float]) -> RejectScores:
        """Another number of the good parts, a group's largest, in the order of `sample`."""
        good = self._of(0)
        values = np.array([value(self.parts[i]) for i in good], dtype=np.float64)
        return _array(highest_of_groups(values, [self.groups[i] for i in good]))

    def among(self, groups: Iterable[str]) -> Judged:
        """Those of some groups."""
        wanted = frozenset(groups)
        return self._picked([i for i, group in enumerate(self.groups) if group in wanted])

    def at_pixel_threshold(self, pixel: float, min_area_px: float) -> Judged:
        """As another pixel threshold would leave them, for the area that they were judged for."""
        return replace(self, parts=tuple(at_pixel_threshold(self.parts, pixel, min_area_px)))

    def _of(self, label: int) -> list[int]:
        return [i for i, each in enumerate(self.labels) if each == label]

    def _picked(self, places: list[int]) -> Judged:
        return replace(
            self,
            labels=tuple(self.labels[i] for i in places),
            groups=tuple(self.groups[i] for i in places),
            parts=tuple(self.parts[i] for i in places),
        )


def _array(scores: dict[str, float]) -> RejectScores:
    return np.array(list(scores.values()), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Judge:
    """An inspector with a device's settings, for thresholds to be tried on.

    Args:
        inspector: Of the package, on the engine that will run.
        settings: What the thresholds will be added to: their region is what is judged.
        recipe: Which of their recipes.
        folder: Where they are, and a region's mask file beside them.
    """

    inspector: Inspector
    settings: DeviceSettings
    recipe: str | None
    folder: Path

    @property
    def thresholds(self) -> Thresholds:
        """Those that are in force up to now: the settings', or the package's own."""
        fitted = self.settings.fitted(self.inspector.precision, self._known_recipe)
        if fitted is not None:
            return fitted.thresholds
        return self.inspector.manifest.precisions[self.inspector.precision].thresholds

    @property
    def review(self) -> ReviewZone | None:
        """The review zone that is in force up to now."""
        fitted = self.settings.fitted(self.inspector.precision, self._known_recipe)
        return None if fitted is None else fitted.review

    def refuse_zones(self) -> None:
        """Bounds are of one threshold for all that is judged.

        Raises:
            ConfigError: The settings hold zones with thresholds of their own.
        """
        precision, recipe = self.inspector.precision, self._known_recipe
        fitted = self.settings.fitted(precision, recipe)
        zones = {*self.settings.zones_of(recipe, but=precision)}
        zones.update({} if fitted is None else fitted.zones)
        if zones:
            raise ConfigError(
                f"the settings hold zones ({', '.join(sorted(zones))}): what they reject is in no "
                "bound; remove them (ssn-edge settings set --remove-zone), calibrate, and set them "
                "again, which takes the promise away"
            )

    def judged(
        self,
        held_out: HeldOut,
        *,
        pixel: float,
        min_area_px: float | None,
        on_progress: Callable[[int, int], None],
    ) -> Judged:
        """Judge each picture, in their order.

        Args:
            held_out: The pictures.
            pixel: The pixel threshold that areas are found at.
            min_area_px: The area that a pixel threshold is fitted for; None for any pixel.
            on_progress: Called with pictures done and in all.

        Raises:
            PictureError: A picture cannot be read.
            ConfigError: The settings' region cannot be used.
        """
        self._put_in_force(Thresholds(self.thresholds.image, pixel, min_area_px))
        region = self.settings.region_of(self._known_recipe)
        mask = None
        if region is not None:
            mask = region.network_mask(self.inspector.geometry, self.folder)
        found = []
        for number, item in enumerate(held_out.items, start=1):
            decision = self.inspector.inspect(read_picture(item.image))
            found.append(part_score(decision, min_area_px=min_area_px, region_mask=mask))
            on_progress(number, len(held_out.items))
        return Judged(
            labels=tuple(item.label for item in held_out.items),
            groups=held_out.groups,
            parts=tuple(found),
            unit="pictures" if held_out.grouping is None else "groups",
        )

    @property
    def _known_recipe(self) -> str | None:
        """The recipe, if the settings hold it already; a new one begins as the general settings."""
        return self.recipe if self.recipe in self.settings.recipes else None

    def _put_in_force(self, thresholds: Thresholds) -> None:
        inspector = self.inspector
        fitted = {
            inspector.precision: Fitted(thresholds, inspector.engine_name, inspector.engine_sha256)
        }
        settings = replace(self.settings, precisions=fitted)
        if self.recipe is not None:
            own = self.settings.recipes.get(self.recipe, Recipe())
            settings = replace(settings, recipes={self.recipe: Recipe(fitted, own.region)})
        inspector.apply_settings(settings, self.recipe, folder=self.folder)
