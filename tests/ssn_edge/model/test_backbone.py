"""The frozen extractor: what it never learns, what it refuses, and how bytes enter it."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from ssn_edge.model.backbone import (
    CPU_DEFAULT,
    GPU_DEFAULT,
    Backbone,
    Normalisation,
    is_published_backbone,
    normalise,
)
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge_export.verify import NetJudge
from ssn_edge_runtime.errors import ConfigError


@pytest.fixture(scope="module")
def net() -> SuperSimpleNet:
    torch.manual_seed(0)
    return SuperSimpleNet(Architecture("test_resnet", (64, 64), HeadWidths(8, 8)))


def test_the_backbone_stays_frozen_and_in_evaluation_mode_while_the_net_trains(
    net: SuperSimpleNet,
) -> None:
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    net.train()
    assert net.heads.training
    assert not any(module.training for module in net.backbone.modules())
    assert not any(parameter.requires_grad for parameter in net.backbone.parameters())
    _, score = net(torch.randn(2, 3, 64, 64))
    score.sum().backward()
    assert all(parameter.grad is None for parameter in net.backbone.parameters())
    for name, value in net.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
    net.eval()


def test_an_extractor_ends_after_its_last_tap() -> None:
    with torch.device("meta"):
        resnet, lite = Backbone("resnet18"), Backbone(CPU_DEFAULT)
    assert not any("layer4" in name for name, _ in resnet.named_modules())
    assert len(cast(nn.Sequential, lite.extractor.get_submodule("blocks"))) == 5
    assert resnet.channels == (128, 256)
    assert lite.channels == (40, 112)


def test_normalisation_is_the_backbones_own() -> None:
    with torch.device("meta"):
        assert Backbone(CPU_DEFAULT).normalisation == Normalisation((0.5,) * 3, (0.5,) * 3)
        assert Backbone(GPU_DEFAULT).normalisation == Normalisation(
            (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        )


def test_the_published_noise_is_for_one_set_of_weights_alone() -> None:
    assert is_published_backbone("wide_resnet50_2.tv_in1k")
    assert not is_published_backbone("wide_resnet50_2.tv2_in1k")
    assert not is_published_backbone("wide_resnet50_2")


@pytest.mark.parametrize(
    ("name", "near"), [("resnt18", "resnet18"), ("wide_resnet50", "wide_resnet50_2")]
)
def test_an_unknown_backbone_is_refused_with_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"knows no backbone '{name}'.*{near}"):
        Backbone(name)


def test_unknown_weights_of_a_known_backbone_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"resnet18\.nobodys"):
        Backbone("resnet18.nobodys")


def test_a_backbone_without_strides_8_and_16_is_refused() -> None:
    with pytest.raises(ConfigError, match="8 and 16 are needed"):
        Backbone("vit_tiny_patch16_224")


def test_a_backbone_that_cannot_take_the_input_size_is_refused_before_training() -> None:
    with torch.device("meta"):
        backbone = Backbone("swin_tiny_patch4_window7_224")
        with pytest.raises(ConfigError, match="cannot be used at 256x256"):
            backbone.grid_hw((256, 256))


def test_a_backbone_that_keeps_channels_last_gives_them_first() -> None:
    with torch.device("meta"):
        backbone = Backbone("swin_tiny_patch4_window7_224")
        layer2, layer3 = backbone(torch.zeros(1, 3, 224, 224))
    assert layer2.shape == (1, 192, 28, 28)
    assert layer3.shape == (1, 384, 14, 14)
    assert backbone.channels == (192, 384)


@pytest.mark.parametrize(
    "name", ["densenet121", "mobilenetv4_conv_small", "convnext_atto", "mambaout_femto"]
)
def test_any_convolutional_network_of_timm_gives_a_grid_for_a_picture_that_is_not_square(
    name: str,
) -> None:
    with torch.device("meta"):
        assert Backbone(name).grid_hw((160, 96)) == (40, 24)


def test_bytes_become_rgb_less_the_mean_over_the_deviation() -> None:
    pixels = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    pixels[0, 0, 1] = torch.tensor([0, 51, 255])  # blue 0, green 0.2, red 1
    image = normalise(pixels, Normalisation((0.1, 0.2, 0.3), (0.5, 0.25, 0.2)))
    assert image.shape == (1, 3, 2, 2)
    assert image.dtype == torch.float32
    assert image[0, :, 0, 1].tolist() == pytest.approx([1.8, 0.0, -1.5], abs=1e-6)
    assert image[0, :, 1, 1].tolist() == pytest.approx([-0.2, -0.8, -1.5], abs=1e-6)


def test_training_normalises_as_the_judge_of_an_export_does() -> None:
    class Listener:
        mean = (0.485, 0.456, 0.406)
        std = (0.229, 0.224, 0.225)
        heard = torch.zeros(0)

        def __call__(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            self.heard = image
            return torch.zeros(1, 4, 4), torch.zeros(1)

    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    listener = Listener()
    NetJudge(listener)(pixels, pixel_threshold=0.0)
    ours = normalise(torch.from_numpy(pixels)[None], Normalisation(listener.mean, listener.std))
    assert torch.allclose(ours, listener.heard, atol=1e-6)
    assert ours.is_contiguous()


def test_the_whole_net_gives_a_map_at_input_size_and_one_logit_a_picture(
    net: SuperSimpleNet,
) -> None:
    with torch.inference_mode():
        anomaly_map, logits = net(torch.randn(3, 3, 64, 64))
    assert anomaly_map.shape == (3, 64, 64)
    assert logits.shape == (3,)
