"""Upscaling, pooling, shifting and blurring of one axis as matrices: (target, source).

The deploy graph is made of them, and the training step that works at low resolution. All of them
act on rows and columns separately and on each channel alone, so a pair of small
matrices replaces each, or any chain of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upscaled_and_pooled(
    source: int, target: int, *, align_corners: bool, like: Tensor | None = None
) -> Tensor:
    """Bilinear upscaling, then the mean over three neighbours, zeros beyond the ends counted.

    Args:
        source: Pixels before.
        target: Pixels after.
        align_corners: Of the upscaling.
        like: Has the type and the device of the matrix; float64 on the CPU where absent.
    """
    unit = (
        _unit(source) if like is None else torch.eye(source, dtype=like.dtype, device=like.device)
    )
    upscaled = _upscaled(unit, target, align_corners=align_corners)
    return F.avg_pool1d(upscaled, 3, stride=1, padding=1)[0].T.contiguous()


def upscaled_and_blurred(source: int, target: int, kernel: Tensor) -> Tensor:
    """Bilinear upscaling between pixel edges, then a convolution with mirrored borders, in float64.

    Args:
        source: Pixels of the raw map.
        target: Pixels of the network input.
        kernel: (2 radius + 1,).
    """
    upscaled = _upscaled(_unit(source), target, align_corners=False)
    padded = F.pad(upscaled, [len(kernel) // 2] * 2, mode="reflect")
    taps = kernel.to(torch.float64).view(1, 1, -1)
    return F.conv1d(padded.transpose(0, 1), taps)[:, 0].T.contiguous()


def seen_by_taps(matrix: Tensor, taps: int) -> Tensor:
    """What each tap of a centred, zero-padded kernel sees: (target, source) to (taps, ..., ...)."""
    reach = taps // 2
    padded = F.pad(matrix, (0, 0, reach, reach))
    return torch.stack([padded[tap : tap + len(matrix)] for tap in range(taps)])


def _unit(source: int) -> Tensor:
    return torch.eye(source, dtype=torch.float64)


def _upscaled(unit: Tensor, target: int, *, align_corners: bool) -> Tensor:
    # A channel a pixel.
    return F.interpolate(unit[None], size=target, mode="linear", align_corners=align_corners)
