"""The two losses, on logits.

Source:
    supersimplenet.md section 3, after blaz-r/SuperSimpleNet (MIT); written from the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 0.5
"""Normal logits are pushed below -0.5, anomalous ones above 0.5, and no further."""
FOCAL_GAMMA = 4.0


def _own(count: Tensor) -> Tensor:
    return count


@dataclass(frozen=True, slots=True)
class SegmentationLoss:
    """The three terms of the segmentation loss; each a scalar."""

    l1_normal: Tensor
    l1_anomalous: Tensor
    focal: Tensor

    @property
    def total(self) -> Tensor:
        """Their plain sum."""
        return self.l1_normal + self.l1_anomalous + self.focal


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss of each element, gamma 4, no class weight.

    Args:
        logits: Any shape, float32.
        target: Same shape, bool or float 0/1.
    """
    target = target.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = torch.sigmoid(logits)
    missed = torch.where(target > 0.5, 1 - probability, probability)  # 1 - p_t
    return missed**FOCAL_GAMMA * cross_entropy


def segmentation_loss_terms(
    map_logits: Tensor,
    mask: Tensor,
    *,
    known: Tensor,
    weight: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = _own,
) -> SegmentationLoss:
    """Truncated L1 and focal loss of the map, over pictures whose pixel truth is known.

    Args:
        map_logits: (B, h, w) float32.
        mask: (B, h, w) bool, real or synthetic anomaly.
        known: (B,) bool; a picture without pixel truth takes no part.
        weight: (B, h, w) float32 for each pixel, or None for 1 everywhere. The means are not
            normalised by it.
        total: Sums a count over all processes that share the batch.

    Returns:
        The terms; a mean over no pixels is 0. With several processes each has its share of them.
    """
    logits, mask = map_logits[known], mask[known]
    weighted = torch.ones_like(logits) if weight is None else weight[known]
    normal = F.relu(logits + MARGIN) * weighted
    anomalous = F.relu(MARGIN - logits) * weighted
    counts = total(torch.stack([(~mask).sum(), mask.sum()]).to(logits.dtype))
    return SegmentationLoss(
        l1_normal=(normal * ~mask).sum() / counts[0].clamp(min=1.0),
        l1_anomalous=(anomalous * mask).sum() / counts[1].clamp(min=1.0),
        focal=(focal_loss(logits, mask) * weighted).sum() / counts.sum().clamp(min=1.0),
    )


def classification_loss(
    score_logits: Tensor, label: Tensor, *, total: Callable[[Tensor], Tensor] = _own
) -> Tensor:
    """Focal loss of the scores, mean over all pictures.

    Args:
        score_logits: (B,).
        label: (B,) bool.
        total: Sums a count over all processes that share the batch.
    """
    count = total(score_logits.new_tensor([len(score_logits)]))
    return focal_loss(score_logits, label).sum() / count[0]
