"""Upscaling, pooling, shifting and blurring of one axis as matrices: (target, source), float64.

All of them act on rows and columns separately and on each channel alone, so a pair of small
matrices replaces each, or any chain of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upscaled_and_pooled(source: int, target: int, *, align_corners: bool) -> Tensor:
    """Bilinear upscaling, then the mean over three neighbours, zeros beyond the ends counted."""
    upscaled = _upscaled(source, target, align_corners=align_corners)
    return F.avg_pool1d(upscaled, 3, stride=1, padding=1)[0].T.contiguous()


def upscaled_and_blurred(source: int, target: int, kernel: Tensor) -> Tensor:
    """Bilinear upscaling between pixel edges, then a convolution with mirrored borders.

    Args:
        source: Pixels of the raw map.
        target: Pixels of the network input.
        kernel: (2 radius + 1,).
    """
    upscaled = _upscaled(source, target, align_corners=False)
    padded = F.pad(upscaled, [len(kernel) // 2] * 2, mode="reflect")
    taps = kernel.to(torch.float64).view(1, 1, -1)
    return F.conv1d(padded.transpose(0, 1), taps)[:, 0].T.contiguous()


def seen_by_taps(matrix: Tensor, taps: int) -> Tensor:
    """What each tap of a centred, zero-padded kernel sees: (target, source) to (taps, ..., ...)."""
    reach = taps // 2
    padded = F.pad(matrix, (0, 0, reach, reach))
    return torch.stack([padded[tap : tap + len(matrix)] for tap in range(taps)])


def _upscaled(source: int, target: int, *, align_corners: bool) -> Tensor:
    unit = torch.eye(source, dtype=torch.float64)[None]  # a channel a pixel
    return F.interpolate(unit, size=target, mode="linear", align_corners=align_corners)
