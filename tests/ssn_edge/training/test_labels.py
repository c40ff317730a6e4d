"""Which pictures and masks a run uses, and what it calls that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.training.labels import LabelChoice, choose_labels
from ssn_edge.training.regime import Regime
from ssn_edge_runtime.errors import ConfigError

KINDS = ("crack", "dent", "scratch")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six normal pictures, nine defective ones of three kinds with masks, one with an empty one."""
    root = tmp_path_factory.mktemp("labels")

    def mask(name: str, *, drawn: bool) -> Path:
        path = root / f"{name}_mask.png"
        assert cv2.imwrite(str(path), np.full((8, 8), 255 if drawn else 0, dtype=np.uint8))
        return path

    items = [Item(root / f"good{n}.png", 0) for n in range(6)]
    for n in range(9):
        name = f"bad{n}"
        path = mask(name, drawn=True)
        items.append(Item(root / f"{name}.png", 1, path, defect_class=KINDS[n % 3]))
    items.append(Item(root / "bad9.png", 1, mask("bad9", drawn=False), defect_class="crack"))
    return Dataset(root, "made", tuple(items), MaskRule(127, "black and white"))


def test_an_empty_mask_is_no_pixel_truth_and_makes_full_labels_mixed(dataset: Dataset) -> None:
    labels = choose_labels(dataset.items, dataset, LabelChoice())
    assert labels.regime is Regime.MIXED
    assert labels.describe() == "mixed: 6 normal, 10 defective, 9 with masks"


@given(st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_fewer_masks_are_part_of_more_and_every_kind_has_its_share(
    dataset: Dataset, fewer: int, more: int
) -> None:
    fewer, more = sorted((fewer, more))

    def masked(count: int) -> set[Path]:
        chosen = choose_labels(dataset.items, dataset, LabelChoice(masks=count))
        assert chosen.with_masks == count
        assert len(chosen.items) == len(dataset.items)
        return {item.image for item in chosen.items if item.mask and item.image.stem != "bad9"}

    assert masked(fewer) <= masked(more)
    kinds = Counter(KINDS[int(path.stem[3:]) % 3] for path in masked(more))
    assert max(kinds.values(), default=0) - min((kinds[kind] for kind in KINDS), default=0) <= 1


def test_fewer_labels_than_there_are_make_a_lower_regime(dataset: Dataset) -> None:
    def made(choice: LabelChoice) -> tuple[Regime, int, int]:
        labels = choose_labels(dataset.items, dataset, choice)
        return labels.regime, sum(item.label for item in labels.items), labels.with_masks

    assert made(LabelChoice(regime=Regime.UNSUPERVISED)) == (Regime.UNSUPERVISED, 0, 0)
    assert made(LabelChoice(regime=Regime.WEAK)) == (Regime.WEAK, 10, 0)
    assert made(LabelChoice(regime=Regime.MIXED, masks=2)) == (Regime.MIXED, 10, 2)
    assert made(LabelChoice(masks=0)) == (Regime.WEAK, 10, 0)
    assert made(LabelChoice(max_anomalous=0)) == (Regime.UNSUPERVISED, 0, 0)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (LabelChoice(regime=Regime.FULL), "full was asked for, the labels give mixed"),
        (LabelChoice(masks=10), "--masks 10 was asked for, 9 defective"),
        (LabelChoice(regime=Regime.WEAK, masks=1), "drop one of them"),
    ],
)
def test_what_the_labels_cannot_give_is_refused(
    dataset: Dataset, choice: LabelChoice, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_labels(dataset.items, dataset, choice)


def test_mixed_without_a_number_says_which_number_to_give(dataset: Dataset) -> None:
    with_masks = [item for item in dataset.items if item.image.stem != "bad9"]
    with pytest.raises(ConfigError, match=r"--masks 1$"):
        choose_labels(with_masks, dataset, LabelChoice(regime=Regime.MIXED))
