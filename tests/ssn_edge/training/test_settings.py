from __future__ import annotations

import itertools
import math

import pytest

from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.errors import ConfigError


def milestones(epochs: int) -> list[tuple[int, float]]:
    settings = TrainingSettings(epochs=epochs)
    scales = [settings.lr_scale(epoch) for epoch in range(epochs)]
    changes = [
        (epoch + 1, after)
        for epoch, (before, after) in enumerate(itertools.pairwise(scales))
        if before != after
    ]
    assert scales[0] == 1.0
    return changes


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [
        (300, [(240, 0.4), (270, 0.16)]),
        (20, [(16, 0.4), (18, 0.16)]),
        (10, [(8, 0.4), (9, 0.16)]),
        (13, [(10, 0.4), (12, 0.16)]),
        (5, [(4, 0.16)]),
        (3, [(2, 0.4)]),
        (2, []),
        (1, []),
    ],
)
def test_learning_rates_fall_at_80_and_90_percent_of_the_epochs(
    epochs: int, steps: list[tuple[int, float]]
) -> None:
    found = milestones(epochs)
    assert [epoch for epoch, _ in found] == [epoch for epoch, _ in steps]
    assert [scale for _, scale in found] == pytest.approx([scale for _, scale in steps])


def test_defaults_are_the_published_numbers() -> None:
    settings = TrainingSettings()
    assert (settings.epochs, settings.batch_size) == (300, 32)
    assert (settings.adaptor_lr, settings.heads_lr) == (1e-4, 2e-4)
    assert (settings.adaptor_weight_decay, settings.heads_weight_decay) == (0.01, 1e-5)
    assert settings.lr_factor == 0.4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch size"),
        ({"seed": -1}, "seed"),
        ({"noise_std": 0.0}, "noise"),
        ({"noise_std": math.nan}, "noise"),
    ],
)
def test_what_cannot_train_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainingSettings(**wrong)  # type: ignore[arg-type]
