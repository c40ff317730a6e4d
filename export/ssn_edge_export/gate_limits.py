"""How far a precision may decide otherwise than the trained net before it is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.errors import ConfigError

FLIP_QUANTILE = 0.999
"""Of the score differences: the margin within which a verdict may turn."""
_QUARTILES_OF_DEVIATION = 1.349
"""Between the quartiles of a bell-shaped distribution lie so many of its deviations."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What the gate lets pass. FP32 has none but `exact`, and no verdict may turn.

    Args:
        max_flip_margin: Cap of the margin around the image threshold within which a verdict may
            turn, in deviations of the held-out normal pictures' scores; 0 refuses any flip. A
            quarter is what the threshold itself is uncertain by: the 99 % quantile of n normal
            scores has a standard error of 3.7 / sqrt(n) deviations, a quarter with 220 pictures
            and more with fewer. Who has many pictures may want less.
        metric_points: Points (hundredths) that I-AUROC and AP-det may fall by.
        max_noise: Deviation of what a precision changes in the scores of normal pictures, as a
            share of their own deviation. Flips and metrics cannot tell a model that finds nothing
            where no held-out picture is anomalous, or where the net itself finds little; this can:
            scores that are no longer those of the net change by one deviation and more.
        exact: Largest difference of a logit or a map value in FP32, relative to the larger of 1
            and the net's value.
        max_pictures: Held-out pictures that everything is compared on, at most.
    """

    max_flip_margin: float = 0.25
    metric_points: float = 0.2
    max_noise: float = 0.5
    exact: float = 1e-3
    max_pictures: int = 200

    def __post_init__(self) -> None:
        """Refuse limits that limit nothing."""
        for name, value, most in (
            ("max_flip_margin", self.max_flip_margin, 2.0),
            ("metric_points", self.metric_points, 10.0),
            ("max_noise", self.max_noise, 1.0),
            ("exact", self.exact, 1e-2),
        ):
            if not 0 <= value <= most:  # false for NaN, too
                raise ConfigError(
                    f"the gate's {name} is {value}; 0 to {most:g} is wanted, more would let a "
                    "model pass that decides otherwise"
                )
        if self.max_pictures < 8:
            raise ConfigError(
                f"the gate is to compare {self.max_pictures} pictures; 8 are the least"
            )

    def flip_margin(self, differences: npt.NDArray[np.float64], spread: float) -> float:
        """Within so much of the threshold, in logits, a verdict may turn.

        Args:
            differences: Of the score's distance from its threshold, one a picture.
            spread: Of the normal pictures' scores; see `spread_of`.
        """
        if not differences.size:
            return 0.0
        quantile = float(np.quantile(np.abs(differences), FLIP_QUANTILE))
        return min(quantile, self.max_flip_margin * spread)

    @property
    def noise_within_metric_points(self) -> float:
        """Noise on scores that cannot make I-AUROC fall by more than `metric_points`.

        For bell-shaped scores I-AUROC is P(z), z the distance of both labels' means over the
        deviation of a difference. Noise of a share r of the scores' deviation divides z by
        sqrt(1 + r^2), so I-AUROC falls by about p(z) z r^2 / 2, at most by p(1) r^2 / 2.
        """
        steepest = math.exp(-0.5) / math.sqrt(2 * math.pi)
        return math.sqrt(2 * self.metric_points / 100 / steepest)

    def to_dict(self) -> dict[str, float]:
        """All of it by name, ready for JSON."""
        return asdict(self)


def spread_of(normal_scores: Sequence[float]) -> float:
    """How far normal pictures' scores lie apart: a standard deviation, in logits.

    The smaller of the plain one and that of the quartiles: one outlier must not widen the margin.
    One picture has none.
    """
    scores = np.asarray(normal_scores, dtype=np.float64)
    if scores.size < 2:
        return 0.0
    low, high = np.quantile(scores, (0.25, 0.75))
    spread = min(float(np.std(scores, ddof=1)), float(high - low) / _QUARTILES_OF_DEVIATION)
    return spread if math.isfinite(spread) else 0.0
