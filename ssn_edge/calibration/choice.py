"""How thresholds are chosen: by what is promised, by cost, by F1, or by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from ssn_edge.calibration.judged import Judged
from ssn_edge_calibrate.best_threshold import BoundFrom, Costs, best_threshold, f1_gain, point_at
from ssn_edge_calibrate.composite import area_above
from ssn_edge_calibrate.groups import first_half
from ssn_edge_calibrate.operating_point import (
    Kind,
    OperatingPoint,
    RejectScores,
    Sample,
    Wish,
    bound_of,
    fit_region,
    floor_of,
    point_for_risk,
)
from ssn_edge_calibrate.thresholds import threshold_above
from ssn_edge_runtime.decision import ScoringMethod, Thresholds
from ssn_edge_runtime.errors import CalibrationError, ConfigError


class Fit(Enum):
    """In place of a number: found so that the promise holds."""

    FIT = "fit"


class BestBound(str, Enum):
    """Where the bound comes from of a threshold that is best on the pictures at hand."""

    BAND = "band"
    """A band that holds for all thresholds, from the pictures that chose."""
    HALF = "half"
    """One half of the groups chooses, the other bounds."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Choice:
    """How the image threshold is chosen, in one of four ways, and what lies beside it.

    Args:
        wish: By what is promised.
        costs: By expected cost.
        best_f1: By F1.
        image: By hand: a raw score.
        best_bound: Of costs and F1.
        confidence: Of bounds that were not promised.
        pixel: The pixel threshold; None keeps the one in force.
        min_area_px: In camera pixels, 0 for none; None keeps the one in force.
    """

    wish: Wish | None = None
    costs: Costs | None = None
    best_f1: bool = False
    image: float | None = None
    best_bound: BestBound = BestBound.BAND
    confidence: float = 0.95
    pixel: float | Fit | None = None
    min_area_px: float | Fit | None = None

    def __post_init__(self) -> None:
        """Refuse two ways at once, and what only a promise can fit."""
        ways = (self.wish is not None, self.costs is not None, self.best_f1)
        if sum((*ways, self.image is not None)) != 1:
            raise ConfigError(
                "the image threshold is chosen in one way: by risk (--max-false-reject, "
                "--min-caught), by cost (--cost-miss, --cost-false-reject, --defect-rate), "
                "--best-f1, or --image-threshold; give one"
            )
        if Fit.FIT in (self.pixel, self.min_area_px):
            if self.wish is None or self.wish.max_false_reject is None:
                raise ConfigError(
                    "pixel threshold and minimum area are fitted for false rejects: say how many "
                    "with --max-false-reject"
                )
            if self.wish.review_share is not None:
                # The second bound would be on scores that the fitted region has changed.
                raise ConfigError(
                    "a share for review goes with a pixel threshold and a minimum area that are "
                    "given, not fitted; give numbers, or --review caught"
                )
            if self.pixel is self.min_area_px:
                raise ConfigError(
                    "pixel threshold and minimum area cannot be fitted at once: any of the one "
                    "goes with some of the other; give one of them as a number"
                )
        if isinstance(self.min_area_px, float) and not 0 <= self.min_area_px < math.inf:
            raise ConfigError(f"a minimum area of {self.min_area_px}: 0 or more is wanted")

    def given(self, before: Thresholds) -> tuple[float, float | None]:
        """Pixel threshold and minimum area that pictures are judged with.

        Args:
            before: In force up to now.
        """
        pixel = self.pixel if isinstance(self.pixel, float) else before.pixel
        if self.min_area_px is None:
            return pixel, before.min_area_px
        return pixel, None if self.min_area_px is Fit.FIT else self.min_area_px or None


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What was chosen.

    Args:
        thresholds: All three.
        point: The image threshold, review zone and bounds.
        origin: How the bounds come about, for people.
        sample: What the point is on, at these thresholds.
    """

    thresholds: Thresholds
    point: OperatingPoint
    origin: str
    sample: Sample


def choose(
    choice: Choice,
    judged: Judged,
    *,
    pixel: float,
    min_area_px: float | None,
    scoring: ScoringMethod,
) -> Chosen:
    """Choose the thresholds.

    Args:
        choice: How.
        judged: With this pixel threshold and for this area.
        pixel: As `Choice.given` has it.
        min_area_px: The same.
        scoring: Of the package.

    Raises:
        CalibrationError: The pictures cannot carry what is to be promised.
    """
    if choice.wish is not None:
        return _by_risk(choice, choice.wish, judged, pixel, min_area_px, scoring)
    if choice.image is not None:
        sample = judged.sample(min_area_px)
        point = point_at(choice.image, sample, choice.confidence, BoundFrom.FIXED)
        origin = "a threshold by hand; the bounds hold if it was chosen without these pictures"
    else:
        point, sample, origin = _best(choice, judged, min_area_px)
    return Chosen(Thresholds(point.image, pixel, min_area_px), point, origin, sample)


def _best(choice: Choice, judged: Judged, area: float | None) -> tuple[OperatingPoint, Sample, str]:
    gain = f1_gain if choice.costs is None else choice.costs.gain
    name = "F1" if choice.costs is None else "expected cost"
    if choice.best_bound is BestBound.HALF:
        half = first_half(judged.groups)
        image = best_threshold(judged.among(half).sample(area), gain)
        sample = judged.among(set(judged.groups) - half).sample(area)
        point = point_at(image, sample, choice.confidence, BoundFrom.FIXED)
        return point, sample, f"best {name} on one half, bounds from the other half"
    sample = judged.sample(area)
    image = best_threshold(sample, gain)
    if choice.best_bound is BestBound.NONE:
        point = point_at(image, sample, choice.confidence, BoundFrom.NONE)
        return point, sample, f"best {name} on these {judged.unit}; nothing is promised"
    point = point_at(image, sample, choice.confidence, BoundFrom.BAND)
    return point, sample, f"best {name}, bounds by a band that holds for all thresholds at once"


def _by_risk(
    choice: Choice,
    wish: Wish,
    judged: Judged,
    pixel: float,
    area: float | None,
    scoring: ScoringMethod,
) -> Chosen:
    origin = "one-sided tolerance bounds by order statistics"
    share = wish.max_false_reject
    if share is not None and choice.min_area_px is Fit.FIT:
        areas = judged.of_good(lambda part: part.area_px)
        floor, largest = fit_region(judged.sample(None), areas, share, wish.error)
        area = area_above(largest, areas)
        sample = judged.sample(area)
        point = point_for_risk(sample, wish, floor=floor)
    elif share is not None and choice.pixel is Fit.FIT and area is not None:
        levels = judged.of_good(lambda part: part.pixel)
        floor, highest = fit_region(judged.sample(None), levels, share, wish.error)
        pixel = _pixel_above(highest, levels)
        sample = judged.at_pixel_threshold(pixel, area).sample(area)
        point = point_for_risk(sample, wish, floor=floor)
    elif share is not None and choice.pixel is Fit.FIT and scoring is not ScoringMethod.MAP_MAX:
        wish = replace(wish, beside=1)
        sample = judged.sample(None)
        point = point_for_risk(sample, wish)
        levels = judged.of_good(lambda part: part.pixel)
        marks = replace(sample, good=levels)
        pixel = _pixel_above(floor_of(marks, share, wish.error), levels)
        marked = bound_of(marks, Kind.MARKED, share, pixel, wish.error)
        point = replace(point, bounds=(*point.bounds, marked))
    else:
        sample = judged.sample(area)
        point = point_for_risk(sample, wish)
        if choice.pixel is Fit.FIT:
            pixel = point.image  # the score is the map's maximum: rejected and marked are one
    return Chosen(Thresholds(point.image, pixel, area), point, origin, sample)


def _pixel_above(highest: float, levels: RejectScores) -> float:
    finite = np.sort(levels[np.isfinite(levels)])
    if not finite.size:
        raise CalibrationError(
            "no good part has a region of the minimum area at any pixel threshold, so there is "
            "nothing to fit it to; give it as a number, or a smaller area"
        )
    return threshold_above(max(highest, float(finite[0])), finite)
