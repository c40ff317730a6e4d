"""Backbone outputs to the feature that adaptor and heads work on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureBuilder(nn.Module):
    """Upscale both layers to twice the layer2 grid, concatenate, pool over a 3x3 neighbourhood.

    Then each channel is standardised with fixed numbers: the identity for the published backbone,
    mean and deviation over the training part's normal pictures for any other, because the noise
    of training must have a known ratio to the features.

    Args:
        channels: Of layer2 and layer3.
        align_corners: Of the upscaling; True in the authors' code.

    Source:
        blaz-r/SuperSimpleNet@60d1e74 model/feature_extractor.py (MIT), re-implemented.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: tuple[int, int], *, align_corners: bool = True) -> None:
        super().__init__()
        self.align_corners = align_corners
        total = sum(channels)
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("std", torch.ones(total))

    def forward(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        """Build the feature.

        Args:
            layer2: (B, C2, h2, w2) float32.
            layer3: (B, C3, h3, w3) float32.

        Returns:
            (B, C2 + C3, 2 h2, 2 w2) float32.
        """
        feature = self.pooled(layer2, layer3)
        return (feature - self.mean.view(1, -1, 1, 1)) / self.std.view(1, -1, 1, 1)

    def pooled(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        """The feature before standardisation; same shapes as `forward`."""
        size = (2 * layer2.shape[2], 2 * layer2.shape[3])
        upscaled = [
            F.interpolate(layer, size=size, mode="bilinear", align_corners=self.align_corners)
            for layer in (layer2, layer3)
        ]
        # Padded zeros count: the divisor is always 9.
        return F.avg_pool2d(torch.cat(upscaled, dim=1), 3, stride=1, padding=1)

    def standardise_by(self, mean: Tensor, std: Tensor) -> None:
        """Set each channel's mean and deviation, both (C,); a dead channel keeps its scale."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))
