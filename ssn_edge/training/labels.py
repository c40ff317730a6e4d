"""Which pictures and masks of the training part a run uses, and the regime that they make."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.loading import has_pixel_truth
from ssn_edge.training.regime import Regime, find_regime
from ssn_edge_runtime.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class LabelChoice:
    """How much of the labels is used; None uses what there is.

    Args:
        regime: Train as if the labels held no more than this.
        masks: Keep the masks of so many defective pictures.
        max_normal: Use at most so many normal pictures, evenly picked.
        max_anomalous: Likewise anomalous ones.
    """

    regime: Regime | None = None
    masks: int | None = None
    max_normal: int | None = None
    max_anomalous: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingLabels:
    """The training part as a run uses it.

    Args:
        items: Its pictures; those whose mask is not used have none.
        regime: What their labels make.
        with_masks: Anomalous pictures whose defect pixels are known.
    """

    items: tuple[Item, ...]
    regime: Regime
    with_masks: int

    def describe(self) -> str:
        """One line: regime and counts."""
        anomalous = sum(item.is_anomalous for item in self.items)
        words = f"{self.regime.value}: {len(self.items) - anomalous} normal"
        if anomalous:
            words += f", {anomalous} defective, {self.with_masks} with masks"
        return words


def choose_labels(items: Sequence[Item], dataset: Dataset, choice: LabelChoice) -> TrainingLabels:
    """Drop pictures and masks that a run shall not use, and find its regime.

    Args:
        items: The training part.
        dataset: Where they are from.
        choice: What to keep.

    Raises:
        ConfigError: A regime that the labels cannot give, or more masks than there are.
    """
    kept = _limited(items, choice)
    if choice.regime is Regime.UNSUPERVISED:
        kept = [item for item in kept if not item.is_anomalous]
    masked = [
        item for item in kept if item.is_anomalous and has_pixel_truth(item, dataset.mask_rule)
    ]
    count = 0 if choice.regime is Regime.WEAK else choice.masks
    if choice.regime is Regime.WEAK and choice.masks:
        raise ConfigError(
            f"--regime weak uses no masks, --masks {choice.masks} asks for some; drop one of them"
        )
    if count is not None:
        kept = _without_masks(kept, masked, count, dataset)
    truth = [has_pixel_truth(item, dataset.mask_rule) for item in kept]
    found = find_regime([item.label for item in kept], truth)
    if choice.regime not in (None, found):
        raise ConfigError(_refusal(choice.regime, found, kept, len(masked)))
    with_masks = sum(
        known for item, known in zip(kept, truth, strict=True) if item.is_anomalous and known
    )
    return TrainingLabels(tuple(kept), found, with_masks)


def _limited(items: Sequence[Item], choice: LabelChoice) -> list[Item]:
    limits = ((0, choice.max_normal), (1, choice.max_anomalous))
    chosen = {
        item.image
        for label, most in limits
        for item in _evenly([item for item in items if item.label == label], most)
    }
    return [item for item in items if item.image in chosen]


def _evenly(items: Sequence[Item], most: int | None) -> Sequence[Item]:
    if most is None or most >= len(items):
        return items
    if most == 0:
        return []
    return [items[index] for index in np.linspace(0, len(items) - 1, most).astype(int)]


def _without_masks(
    items: Sequence[Item], masked: Sequence[Item], count: int, dataset: Dataset
) -> list[Item]:
    if count > len(masked):
        raise ConfigError(
            f"--masks {count} was asked for, {len(masked)} defective training pictures have one; "
            "ask for fewer, or drop the option to use them all"
        )
    keep = {item.image for item in _order(masked, dataset)[:count]}
    return [
        item
        if not item.is_anomalous or item.image in keep
        else dataclasses.replace(item, mask=None)
        for item in items
    ]


def _order(items: Sequence[Item], dataset: Dataset) -> list[Item]:
    """An order whose beginnings hold every kind of defect alike; fewer are part of more."""
    kinds: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: _hash(dataset.name_of(item.image))):
        kinds[item.defect_class or ""].append(item)
    rounds = zip_longest(*(kinds[name] for name in sorted(kinds)))
    return [item for item in chain.from_iterable(rounds) if item is not None]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _refusal(wanted: Regime, found: Regime, items: Sequence[Item], masks: int) -> str:
    anomalous = sum(item.is_anomalous for item in items)
    words = (
        f"regime {wanted.value} was asked for, the labels give {found.value}: {anomalous} "
        f"defective training pictures, {masks} of them with masks"
    )
    if wanted is Regime.MIXED and found is Regime.FULL:
        return f"{words}; say how many masks to use: --masks {max(1, masks // 5)}"
    return f"{words}; drop --regime, or add what is missing"
