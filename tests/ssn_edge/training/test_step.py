"""One step on synthetic features: which truth reaches which weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from ssn_edge.model.anomaly_generator import sample_keys
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.cache import Batch
from ssn_edge.training.regime import Regime, Supervision, supervision
from ssn_edge.training.step import StepResult, training_step


def batch_of(*, known: bool = True, weight: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(4, 16, 16, dtype=torch.bool)
    label = torch.tensor([True, True, False, False])
    if known:
        mask[:2, 3:9, 3:9] = True
    return Batch(
        layer2=torch.randn((4, 48, 8, 8), generator=generator),
        layer3=torch.randn((4, 192, 4, 4), generator=generator),
        mask=mask,
        weight=torch.full((4, 16, 16), weight),
        known=torch.tensor([known, known, True, True]),
        label=label,
    )


def step(net: SuperSimpleNet, batch: Batch, plan: Supervision, seed: int = 0) -> StepResult:
    net.train()
    net.zero_grad()
    result = training_step(
        net, batch, plan=plan, noise_std=0.5, keys=sample_keys(seed, 0, torch.arange(4))
    )
    result.loss.backward()  # type: ignore[no-untyped-call]
    return result


def gradient_norm(module: torch.nn.Module) -> float:
    return sum(
        float(p.grad.abs().sum()) if p.grad is not None else 0.0 for p in module.parameters()
    )


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("regime", Regime)
def test_a_step_trains_all_three_parts_in_every_regime(
    tiny_net: Callable[..., SuperSimpleNet], regime: Regime, variant: Variant
) -> None:
    net = tiny_net(variant=variant)
    result = step(net, batch_of(), supervision(regime, variant))
    assert result.loss.isfinite()
    for part in (net.heads.adaptor, net.heads.segmentation, net.heads.classification):
        assert gradient_norm(part) > 0
    assert result.label.shape == result.map_max.shape == (8,)
    assert result.label.view(2, 4)[:, :2].all()


def test_image_labels_alone_reach_the_segmentation_head_through_the_classifier(
    tiny_net: Callable[..., SuperSimpleNet],
) -> None:
    plan = supervision(Regime.WEAK, Variant.JOURNAL)
    unknown = batch_of(known=False)
    only_anomalous = dataclasses.replace(
        unknown, known=torch.zeros(4).bool(), label=torch.ones(4).bool()
    )
    net = tiny_net()
    step(net, only_anomalous, plan)
    assert gradient_norm(net.heads.segmentation) > 0
    step(net, only_anomalous, dataclasses.replace(plan, detach_map=True))
    assert gradient_norm(net.heads.segmentation) == 0
    assert gradient_norm(net.heads.adaptor) == 0
    assert gradient_norm(net.heads.classification) > 0


def test_pixels_weigh_in_the_journal_variant_alone(
    tiny_net: Callable[..., SuperSimpleNet],
) -> None:
    def loss(variant: Variant, weight: float) -> float:
        plan = supervision(Regime.FULL, variant)
        return float(step(tiny_net(variant=variant), batch_of(weight=weight), plan).loss.detach())

    assert loss(Variant.JOURNAL, 2.0) != loss(Variant.JOURNAL, 1.0)
    assert loss(Variant.CONFERENCE, 2.0) == loss(Variant.CONFERENCE, 1.0)


def test_a_step_follows_from_its_keys(tiny_net: Callable[..., SuperSimpleNet]) -> None:
    plan = supervision(Regime.FULL, Variant.JOURNAL)
    first, same, other = (
        float(step(tiny_net(), batch_of(), plan, seed).loss.detach()) for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_map_and_classifier_see_the_same_noise_on_both_copies_of_the_batch(
    tiny_net: Callable[..., SuperSimpleNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny_net()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    judge = net.heads.judge

    def listen(
        feature: torch.Tensor, adapted: torch.Tensor, *, detach_map: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((feature.detach(), adapted.detach()))
        return judge(feature, adapted, detach_map=detach_map)

    monkeypatch.setattr(net.heads, "judge", listen)
    batch = batch_of()
    step(net, batch, supervision(Regime.FULL, Variant.JOURNAL))
    clean = net.features(batch.layer2, batch.layer3)
    with torch.no_grad():
        adapted = net.heads.adaptor(clean)
    noise = seen[0][0] - clean.repeat(2, 1, 1, 1)
    assert torch.allclose(seen[0][1] - adapted.repeat(2, 1, 1, 1), noise, atol=1e-5)
    assert not noise.movedim(1, -1)[batch.mask.repeat(2, 1, 1)].any()
