"""The numbers of a scoring method, from held-out normal parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.decision import (
    LARGEST_WEIGHT,
    SMALLEST_WEIGHT,
    ScoringMethod,
    ScoringRule,
    plain_rule,
)
from ssn_edge_runtime.errors import CalibrationError, ScoreError

Logits = Sequence[float] | npt.NDArray[np.floating]


def fit_scoring_rule(
    method: ScoringMethod, classification_logits: Logits, map_max_logits: Logits
) -> ScoringRule:
    """A scoring method with its numbers.

    The combined score measures each logit in deviations from its mean over normal parts, and adds
    them: on one scale, neither outvotes the other. A deviation below a hundredth counts as that;
    one picture has no deviation, and the logits are added as they are.

    Args:
        method: How the logits become a score.
        classification_logits: Of held-out normal pictures, from what will decide.
        map_max_logits: Of the same pictures.

    Raises:
        CalibrationError: The combined score is wanted, and there is no picture.
        ScoreError: A logit is NaN or infinite.
    """
    if method is not ScoringMethod.COMBINED:
        return plain_rule(method)
    logits = np.array([classification_logits, map_max_logits], dtype=np.float64)
    count = logits.shape[1]
    if not count:
        raise CalibrationError(
            "there is no normal picture to fit the combined score on; add normal pictures to the "
            "calibration part, or train with --scoring classification"
        )
    if not np.isfinite(logits).all():
        raise ScoreError("a calibration logit is NaN or infinite; the network or export is broken")
    spreads = logits.std(axis=1, ddof=1) if count > 1 else np.ones(2)
    weights = np.clip(1.0 / np.maximum(spreads, 1e-9), SMALLEST_WEIGHT, LARGEST_WEIGHT)
    offset = -float(np.sum(weights * logits.mean(axis=1)))
    return ScoringRule(method, float(weights[0]), float(weights[1]), offset)
