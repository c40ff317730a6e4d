"""How much supervision a data set offers, and what training does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ssn_edge.model.variant import Variant
from ssn_edge_runtime.decision import ScoringMethod


class Regime(Enum):
    """What the labels of the training part hold."""

    UNSUPERVISED = "unsupervised"
    """Normal pictures only."""
    WEAK = "weak"
    """Image labels, no masks."""
    MIXED = "mixed"
    """Image labels, masks for some."""
    FULL = "full"
    """Masks for all anomalous pictures."""


@dataclass(frozen=True, slots=True)
class Supervision:
    """What a regime and a variant mean for training.

    Args:
        detach_map: Keep the classification loss out of segmentation head and adaptor.
        clip_norm: Global gradient norm, or None.
        flips: Four flipped versions of each anomalous picture.
        perlin_threshold: Size of synthetic regions; higher is smaller.
        dilate: Grow real masks by a 7 x 7 square at camera resolution.
        distance_weights: Weight real defect pixels by their distance to the rim.

    Source:
        supersimplenet.md sections 2.4 and 4.2.
    """

    detach_map: bool
    clip_norm: float | None
    flips: bool
    perlin_threshold: float
    dilate: bool
    distance_weights: bool


def find_regime(labels: Sequence[int], pixel_truth: Sequence[bool]) -> Regime:
    """The regime that the labels of a training part allow.

    Args:
        labels: 0 normal, 1 anomalous, for each picture.
        pixel_truth: For each picture, whether an anomalous one has a mask with a pixel set.
    """
    known = [truth for label, truth in zip(labels, pixel_truth, strict=True) if label]
    if not known:
        return Regime.UNSUPERVISED
    if all(known):
        return Regime.FULL
    return Regime.MIXED if any(known) else Regime.WEAK


def supervision(regime: Regime, variant: Variant) -> Supervision:
    """The published settings of a regime."""
    labelled = regime is not Regime.UNSUPERVISED
    journal = variant is Variant.JOURNAL
    return Supervision(
        detach_map=not labelled,
        clip_norm=1.0 if labelled else None,
        flips=labelled,
        perlin_threshold=0.6 if regime in (Regime.MIXED, Regime.FULL) else 0.2,
        dilate=labelled and journal,
        distance_weights=labelled and journal,
    )


def default_scoring(regime: Regime) -> ScoringMethod:
    """Map maximum without real defects in training, classification head with them.

    Source:
        product.md, decision rule; supersimplenet.md section 5.3: so it was on every published data
        set. The combination is a setting: where there were masks it won on the data of
        `ssn_edge/README.md`, and nobody has tried it on the published ones.
    """
    return ScoringMethod.MAP_MAX if regime is Regime.UNSUPERVISED else ScoringMethod.CLASSIFICATION
