"""The split step against autograd on the straightforward one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ssn_edge.model.anomaly_generator import sample_keys
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.cache import Batch
from ssn_edge.training.regime import Regime, supervision
from ssn_edge.training.split_step import split_training_step
from ssn_edge.training.step import StepResult, training_step

# A batch norm takes the mean off again: what these gradients hold is rounding alone.
BEFORE_BATCH_NORM = {"segmentation.hidden.bias", "classification.hidden.bias"}
PLAN = supervision(Regime.FULL, Variant.JOURNAL)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a step leaves behind."""

    result: StepResult
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def batch_of(layer2_hw: tuple[int, int], layer3_hw: tuple[int, int]) -> Batch:
    """A defect with pixel truth, one without, two sound pictures; each pixel has its weight."""
    generator = torch.Generator().manual_seed(3)
    height, width = 2 * layer2_hw[0], 2 * layer2_hw[1]
    mask = torch.zeros(4, height, width, dtype=torch.bool)
    mask[0, 1:4, : width // 2] = True
    return Batch(
        layer2=torch.randn((4, 48, *layer2_hw), generator=generator) + 0.5,
        layer3=torch.randn((4, 192, *layer3_hw), generator=generator),
        mask=mask,
        weight=torch.rand((4, height, width), generator=generator),
        known=torch.tensor([True, False, True, True]),
        label=torch.tensor([True, True, False, False]),
    )


def in_double(batch: Batch) -> Batch:
    return dataclasses.replace(batch, layer2=batch.layer2.double(), layer3=batch.layer3.double())


def standardise(net: SuperSimpleNet) -> None:
    generator = torch.Generator().manual_seed(4)
    net.features.standardise_by(
        3 * torch.randn(240, generator=generator), 0.5 + torch.rand(240, generator=generator)
    )


def outcome(
    step: Callable[..., StepResult], net: SuperSimpleNet, batch: Batch, **plan: object
) -> Outcome:
    net = copy.deepcopy(net).train()
    result = step(
        net,
        batch,
        plan=dataclasses.replace(PLAN, **plan),  # type: ignore[arg-type]
        noise_std=0.4,
        keys=sample_keys(5, 6, torch.arange(4)),
    )
    result.loss.backward()  # type: ignore[no-untyped-call]
    return Outcome(
        result,
        {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in net.heads.named_parameters()
        },
        dict(net.heads.named_buffers()),
    )


def assert_equal_steps(net: SuperSimpleNet, batch: Batch, **plan: object) -> None:
    """In double precision, where equal means equal."""
    net, batch = net.double(), in_double(batch)
    straightforward = outcome(training_step, net, batch, **plan)
    split = outcome(split_training_step, net, batch, **plan)

    def close(name: str, found: Tensor, wanted: Tensor) -> None:
        found, wanted = found.detach(), wanted.detach()
        scale = float(wanted.abs().max())
        torch.testing.assert_close(
            found, wanted, rtol=1e-9, atol=1e-10 * scale, msg=lambda text: f"{name}: {text}"
        )

    close("loss", split.result.loss, straightforward.result.loss)
    for name, term in straightforward.result.terms.items():
        close(name, split.result.terms[name], term)
    close("map_max", split.result.map_max, straightforward.result.map_max)
    assert torch.equal(split.result.label, straightforward.result.label)
    without_gradient = set(BEFORE_BATCH_NORM)
    if net.heads.variant is Variant.JOURNAL:  # else it ends at the border of a zero-padded image
        without_gradient.add("adaptor.projection.bias")
    for name, gradient in straightforward.gradients.items():
        if name in without_gradient:
            assert float(gradient.abs().max()) < 1e-12
            assert float(split.gradients[name].abs().max()) < 1e-12
        else:
            assert float(gradient.abs().max()) > 0
            close(name, split.gradients[name], gradient)
    for name, buffer in straightforward.buffers.items():
        close(name, split.buffers[name], buffer)


@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize("detach_map", [True, False])
@pytest.mark.parametrize("variant", Variant)
def test_loss_gradients_and_running_statistics_are_those_of_the_straightforward_step(
    tiny_net: Callable[..., SuperSimpleNet], variant: Variant, detach_map: bool, standardised: bool
) -> None:
    net = tiny_net(variant=variant)
    if standardised:
        standardise(net)
    assert_equal_steps(net, batch_of((8, 8), (4, 4)), detach_map=detach_map)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize(
    ("layer2_hw", "layer3_hw"),
    [((7, 5), (4, 3)), ((5, 9), (3, 5)), ((3, 2), (2, 1))],
    ids=["odd", "wide", "smaller than the kernel"],
)
def test_any_grid_will_do(
    tiny_net: Callable[..., SuperSimpleNet],
    layer2_hw: tuple[int, int],
    layer3_hw: tuple[int, int],
    variant: Variant,
    align_corners: bool,
) -> None:
    net = tiny_net(variant=variant, align_corners=align_corners)
    standardise(net)
    assert_equal_steps(net, batch_of(layer2_hw, layer3_hw))


@pytest.mark.parametrize("perlin_threshold", [-2.0, 2.0], ids=["all noisy", "no noise"])
def test_the_steps_agree_where_all_pixels_or_none_carry_noise(
    tiny_net: Callable[..., SuperSimpleNet], perlin_threshold: float
) -> None:
    assert_equal_steps(tiny_net(), batch_of((8, 8), (4, 4)), perlin_threshold=perlin_threshold)


def test_the_steps_agree_without_pixel_truth(tiny_net: Callable[..., SuperSimpleNet]) -> None:
    batch = batch_of((8, 8), (4, 4))
    batch.mask.zero_()
    batch.known.zero_()
    assert_equal_steps(tiny_net(), batch)


def test_the_split_step_stays_near_double_precision_in_single(
    tiny_net: Callable[..., SuperSimpleNet],
) -> None:
    net, batch = tiny_net(), batch_of((16, 16), (8, 8))
    standardise(net)
    truth = outcome(training_step, copy.deepcopy(net).double(), in_double(batch))
    found = outcome(split_training_step, net, batch)
    off = found.result.loss.detach().double() / truth.result.loss.detach() - 1
    assert abs(float(off)) < 1e-6
    for name, gradient in truth.gradients.items():
        if name not in BEFORE_BATCH_NORM | {"adaptor.projection.bias"}:
            off = (found.gradients[name].double() - gradient).norm() / gradient.norm()
            assert float(off) < 1e-3, name  # a value within rounding of a kink takes either side


def test_the_split_step_keeps_its_precision_under_autocast(
    tiny_net: Callable[..., SuperSimpleNet],
) -> None:
    def under_autocast(*args: Any, **options: Any) -> StepResult:
        with torch.autocast("cpu", torch.bfloat16):
            return split_training_step(*args, **options)

    steps = (under_autocast, split_training_step)
    cast, plain = (outcome(step, tiny_net(), batch_of((8, 8), (4, 4))) for step in steps)
    assert torch.equal(cast.result.loss, plain.result.loss)
    for name, gradient in plain.gradients.items():
        assert torch.equal(cast.gradients[name], gradient), name


def test_a_second_backward_pass_is_refused(tiny_net: Callable[..., SuperSimpleNet]) -> None:
    result = split_training_step(
        tiny_net().train(),
        batch_of((8, 8), (4, 4)),
        plan=PLAN,
        noise_std=0.4,
        keys=sample_keys(0, 0, torch.arange(4)),
    )
    result.loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.loss.backward()  # type: ignore[no-untyped-call]
