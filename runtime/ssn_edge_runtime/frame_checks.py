"""Is this a picture of a part at all? Cheap looks at the network input, before the engine.

Dead, covered, over-exposed and defocused cameras still deliver frames, and to a network that learnt
what defects look like, a black frame may look flawless. Each measure is compared with what normal
training pictures showed, with a wide margin: a part must never trip it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import CalibrationError
from ssn_edge_runtime.manifest import InputStatistics, Range

MEAN_MARGIN_LEVELS = 20.0
"""A lamp ages and parts vary by less; a lamp that is off, or a lens cap, moves far more."""
MEAN_MARGIN_SHARE = 0.25
"""Of the seen range: where good parts differ much among themselves, the next may differ more."""
LIGHT_SHARE = 0.5
"""Half the light of the darkest part seen, or half as far from white as the brightest, is a fault
however much parts differ."""
LOWEST_CONTRAST_SHARE = 0.3
"""Of the lowest contrast seen: a fog, a cap or full saturation leaves less."""
CLIPPED_MARGIN_SHARE = 0.2
"""More black or white than ever seen, by a fifth of the frame: what lay there is lost."""
LOWEST_SHARPNESS_SHARE = 0.25
"""Of the lowest sharpness seen: a lens far out of focus leaves less, whatever it looks at."""
LOWEST_RELATIVE_SHARPNESS_SHARE = 0.5
"""Of the lowest seen as a share of the contrast, which no change of light moves; together with
`SOFT_SHARPNESS_SHARE`."""
SOFT_SHARPNESS_SHARE = 0.6
"""A large defect adds contrast, and takes from the share; it takes few edges away."""
BLACK, WHITE = 1, 254
"""Levels at, or beyond, which a value counts as clipped: resizing leaves them as they are."""

_CHANNELS = ("blue", "green", "red")


@dataclass(frozen=True, slots=True)
class InputMeasurement:
    """One network input in a few numbers, in 8-bit levels.

    Args:
        channel_means: For each channel in the camera's colour order (B, G, R).
        contrast: Standard deviation of the grey levels.
        sharpness: Mean absolute Laplacian of the grey levels.
        clipped: Share of the values of all channels that are black or white.
    """

    channel_means: tuple[float, float, float]
    contrast: float
    sharpness: float
    clipped: float

    @property
    def brightness(self) -> float:
        """Mean of the channel means, to a thousandth of a level."""
        return round(sum(self.channel_means) / 3, 3)

    @property
    def relative_sharpness(self) -> float:
        """Sharpness as a share of the contrast; 0 where there is none."""
        return self.sharpness / self.contrast if self.contrast else 0.0


def measure_input(pixels: ByteImage) -> InputMeasurement:
    """Measure a network input, (h, w, 3) uint8 BGR; some 0.1 ms at 256 x 256."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    blue, green, red, _ = cv2.mean(pixels)
    _, deviation = cv2.meanStdDev(grey)
    laplacian = cv2.Laplacian(grey, cv2.CV_16S)  # from -1020 to 1020
    values = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    unclipped = cv2.countNonZero(cv2.inRange(values, BLACK + 1, WHITE - 1))
    return InputMeasurement(
        channel_means=(blue, green, red),
        contrast=float(deviation[0, 0]),
        sharpness=float(cv2.norm(laplacian, cv2.NORM_L1)) / grey.size,
        clipped=1 - unclipped / values.size,
    )


def collect_statistics(measurements: Iterable[InputMeasurement]) -> InputStatistics:
    """The ranges that normal training pictures span.

    Raises:
        CalibrationError: There is no measurement.
    """
    seen = list(measurements)
    if not seen:
        raise CalibrationError("no normal picture was measured; input statistics need at least one")

    def span(values: Iterable[float]) -> Range:
        ordered = sorted(values)
        return Range(ordered[0], ordered[-1])

    return InputStatistics(
        channel_means=(
            span(each.channel_means[0] for each in seen),
            span(each.channel_means[1] for each in seen),
            span(each.channel_means[2] for each in seen),
        ),
        contrast=span(each.contrast for each in seen),
        sharpness=span(each.sharpness for each in seen),
        relative_sharpness=span(each.relative_sharpness for each in seen),
        clipped=span(each.clipped for each in seen),
    )


def check_input(
    measurement: InputMeasurement, statistics: InputStatistics
) -> tuple[Reason, str] | None:
    """What is wrong with a frame, for a person to read; None if nothing is."""
    if measurement.contrast == 0:
        # Whatever training saw: no camera that looks at a part gives one level everywhere.
        return Reason.BAD_EXPOSURE, f"every pixel has level {measurement.channel_means[0]:.0f}"
    return (
        _wrong_light(measurement, statistics)
        or _wrong_contrast(measurement, statistics)
        or _out_of_focus(measurement, statistics)
    )


def _wrong_light(
    measurement: InputMeasurement, statistics: InputStatistics
) -> tuple[Reason, str] | None:
    for channel, mean, seen in zip(
        _CHANNELS, measurement.channel_means, statistics.channel_means, strict=True
    ):
        margin = max(MEAN_MARGIN_LEVELS, MEAN_MARGIN_SHARE * (seen.high - seen.low))
        lowest = max(seen.low - margin, LIGHT_SHARE * seen.low)
        highest = min(seen.high + margin, 255 - LIGHT_SHARE * (255 - seen.high))
        if not lowest <= mean <= highest:
            return Reason.BAD_EXPOSURE, (
                f"mean {channel} level {mean:.0f}, {seen.low:.0f} to {seen.high:.0f} in training"
            )
    if measurement.clipped > statistics.clipped.high + CLIPPED_MARGIN_SHARE:
        return Reason.BAD_EXPOSURE, (
            f"{measurement.clipped:.0%} of the frame are black or white, at most "
            f"{statistics.clipped.high:.0%} in training"
        )
    return None


def _wrong_contrast(
    measurement: InputMeasurement, statistics: InputStatistics
) -> tuple[Reason, str] | None:
    if measurement.contrast < LOWEST_CONTRAST_SHARE * statistics.contrast.low:
        return Reason.BAD_EXPOSURE, (
            f"contrast {measurement.contrast:.1f}, at least {statistics.contrast.low:.1f} in "
            "training"
        )
    return None


def _out_of_focus(
    measurement: InputMeasurement, statistics: InputStatistics
) -> tuple[Reason, str] | None:
    sharpness, seen = measurement.sharpness, statistics.sharpness.low
    relative, seen_relative = (
        measurement.relative_sharpness,
        statistics.relative_sharpness.low,
    )
    is_relatively_soft = sharpness < SOFT_SHARPNESS_SHARE * seen and (
        relative < LOWEST_RELATIVE_SHARPNESS_SHARE * seen_relative
    )
    if sharpness < LOWEST_SHARPNESS_SHARE * seen or is_relatively_soft:
        return Reason.BLURRED_FRAME, (
            f"sharpness {sharpness:.2f}, {relative:.3f} of the contrast; at least {seen:.2f} and "
            f"{seen_relative:.3f} in training"
        )
    return None
