"""Sizes of the published nets, and which loss reaches which weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssn_edge.model.heads import Heads, HeadWidths, default_widths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.losses import classification_loss
from ssn_edge_runtime.errors import ConfigError

PUBLISHED = HeadWidths(1024, 128)


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def net_without_numbers(backbone: str) -> SuperSimpleNet:
    with torch.device("meta"):
        return SuperSimpleNet(Architecture(backbone, (256, 256), PUBLISHED))


def test_each_part_of_the_published_net_has_the_published_number_of_parameters() -> None:
    net = net_without_numbers("wide_resnet50_2.tv_in1k")
    classification = net.heads.classification
    assert net.backbone.channels == (512, 1024)
    assert count(net.backbone) == 24_862_528
    assert count(net.heads.adaptor) == 2_360_832
    assert count(net.heads.segmentation) == 1_576_960
    assert count(classification.hidden, classification.norm) == 4_918_784
    assert count(classification.output) == 259
    assert count(net) == 33_719_363
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 8_856_835


def test_the_resnet18_net_of_published_widths_has_4_560_579_parameters() -> None:
    assert count(net_without_numbers("resnet18")) == 4_560_579


@pytest.mark.parametrize(
    ("channels", "widths"),
    [
        (1536, PUBLISHED),
        (3072, PUBLISHED),
        (768, HeadWidths(512, 64)),
        (384, HeadWidths(256, 32)),
        (152, HeadWidths(104, 32)),
        (2, HeadWidths(64, 32)),
    ],
)
def test_default_widths_are_the_published_ones_and_in_proportion_below(
    channels: int, widths: HeadWidths
) -> None:
    assert default_widths(channels) == widths


def test_a_head_without_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        HeadWidths(0, 8)


def test_weights_start_as_xavier_normal_ones() -> None:
    torch.manual_seed(0)
    heads = Heads(200, HeadWidths(160, 8), Variant.JOURNAL)
    for weight, fan_in, fan_out in [
        (heads.adaptor.projection.weight, 200, 200),
        (heads.segmentation.hidden.weight, 200, 160),
        (heads.segmentation.output.weight, 160, 1),
        (heads.classification.hidden.weight, 201 * 25, 8 * 25),
        (heads.classification.output.weight, 18, 1),
    ]:
        wanted = (2 / (fan_in + fan_out)) ** 0.5
        sampling_error = 4 / (2 * weight.numel()) ** 0.5
        assert float(weight.detach().std()) == pytest.approx(wanted, rel=sampling_error)
    assert heads.segmentation.output.bias is None
    assert heads.segmentation.norm.eps == heads.classification.norm.eps == 1e-5
    assert heads.segmentation.norm.momentum == heads.classification.norm.momentum == 0.1


def gradients_of_the_classification_loss(
    variant: Variant, *, detach_map: bool
) -> dict[str, list[Tensor]]:
    torch.manual_seed(1)
    heads = Heads(6, HeadWidths(5, 4), variant).train()
    feature = torch.randn(4, 6, 8, 8)
    noise = 0.3 * torch.randn(4, 6, 8, 8)
    _, score = heads.judge(feature + noise, heads.adaptor(feature) + noise, detach_map=detach_map)
    classification_loss(score, torch.tensor([True, False, True, False])).backward()
    return {
        name: [
            torch.zeros_like(p) if p.grad is None else p.grad
            for p in heads.get_submodule(name).parameters()
        ]
        for name in ("adaptor", "segmentation", "classification")
    }


def is_zero(gradients: list[Tensor]) -> bool:
    return all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("variant", Variant)
def test_a_detached_map_keeps_the_classification_loss_out_of_the_segmentation_head(
    variant: Variant,
) -> None:
    gradients = gradients_of_the_classification_loss(variant, detach_map=True)
    assert is_zero(gradients["segmentation"])
    assert not is_zero(gradients["classification"])


def test_a_detached_map_keeps_it_out_of_the_adaptor_in_the_journal_variant_alone() -> None:
    journal = gradients_of_the_classification_loss(Variant.JOURNAL, detach_map=True)
    conference = gradients_of_the_classification_loss(Variant.CONFERENCE, detach_map=True)
    assert is_zero(journal["adaptor"])
    assert not is_zero(conference["adaptor"])


@pytest.mark.parametrize("variant", Variant)
def test_without_detaching_the_classification_loss_trains_everything(variant: Variant) -> None:
    gradients = gradients_of_the_classification_loss(variant, detach_map=False)
    assert not any(is_zero(each) for each in gradients.values())


@pytest.mark.parametrize("variant", Variant)
def test_inference_is_judging_clean_features(variant: Variant) -> None:
    torch.manual_seed(2)
    heads = Heads(6, HeadWidths(5, 4), variant).eval()
    feature = torch.randn(2, 6, 8, 10)
    for found, wanted in zip(
        heads(feature),
        heads.judge(feature, heads.adaptor(feature), detach_map=True),
        strict=True,
    ):
        assert torch.equal(found, wanted)


def test_the_score_sees_conv_maximum_conv_mean_map_maximum_and_map_mean_in_this_order() -> None:
    torch.manual_seed(3)
    head = Heads(3, HeadWidths(4, 5), Variant.JOURNAL).classification.eval()
    feature, map_logits = torch.randn(2, 3, 6, 7), torch.randn(2, 1, 6, 7)
    hidden = torch.relu(head.norm(head.hidden(torch.cat([feature, map_logits], 1)))).flatten(2)
    flat = map_logits.flatten(2)
    seen = torch.cat([hidden.amax(2), hidden.mean(2), flat.amax(2), flat.mean(2)], dim=1)
    assert torch.allclose(head(feature, map_logits), head.output(seen)[:, 0], atol=1e-6)
