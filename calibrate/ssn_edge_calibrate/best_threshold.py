"""A threshold that is best on the parts at hand, by cost or by F1, and what is known of it then.

Who chooses the best of many thresholds has also chosen luck: what these parts show is too good.
So the bound comes from parts that did not choose, or from a band that holds for all thresholds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.operating_point import Bound, Kind, OperatingPoint, Sample, wrong_at
from ssn_edge_calibrate.risk_bounds import error_of, share_beyond, share_beyond_any
from ssn_edge_calibrate.thresholds import threshold_above, threshold_reached
from ssn_edge_runtime.errors import CalibrationError, ConfigError

_Shares = npt.NDArray[np.float64]
Gain = Callable[[_Shares, _Shares, int, int], _Shares]
"""Of false rejects and misses, in numbers, among so many good parts and defects; more is better."""


class BoundFrom(str, Enum):
    """Where the bound of a threshold comes from."""

    FIXED = "fixed"
    """It was chosen without these parts: by hand, or on others."""
    BAND = "band"
    """It was chosen on them: a band that holds for all thresholds."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Costs:
    """What a wrong verdict costs, in one currency, and how often parts are defective.

    Args:
        miss: A defect that passes.
        false_reject: A good part that does not.
        defect_rate: Share of defects among the parts of the line.
    """

    miss: float
    false_reject: float
    defect_rate: float

    def __post_init__(self) -> None:
        """Refuse costs that would make one verdict free."""
        if not (0 < self.miss < np.inf and 0 < self.false_reject < np.inf):
            raise ConfigError(
                f"a miss costs {self.miss:g} and a false reject {self.false_reject:g}; both must "
                "be above 0"
            )
        if not 0 < self.defect_rate < 1:
            raise ConfigError(
                f"the defect rate is {self.defect_rate:g}; a share above 0 and below 1 is wanted"
            )

    def gain(self, rejects: _Shares, misses: _Shares, good: int, defects: int) -> _Shares:
        """The expected cost of a part, with its sign turned."""
        return -self.expected(rejects / good, misses / defects)

    def expected(self, false_rejects: _Shares, missed: _Shares) -> _Shares:
        """The expected cost of a part, of both shares."""
        return (
            self.defect_rate * missed * self.miss
            + (1 - self.defect_rate) * false_rejects * self.false_reject
        )


def f1_gain(rejects: _Shares, misses: _Shares, good: int, defects: int) -> _Shares:
    """F1 of the defects among the parts at hand, in the mix that they are in."""
    found = defects - misses
    return 2 * found / (2 * found + rejects + misses)


def best_threshold(sample: Sample, gain: Gain) -> float:
    """The image threshold with the largest gain; of several the lowest, which misses least.

    Raises:
        CalibrationError: One of the two kinds of parts is missing, or it would be best to pass
            every part.
    """
    good, defects = np.sort(sample.good), np.sort(sample.defects)
    if not (good.size and defects.size):
        raise CalibrationError(
            f"there are {good.size} good parts and {defects.size} defects; the best threshold is "
            "between the two, so both are wanted"
        )
    finite = sample.finite
    if not finite.size:
        raise CalibrationError("no picture has a score, so no threshold can be found")
    passing = np.concatenate([[-np.inf], np.unique(finite)])  # the highest score that passes
    rejects = (good.size - np.searchsorted(good, passing, side="right")).astype(np.float64)
    misses = np.searchsorted(defects, passing, side="right").astype(np.float64)
    gains = gain(rejects, misses, good.size, defects.size)
    best = int(np.argmax(gains))
    if misses[best] == defects.size:
        raise CalibrationError(
            "the cheapest would be to pass every part; look at the costs and the defect rate"
        )
    if best == 0:
        return threshold_reached(float(finite[0]), finite)
    return threshold_above(float(passing[best]), finite)


def point_at(
    threshold: float, sample: Sample, confidence: float, origin: BoundFrom
) -> OperatingPoint:
    """What is known of a threshold that was chosen otherwise than by a promise.

    Args:
        threshold: For the image.
        sample: Parts to find bounds on; for `BoundFrom.FIXED`, that it was not chosen on.
        confidence: Of all bounds together.
        origin: Where they come from.
    """
    kinds = [Kind.FALSE_REJECTS] * bool(sample.good.size) + [Kind.MISSES] * bool(
        sample.defects.size
    )
    if origin is BoundFrom.NONE or not kinds:
        return OperatingPoint(threshold, None, ())
    error = error_of(confidence, len(kinds))
    share = share_beyond if origin is BoundFrom.FIXED else share_beyond_any
    bounds = []
    for kind in kinds:
        count, wrong = wrong_at(sample, kind, threshold)
        bounds.append(Bound(kind, share(wrong, count, error), count, wrong, error, False))
    return OperatingPoint(threshold, None, tuple(bounds))
