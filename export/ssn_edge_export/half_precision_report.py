"""What a conversion to half precision did, for people and for the package."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssn_edge_export.half_precision_choice import KeepReason, WeightLoss


@dataclass(frozen=True, slots=True)
class KeptNode:
    """A node that stays in float32.

    Args:
        name: Of the node.
        operator: ONNX's name of it.
        reason: Why.
        largest: The largest magnitude that it read or wrote; None where it does neither.
    """

    name: str
    operator: str
    reason: KeepReason
    largest: float | None


@dataclass(frozen=True, slots=True)
class ScoreErrors:
    """The emulated half model against the float32 one, over all pictures.

    Args:
        classification: Largest difference of the classification logit.
        map_max: Largest difference of the map maximum.
        anomaly_map: Largest difference of a map value.
        classification_spread: Standard deviation of the logit over the pictures.
        map_max_spread: The same of the map maximum.
    """

    classification: float
    map_max: float
    anomaly_map: float
    classification_spread: float
    map_max_spread: float

    @property
    def share_of_spread(self) -> float:
        """The worse logit's largest difference, over its spread; infinite if that is 0."""
        return max(
            _share(self.classification, self.classification_spread),
            _share(self.map_max, self.map_max_spread),
        )


@dataclass(frozen=True, slots=True)
class HalfReport:
    """How a model came to half precision.

    Args:
        pictures: How many were run.
        margin: How many times larger than seen an activation may become.
        half_operators: Number of nodes in float16, by operator.
        half_share: Share of the multiply-accumulates in float16.
        kept: Nodes in float32.
        weights: Weights that float16 cannot hold, so their nodes are kept.
        casts: Between both types, in the file.
        errors: What it does to scores and map, on the same pictures.
        largest_error: What was allowed, as a share of a logit's spread.
        float_bytes: Size of the float32 file.
        half_bytes: Size of this one.
    """

    pictures: int
    margin: float
    half_operators: dict[str, int]
    half_share: float
    kept: tuple[KeptNode, ...]
    weights: tuple[WeightLoss, ...]
    casts: int
    errors: ScoreErrors
    largest_error: float
    float_bytes: int
    half_bytes: int

    def to_dict(self) -> dict[str, object]:
        """For JSON: no infinities, reasons as words."""
        return {
            "pictures": self.pictures,
            "margin": self.margin,
            "nodes_in_half": dict(self.half_operators),
            "share_of_products_in_half": self.half_share,
            "nodes_in_float": [
                {
                    "name": each.name,
                    "operator": each.operator,
                    "reason": each.reason.value,
                    "largest_activation": each.largest,
                }
                for each in self.kept
            ],
            "weights_in_float": [
                {
                    "name": each.name,
                    "largest": each.largest,
                    "share_zeroed": each.zeroed,
                    "loss": each.loss if math.isfinite(each.loss) else None,
                    "overflows": not math.isfinite(each.loss),
                }
                for each in self.weights
            ],
            "casts": self.casts,
            "score_differences": {
                "classification_logit": self.errors.classification,
                "map_max_logit": self.errors.map_max,
                "anomaly_map": self.errors.anomaly_map,
                "classification_spread": self.errors.classification_spread,
                "map_max_spread": self.errors.map_max_spread,
                "largest_allowed_share_of_spread": self.largest_error,
            },
            "float_bytes": self.float_bytes,
            "half_bytes": self.half_bytes,
        }


def _share(difference: float, spread: float) -> float:
    if difference == 0:
        return 0.0
    return difference / spread if spread > 0 else math.inf
