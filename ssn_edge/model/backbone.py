"""The frozen feature extractor: any timm network with taps at strides 8 and 16."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssn_edge_runtime.errors import ConfigError

STRIDES = (8, 16)
"""layer2 and layer3 of a ResNet, and what corresponds to them elsewhere."""

GPU_DEFAULT = "wide_resnet50_2.tv_in1k"
"""The published backbone, with the weights (V1) that the noise was tuned for."""
CPU_DEFAULT = "tf_efficientnet_lite0"
"""Small enough for a CPU; its weights come with an installed package."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and deviation of RGB pixels in 0..1 that the backbone was trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Backbone(nn.Module):
    """Frozen feature extractor: no gradient, batch norms always in evaluation mode.

    Args:
        name: A timm model name; the weights are those of a random initialisation until loaded
            (`ssn_edge.model.weights.load_backbone_weights`).
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.extractor, self.normalisation = _extractor(name)
        info = cast(Any, self.extractor).feature_info
        self.channels: tuple[int, int] = tuple(info.channels())
        # Swin and its kin keep channels last; timm says so.
        self._gives_channels_last = str(getattr(self.extractor, "output_fmt", "")).endswith("NHWC")
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode, whatever the rest of the net does."""
        return super().train(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of a picture.

        Args:
            image: (B, 3, H, W) float32, RGB, normalised with `normalisation`.

        Returns:
            layer2 (B, C2, H/8, W/8) and layer3 (B, C3, H/16, W/16), as the backbone rounds sizes.
        """
        layer2, layer3 = self.extractor(image)
        if self._gives_channels_last:
            return layer2.permute(0, 3, 1, 2), layer3.permute(0, 3, 1, 2)
        return layer2, layer3

    def grid_hw(self, input_size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size of the feature, which is twice layer2's, for a network input of this size.

        Raises:
            ConfigError: As in `layer_shapes`.
        """
        (_, height, width), _ = self.layer_shapes(input_size_hw)
        return 2 * height, 2 * width

    @torch.no_grad()
    def layer_shapes(
        self, input_size_hw: tuple[int, int]
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """(C, h, w) of layer2 and of layer3 for a network input of this size.

        Raises:
            ConfigError: The backbone does not take pictures of this size, or gives no channels
                first feature maps.
        """
        device = next(self.parameters()).device
        wanted = f"backbone {self.name!r} cannot be used at {input_size_hw[0]}x{input_size_hw[1]}"
        try:
            layer2, layer3 = self(torch.zeros((1, 3, *input_size_hw), device=device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"{wanted}: {error}; take another size or backbone") from error
        if (layer2.shape[1], layer3.shape[1]) != self.channels:
            raise ConfigError(
                f"{wanted}: its feature maps have the shapes {tuple(layer2.shape)} and "
                f"{tuple(layer3.shape)}, channels {self.channels} are wanted in second place; "
                "take a convolutional backbone"
            )
        (_, *shape2), (_, *shape3) = layer2.shape, layer3.shape
        return (shape2[0], shape2[1], shape2[2]), (shape3[0], shape3[1], shape3[2])


def is_published_backbone(name: str) -> bool:
    """Whether the published noise constant fits this backbone's feature scale."""
    return name == GPU_DEFAULT


def _extractor(name: str) -> tuple[nn.Module, Normalisation]:
    import timm  # seconds to import, and not everyone who imports this file builds a net

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        hint = f"; known names near it: {', '.join(near)}" if near else ""
        raise ConfigError(f"timm {timm.__version__} knows no backbone {name!r}{hint}")
    try:
        reductions = timm.create_model(name, pretrained=False, features_only=True)
        strides = list(reductions.feature_info.reduction())
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ConfigError(f"timm builds no feature maps of {name!r}: {error}") from error
    if not all(stride in strides for stride in STRIDES):
        raise ConfigError(
            f"backbone {name!r} gives features at strides {strides}; 8 and 16 are needed"
        )
    indices = tuple(strides.index(stride) for stride in STRIDES)
    extractor = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
    _drop_unused_stages(extractor)
    config = extractor.pretrained_cfg
    return extractor, Normalisation(tuple(config["mean"]), tuple(config["std"]))


def _drop_unused_stages(extractor: nn.Module) -> None:
    """Cut the stages after the last tap, which timm's EfficientNets would compute for nothing."""
    stages, taps = getattr(extractor, "blocks", None), getattr(extractor, "_stage_out_idx", None)
    if isinstance(stages, nn.Sequential) and isinstance(taps, dict):
        cast(Any, extractor).blocks = stages[: max(taps)]


@torch.no_grad()
def normalise(pixels: Tensor, normalisation: Normalisation) -> Tensor:
    """Network input bytes to what the backbone takes.

    Args:
        pixels: (B, H, W, 3) uint8, BGR, from `ssn_edge_runtime.preprocess`.
        normalisation: The backbone's own.

    Returns:
        (B, 3, H, W) float32, RGB, contiguous.
    """
    image = pixels.permute(0, 3, 1, 2).flip(1).contiguous().float()  # (B, 3, H, W), RGB
    mean = torch.tensor(normalisation.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(normalisation.std, device=pixels.device).view(1, 3, 1, 1)
    return (image / 255.0 - mean) / std
