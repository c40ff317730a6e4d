"""The optimiser's settings and the clipping, seen from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ssn_edge.data import read_dataset
from ssn_edge.data.masks import MaskRule
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.cache import FeatureCache
from ssn_edge.training.regime import Regime, supervision
from ssn_edge.training.sampling import EveryNormalOnce
from ssn_edge.training.settings import TrainingSettings
from ssn_edge.training.step import StepResult, training_step
from ssn_edge.training.trainer import Trainer
from ssn_edge_runtime.errors import CheckpointError, ConfigError
from ssn_edge_runtime.preprocess import Geometry


@pytest.fixture
def cache(tiles: Path, tiny_net: Callable[..., SuperSimpleNet]) -> FeatureCache:
    items = [item for item in read_dataset(tiles).items if item.split == "train"]
    return FeatureCache(
        items,
        tiny_net(),
        geometry=Geometry((64, 64)),
        mask_rule=MaskRule(127, "black and white"),
        flips=False,
        dilate=False,
        weighted=False,
        device=torch.device("cpu"),
    )


def trainer_of(
    net: SuperSimpleNet,
    cache: FeatureCache,
    *,
    regime: Regime = Regime.UNSUPERVISED,
    epochs: int = 10,
    batch_size: int = 10,
    precision: str = "fp32",
) -> Trainer:
    return Trainer(
        net,
        cache,
        EveryNormalOnce(cache.normals, 0),
        settings=TrainingSettings(epochs=epochs, batch_size=batch_size, precision=precision),
        plan=supervision(regime, Variant.JOURNAL),
        noise_std=0.5,
    )


@pytest.fixture
def groups_of_each_step(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, float]]]:
    """What AdamW was told at each step, and the gradient norm it saw."""
    seen: list[list[dict[str, float]]] = []
    step = torch.optim.AdamW.step

    def listen(self: torch.optim.AdamW) -> None:
        seen.append(
            [
                {
                    "lr": group["lr"],
                    "weight_decay": group["weight_decay"],
                    "squares": sum(float(p.grad.square().sum()) for p in group["params"]),
                }
                for group in self.param_groups
            ]
        )
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", listen)
    return seen


def test_each_part_has_the_published_learning_rate_and_decay_at_every_epoch(
    tiny_net: Callable[..., SuperSimpleNet],
    cache: FeatureCache,
    groups_of_each_step: list[list[dict[str, float]]],
) -> None:
    trainer_of(tiny_net(), cache).run()
    assert len(groups_of_each_step) == 10
    for epoch, groups in enumerate(groups_of_each_step):
        scale = 1.0 if epoch < 8 else 0.4 if epoch == 8 else 0.16
        assert [group["lr"] for group in groups] == pytest.approx(
            [1e-4 * scale, 2e-4 * scale, 2e-4 * scale]
        )
        assert [group["weight_decay"] for group in groups] == [0.01, 1e-5, 1e-5]


def test_gradients_are_clipped_to_a_norm_of_1_with_real_defects_only(
    tiny_net: Callable[..., SuperSimpleNet],
    cache: FeatureCache,
    groups_of_each_step: list[list[dict[str, float]]],
) -> None:
    def norms(regime: Regime) -> list[float]:
        groups_of_each_step.clear()
        trainer_of(tiny_net(), cache, regime=regime, epochs=2).run()
        return [sum(group["squares"] for group in step) ** 0.5 for step in groups_of_each_step]

    assert max(norms(Regime.UNSUPERVISED)) > 1.0
    assert max(norms(Regime.FULL)) == pytest.approx(1.0, abs=1e-4)


def test_the_last_partial_batch_is_kept(
    tiny_net: Callable[..., SuperSimpleNet], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    batch = cache.batch
    monkeypatch.setattr(
        cache, "batch", lambda rows, device: (sizes.append(len(rows)), batch(rows, device))[1]
    )
    trainer = trainer_of(tiny_net(), cache, epochs=2, batch_size=4)
    trainer.run()
    assert trainer.steps == 6
    assert sizes == [4, 4, 2, 4, 4, 2]


def test_training_changes_heads_alone(
    tiny_net: Callable[..., SuperSimpleNet], cache: FeatureCache
) -> None:
    net = tiny_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trainer_of(net, cache, epochs=1).run()
    changed = {
        name for name, value in net.state_dict().items() if not torch.equal(value, before[name])
    }
    assert all(name.startswith("heads.") for name in changed)
    assert {name for name, _ in net.named_parameters() if name.startswith("heads.")} <= changed
    assert not net.training


def test_every_step_draws_random_numbers_of_its_own(
    tiny_net: Callable[..., SuperSimpleNet], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, ...]] = []

    def listen(*args: object, keys: torch.Tensor, **others: object) -> StepResult:
        drawn.append(tuple(keys.tolist()))
        return training_step(*args, keys=keys, **others)  # type: ignore[arg-type]

    monkeypatch.setattr("ssn_edge.training.choose_step.split_training_step", listen)
    for _ in range(2):
        trainer_of(tiny_net(), cache, epochs=3).run()
    assert len(set(drawn)) == 3
    assert drawn[:3] == drawn[3:]


def test_a_state_of_another_net_is_refused(
    tiny_net: Callable[..., SuperSimpleNet], cache: FeatureCache
) -> None:
    trainer = trainer_of(tiny_net(), cache, epochs=1)
    trainer.run()
    state, counters = trainer.state(), trainer.counters()
    fresh = trainer_of(tiny_net(), cache, epochs=1)
    for tensors, numbers in [
        ({**state, "heads/adaptor.projection.bias": torch.zeros(3)}, counters),
        ({name: value for name, value in state.items() if "adaptor" not in name}, counters),
        (state, {}),
        (state, {**counters, "losses": None}),
        (state, {**counters, "losses": [None]}),
    ]:
        with pytest.raises(CheckpointError, match="does not fit this run"):
            fresh.restore(tensors, numbers)


def test_the_state_goes_on_at_the_very_step(
    tiny_net: Callable[..., SuperSimpleNet], cache: FeatureCache
) -> None:
    standardised = tiny_net()
    standardised.features.standardise_by(torch.linspace(-1, 1, 240), torch.full((240,), 0.3))
    whole = trainer_of(standardised, cache, epochs=4)
    whole.run()
    begun = tiny_net()
    begun.features.load_state_dict(standardised.features.state_dict())
    first = trainer_of(begun, cache, epochs=4)
    first.run(should_stop=lambda: first.step >= 2)
    second = trainer_of(tiny_net(seed=9), cache, epochs=4)
    second.restore(first.state(), first.counters())
    second.run()
    assert second.losses == whole.losses
    for name, value in whole.state().items():
        assert torch.equal(second.state()[name], value), name
    assert np.isfinite(second.losses).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_to_nearly_the_same_losses(
    tiny_net: Callable[..., SuperSimpleNet], cache: FeatureCache, precision: str
) -> None:
    def losses(precision: str) -> list[float]:
        net = tiny_net()
        trainer = trainer_of(net, cache, epochs=4, precision=precision)
        trainer.run()
        assert all(value.dtype is torch.float32 for value in net.heads.parameters())
        return trainer.losses

    assert losses(precision) == pytest.approx(losses("fp32"), rel=0.03)
    assert losses(precision) != losses("fp32")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision 'int8' is unknown; one of fp32, bf16, fp16"):
        TrainingSettings(precision="int8")
