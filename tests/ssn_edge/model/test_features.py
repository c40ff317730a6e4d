"""Grids, pooling and standardisation of the feature."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ssn_edge.model.backbone import Backbone
from ssn_edge.model.features import FeatureBuilder


@pytest.fixture(scope="module")
def published() -> Backbone:
    with torch.device("meta"):
        return Backbone("wide_resnet50_2.tv_in1k")


@pytest.mark.parametrize(
    ("size_hw", "layer2_hw", "layer3_hw", "grid_hw"),
    [
        ((256, 256), (32, 32), (16, 16), (64, 64)),
        ((640, 232), (80, 29), (40, 15), (160, 58)),
        ((320, 192), (40, 24), (20, 12), (80, 48)),
        ((144, 144), (18, 18), (9, 9), (36, 36)),
    ],
)
def test_the_published_input_sizes_give_the_published_grids(
    published: Backbone,
    size_hw: tuple[int, int],
    layer2_hw: tuple[int, int],
    layer3_hw: tuple[int, int],
    grid_hw: tuple[int, int],
) -> None:
    layer2, layer3 = published(torch.zeros((2, 3, *size_hw), device="meta"))
    assert layer2.shape == (2, 512, *layer2_hw)
    assert layer3.shape == (2, 1024, *layer3_hw)
    with torch.device("meta"):
        feature = FeatureBuilder(published.channels)(layer2, layer3)
    assert feature.shape == (2, 1536, *grid_hw)
    assert published.grid_hw(size_hw) == grid_hw


def test_padded_zeros_count_in_the_average_so_a_corner_of_ones_is_four_ninths() -> None:
    feature = FeatureBuilder((1, 1))(torch.ones(1, 1, 4, 3), torch.ones(1, 1, 2, 2))
    assert feature.shape == (1, 2, 8, 6)
    for corner in (feature[..., 0, 0], feature[..., -1, -1], feature[..., 0, -1]):
        assert torch.allclose(corner, torch.tensor(4 / 9))
    assert torch.allclose(feature[..., 0, 1:-1], torch.tensor(6 / 9))
    assert torch.allclose(feature[..., 1:-1, 1:-1], torch.tensor(1.0))


def test_channels_of_layer2_come_first() -> None:
    feature = FeatureBuilder((2, 1))(torch.full((1, 2, 4, 4), 5.0), torch.full((1, 1, 2, 2), 7.0))
    assert feature[0, :, 4, 4].tolist() == pytest.approx([5.0, 5.0, 7.0])


def test_upscaling_meets_the_corners() -> None:
    layer2 = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    feature = FeatureBuilder((1, 1)).pooled(layer2, torch.zeros(1, 1, 2, 2))
    # With aligned corners the ramp 0..3 is 3 k / 7 at the k-th of eight columns.
    assert feature[0, 0, 4, 1:-1].tolist() == pytest.approx([3 * k / 7 for k in range(1, 7)])


@pytest.mark.parametrize("align_corners", [True, False])
def test_every_step_of_the_feature_follows_from_plain_arithmetic(
    align_corners: bool, resize_by_hand: Callable[..., torch.Tensor]
) -> None:
    torch.manual_seed(0)
    layer2, layer3 = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 2, 2)
    found = FeatureBuilder((1, 1), align_corners=align_corners)(layer2, layer3)[0]
    for channel, layer in enumerate((layer2, layer3)):
        upscaled = resize_by_hand(layer[0, 0], (6, 8), align_corners)
        for row in range(6):
            for column in range(8):
                around = upscaled[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                assert float(found[channel, row, column]) == pytest.approx(
                    float(around.sum()) / 9, abs=1e-5
                )


@pytest.fixture
def resize_by_hand() -> Callable[..., torch.Tensor]:
    def axis(source: int, target: int, align_corners: bool) -> torch.Tensor:
        weights = torch.zeros(target, source)
        for k in range(target):
            if align_corners:
                place = k * (source - 1) / (target - 1)
            else:
                place = max(0.0, (k + 0.5) * source / target - 0.5)
            left = min(int(place), source - 1)
            right = min(left + 1, source - 1)
            weights[k, left] += 1 - (place - left)
            weights[k, right] += place - left
        return weights

    def resize(
        picture: torch.Tensor, size_hw: tuple[int, int], align_corners: bool
    ) -> torch.Tensor:
        down = axis(picture.shape[0], size_hw[0], align_corners)
        right = axis(picture.shape[1], size_hw[1], align_corners)
        return down @ picture @ right.T

    return resize


def test_the_published_backbone_needs_no_standardisation_and_gets_none() -> None:
    torch.manual_seed(1)
    builder = FeatureBuilder((2, 3))
    layers = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 2, 2)
    assert torch.equal(builder(*layers), builder.pooled(*layers))


def test_standardised_features_have_mean_0_and_deviation_1_and_a_dead_channel_keeps_its_scale() -> (
    None
):
    torch.manual_seed(2)
    builder = FeatureBuilder((2, 1))
    layers = 9 * torch.randn(4, 2, 8, 8) + 5, torch.zeros(4, 1, 4, 4)
    pooled = builder.pooled(*layers)
    builder.standardise_by(pooled.mean((0, 2, 3)), pooled.std((0, 2, 3), correction=0))
    feature = builder(*layers)
    assert torch.allclose(feature.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(
        feature.std((0, 2, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5
    )


def test_standardisation_is_part_of_a_checkpoint() -> None:
    assert set(FeatureBuilder((1, 1)).state_dict()) == {"mean", "std"}
