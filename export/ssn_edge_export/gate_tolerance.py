"""How far an engine on a device may be from the golden pictures' expected outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssn_edge_export.gate_judged import Judged
from ssn_edge_export.gate_limits import GateLimits
from ssn_edge_runtime.decision import Judgement, ScoringRule, Thresholds
from ssn_edge_runtime.manifest import MAX_MASK_SHARE, MAX_SCORE_TOLERANCE, Tolerance

_SMALLEST = Tolerance()
"""Another CPU adds in another order: what FP32 is allowed; nobody is allowed less."""
_UNSEEN = 2.0
"""Kernels of a device round in other places than those that were seen here."""
_MASK_LIMIT = MAX_MASK_SHARE / 2
"""Of a tolerance that is more than what was seen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far engines here were from what a precision's scores are fitted on.

    Args:
        score: Largest difference of a logit, over 1 plus the logit's magnitude.
        mask_share: Largest share of one mask's pixels that differ.
    """

    score: float = 0.0
    mask_share: float = 0.0

    def __or__(self, other: Seen) -> Seen:
        """The farther of two in each."""
        return Seen(max(self.score, other.score), max(self.mask_share, other.mask_share))


def seen_between(deciding: Judged, other: Judged) -> Seen:
    """How far one engine's judgements are from those of the deciding one, on the same pictures."""
    both = [
        index
        for index in range(len(deciding.verdicts))
        if index not in deciding.faults and index not in other.faults
    ]
    if not both:
        return Seen()
    wanted, found = deciding.logits[both], other.logits[both]
    differing = (deciding.masks[both] != other.masks[both]).mean(axis=(1, 2))
    return Seen(
        float(np.max(np.abs(found - wanted) / (1 + np.abs(wanted)))), float(differing.max())
    )


def seen_of(deciding: Judgement, other: Judgement) -> Seen:
    """The same of one picture."""
    pairs = (
        (deciding.classification_logit, other.classification_logit),
        (deciding.map_max_logit, other.map_max_logit),
    )
    return Seen(
        max(abs(found - wanted) / (1 + abs(wanted)) for wanted, found in pairs),
        float(np.mean(deciding.defect_mask != other.defect_mask)),
    )


def tolerance_of(
    seen: Seen,
    *,
    limits: GateLimits,
    spread: float,
    thresholds: Thresholds,
    rule: ScoringRule,
) -> Tolerance:
    """What another engine of this precision may differ by.

    Twice what engines here differed by, which the gate has judged, but beyond that no more than
    would move a score at the threshold by the cap of the flip margin.

    Args:
        seen: Between engines of this machine, over all pictures that the gate and the golden
            pictures hold.
        limits: For the cap.
        spread: Of normal pictures' scores.
        thresholds: Of the precision.
        rule: The package's scoring rule.
    """
    # A score moves by its logits' differences, each with its weight; plain rules have one of 1.
    weight = rule.classification + rule.map_max
    cap = limits.max_flip_margin * spread / (weight * (1 + abs(thresholds.image)))
    score = max(min(_UNSEEN * seen.score, max(cap, seen.score * 1.01)), _SMALLEST.score)
    mask = max(min(_UNSEEN * seen.mask_share, max(_MASK_LIMIT, seen.mask_share * 1.01)), 1e-3)
    return Tolerance(min(score, MAX_SCORE_TOLERANCE), min(mask, MAX_MASK_SHARE))
