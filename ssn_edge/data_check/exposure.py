"""Pictures whose light, contrast or sharpness is far from that of the normal ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ssn_edge.data_check.findings import Finding, Kind, Severity
from ssn_edge.data_check.measure import Looked, PictureLook

OUTLIER_FROM = 5.0
"""Robust deviations (1.4826 times the median absolute one) from the median."""
FEWEST_FOR_OUTLIERS = 8
"""Pictures that say what is usual."""


@dataclass(frozen=True, slots=True)
class _Measure:
    """One number of a picture that should be like that of the others.

    Args:
        name: For people.
        value: Takes it from a picture.
        text: The number with its unit.
        least_gap: Nearer to the median than this is never odd, however alike the others are.
        low_too: Whether low values are odd as well.
        as_ratio: Whether deviations are factors; `least_gap` is one then.
    """

    name: str
    value: Callable[[PictureLook], float]
    text: Callable[[float], str]
    least_gap: float
    low_too: bool = True
    as_ratio: bool = False

    def scaled(self, look: PictureLook) -> float:
        """The number as it is compared."""
        value = self.value(look)
        # A flat picture has sharpness 0; a hundredth of a grey level is as good as none.
        return math.log(max(value, 0.01)) if self.as_ratio else value

    def usual(self, looks: Sequence[PictureLook]) -> _Usual:
        """What is usual among these pictures."""
        values = np.array([self.scaled(look) for look in looks])
        median = float(np.median(values))
        deviation = 1.4826 * float(np.median(np.abs(values - median)))
        least = math.log(self.least_gap) if self.as_ratio else self.least_gap
        return _Usual(self, median, max(OUTLIER_FROM * deviation, least))


@dataclass(frozen=True, slots=True)
class _Usual:
    """A measure with its usual range: `median` plus and minus `gap`, as it is compared."""

    measure: _Measure
    median: float
    gap: float

    def oddness(self, look: PictureLook) -> float:
        """How far off a picture is, in gaps; above 1 is odd."""
        off = (self.measure.scaled(look) - self.median) / self.gap
        return abs(off) if self.measure.low_too else off

    def words(self, look: PictureLook) -> str:
        """The value and the limits."""
        text = self.measure.text
        low, high = self.median - self.gap, self.median + self.gap
        if self.measure.as_ratio:
            low, high = math.exp(low), math.exp(high)
        limits = f"{text(max(low, 0.0))} to {text(high)}"
        if not self.measure.low_too:
            limits = f"up to {text(high)}"
        return f"{self.measure.name} {text(self.measure.value(look))} (usual: {limits})"


def _level(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


MEASURES = (
    _Measure("brightness", lambda look: look.brightness, _level, 5.0),
    _Measure("contrast", lambda look: look.contrast, _level, 3.0),
    _Measure("saturated pixels", lambda look: look.saturated, _percent, 0.05, low_too=False),
    _Measure("black pixels", lambda look: look.black, _percent, 0.05, low_too=False),
    _Measure("sharpness", lambda look: look.sharpness, _level, 1.5, as_ratio=True),
)


def exposure_findings(looked: Sequence[Looked]) -> list[Finding]:
    """Pictures far from the normal ones in brightness, contrast or sharpness, the oddest first."""
    readable = [(each.item, each.picture) for each in looked if each.picture is not None]
    normal = [look for item, look in readable if not item.is_anomalous]
    if len(normal) < FEWEST_FOR_OUTLIERS:
        normal = [look for _, look in readable]
    if len(normal) < FEWEST_FOR_OUTLIERS:
        return []
    usual = [measure.usual(normal) for measure in MEASURES]
    found: list[tuple[float, Finding]] = []
    for item, look in readable:
        odd = [each for each in usual if each.oddness(look) > 1]
        if odd:
            # A defect may well make a picture darker; a normal part should look like the others.
            severity = Severity.NOTE if item.is_anomalous else Severity.WARNING
            text = ", ".join(each.words(look) for each in odd)
            oddest = max(each.oddness(look) for each in odd)
            found.append((oddest, Finding(Kind.EXPOSURE, severity, text, (item.image,))))
    found.sort(key=lambda each: -each[0])
    return [finding for _, finding in found]
