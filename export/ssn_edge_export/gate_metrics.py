"""Change of the metrics from the net to an exported model, with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.bootstrap import percentiles, resampled_metrics
from ssn_edge_calibrate.metrics import ImageMetrics, image_metrics, pixel_metrics
from ssn_edge_runtime.arrays import BoolMask, FloatArray

_POINTS = 100.0


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric of the net and of the model, on the same pictures; shares of 1.

    Args:
        name: Such as ``I-AUROC``.
        of_net: Of the trained net.
        of_model: Of the exported model.
        interval: Of the change (model less net), 95 %, by a paired bootstrap over the pictures;
            None where it is not worked out.
    """

    name: str
    of_net: float
    of_model: float
    interval: tuple[float, float] | None = None

    @property
    def change_points(self) -> float:
        """Points (hundredths) that the model is better by; below 0 it is worse."""
        return _POINTS * (self.of_model - self.of_net)

    def is_beyond(self, points: float) -> bool:
        """Whether the metric fell by more than so many points, as far as the pictures can tell.

        They can where the interval is no wider than the limit to both sides. Where it is wider,
        only a fall that is no accident (the whole interval below zero) counts.
        """
        if self.interval is None or self.change_points >= -points:
            return False
        return self.can_tell(points) or self.interval[1] < 0

    def can_tell(self, points: float) -> bool:
        """Whether the pictures are enough to tell a change of so many points."""
        if self.interval is None:
            return False
        low, high = self.interval
        return _POINTS * (high - low) <= 2 * points

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {**asdict(self), "change_points": self.change_points}


def image_changes(
    labels: npt.NDArray[np.int64],
    of_net: npt.NDArray[np.float64],
    of_model: npt.NDArray[np.float64],
) -> tuple[MetricChange, ...]:
    """I-AUROC and AP-det of both, or nothing where one of the labels is missing.

    Args:
        labels: 0 normal, 1 anomalous; one a picture.
        of_net: Scores of the trained net.
        of_model: Scores of the exported model.
    """
    net, model = image_metrics(labels, of_net), image_metrics(labels, of_model)
    if net.i_auroc is None:
        return ()
    changes = np.zeros((1, 2))
    if not np.array_equal(_ranks(of_net), _ranks(of_model)):  # else every resample is equal, too
        resampled = resampled_metrics(labels, [of_model, of_net])
        changes = resampled[0] - resampled[1]
    low, high = percentiles(changes)
    return tuple(
        MetricChange(name, float(a), float(b), (float(low[place]), float(high[place])))
        for place, (name, a, b) in enumerate(
            zip(("I-AUROC", "AP-det"), _both(net), _both(model), strict=True)
        )
    )


def _ranks(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The place of each among the distinct scores: all that a metric looks at."""
    return np.unique(scores, return_inverse=True)[1]


def pixel_changes(
    truths: list[BoolMask], of_net: list[FloatArray], of_model: list[FloatArray]
) -> tuple[MetricChange, ...]:
    """P-AUROC and AP-loc of both, or nothing where no defect is drawn; without intervals."""
    if not any(truth.any() for truth in truths):
        return ()
    net, model = pixel_metrics(of_net, truths), pixel_metrics(of_model, truths)
    changes = []
    pick: tuple[tuple[str, Callable[..., float | None]], ...] = (
        ("P-AUROC", lambda metrics: metrics.p_auroc),
        ("AP-loc", lambda metrics: metrics.ap_loc),
    )
    for name, value in pick:
        a, b = value(net), value(model)
        if a is not None and b is not None:
            changes.append(MetricChange(name, a, b))
    return tuple(changes)


def _both(metrics: ImageMetrics) -> npt.NDArray[np.float64]:
    return np.array([metrics.i_auroc, metrics.ap_det], dtype=np.float64)
