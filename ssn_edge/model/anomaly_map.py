"""Low-resolution map logits to the final anomaly map at the network's input size."""

from __future__ import annotations

import math
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA = 4.0


class MapOutput(Enum):
    """What the code that a net comes from calls its final map.

    Ours is always the blurred logits: thresholds and golden pictures are in logits.
    """

    LOGITS = "logits"
    """As ours."""
    SIGMOID = "sigmoid"
    """The sigmoid of the blurred logits."""


class AnomalyMap(nn.Module):
    """Bilinear upscaling to the input size, then a Gaussian blur with mirrored borders.

    The blur is two one-dimensional convolutions with constant kernels: the same function as the
    25 x 25 one, and it exports.

    Args:
        size_hw: Height and width of the network input.
        sigma: Deviation of the blur in pixels.
    """

    kernel: Tensor

    def __init__(self, size_hw: tuple[int, int], *, sigma: float = SIGMA) -> None:
        super().__init__()
        self.size_hw = size_hw
        self.radius = math.ceil(3 * sigma)
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        # Follows from sigma: not part of a checkpoint.
        self.register_buffer("kernel", (kernel / kernel.sum()).float(), persistent=False)

    def forward(self, map_logits: Tensor) -> Tensor:
        """(B, 1, h, w) logits to (B, H, W) logits."""
        upscaled = F.interpolate(map_logits, self.size_hw, mode="bilinear", align_corners=False)
        padded = F.pad(upscaled, [self.radius] * 4, mode="reflect")
        rows = F.conv2d(padded, self.kernel.view(1, 1, -1, 1))
        blurred = F.conv2d(rows, self.kernel.view(1, 1, 1, -1))  # (B, 1, H, W)
        return blurred.squeeze(1)
