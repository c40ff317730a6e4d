from __future__ import annotations

import pytest

from ssn_edge.model.variant import Variant
from ssn_edge.training.regime import (
    Regime,
    Supervision,
    default_scoring,
    find_regime,
    supervision,
)
from ssn_edge_runtime.decision import ScoringMethod


@pytest.mark.parametrize(
    ("labels", "pixel_truth", "regime"),
    [
        ([0, 0], [True, True], Regime.UNSUPERVISED),
        ([0, 0], [False, False], Regime.UNSUPERVISED),
        ([0, 1, 1], [True, False, False], Regime.WEAK),
        ([0, 1, 1], [True, True, False], Regime.MIXED),
        ([0, 1, 1], [True, True, True], Regime.FULL),
        ([0, 1, 1], [False, True, True], Regime.FULL),
        ([1], [True], Regime.FULL),
    ],
)
def test_the_regime_follows_from_the_labels_of_the_anomalous_pictures(
    labels: list[int], pixel_truth: list[bool], regime: Regime
) -> None:
    assert find_regime(labels, pixel_truth) is regime


@pytest.mark.parametrize(
    ("regime", "variant", "plan"),
    [
        (Regime.UNSUPERVISED, Variant.JOURNAL, Supervision(True, None, False, 0.2, False, False)),
        (
            Regime.UNSUPERVISED,
            Variant.CONFERENCE,
            Supervision(True, None, False, 0.2, False, False),
        ),
        (Regime.WEAK, Variant.JOURNAL, Supervision(False, 1.0, True, 0.2, True, True)),
        (Regime.MIXED, Variant.JOURNAL, Supervision(False, 1.0, True, 0.6, True, True)),
        (Regime.FULL, Variant.JOURNAL, Supervision(False, 1.0, True, 0.6, True, True)),
        (Regime.FULL, Variant.CONFERENCE, Supervision(False, 1.0, True, 0.6, False, False)),
    ],
)
def test_each_regime_and_variant_trains_with_the_published_settings(
    regime: Regime, variant: Variant, plan: Supervision
) -> None:
    assert supervision(regime, variant) == plan


def test_the_map_maximum_judges_without_real_defects_in_training_the_classifier_with_them() -> None:
    assert default_scoring(Regime.UNSUPERVISED) is ScoringMethod.MAP_MAX
    for regime in (Regime.WEAK, Regime.MIXED, Regime.FULL):
        assert default_scoring(regime) is ScoringMethod.CLASSIFICATION
