"""Leaky ReLU and projection to one channel as one operation.

The hidden tensor of the segmentation head is the largest of a training step. This neither keeps an
activated copy of it nor builds its gradient beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 1 << 19
"""Elements worked on at a time on a CPU: they and their intermediate values fit its cache."""


def leaky_projection(hidden: Tensor, weight: Tensor, slope: float) -> Tensor:
    """Leaky ReLU of each channel, then their weighted sum.

    The backward pass writes its gradient over `hidden`: it can run but once.

    Args:
        hidden: (B, C, h, w).
        weight: (C,).
        slope: Of the leaky ReLU below zero, from 0 to 1.

    Returns:
        (B, h, w).
    """
    output: Tensor = _LeakyProjection.apply(hidden, weight, slope)
    return output


class _LeakyProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, slope: float) -> Tensor:
        hidden = hidden.contiguous()
        ctx.save_for_backward(hidden, weight)
        ctx.slope = slope
        output = hidden.new_zeros((len(hidden), hidden.shape[2] * hidden.shape[3]))
        for samples, channels in _chunks(hidden):
            part = hidden[samples, channels].flatten(2)
            output[samples] += weight[channels] @ F.leaky_relu(part, slope)
        return output.view(len(hidden), *hidden.shape[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        total = torch.zeros_like(weight)
        gradient = gradient.flatten(1)
        for samples, channels in _chunks(hidden):
            part = hidden[samples, channels].flatten(2)
            steepness = (part > 0).to(part.dtype).clamp_(min=ctx.slope)
            above = gradient[samples, None]  # (B, 1, h * w)
            activated = part * steepness
            total[channels] += (activated @ above.mT).sum(dim=0)[:, 0]
            torch.mul(steepness, above, out=part).mul_(weight[channels, None])
        return hidden, total, None


def _chunks(hidden: Tensor) -> Iterator[tuple[slice, slice]]:
    """Samples and channels, (B, C, h, w) in all."""
    batch, channels, height, width = hidden.shape
    if hidden.device.type != "cpu":
        yield slice(batch), slice(channels)
        return
    step = max(1, _CHUNK // (height * width))
    for sample in range(batch):
        for channel in range(0, channels, step):
            yield slice(sample, sample + 1), slice(channel, channel + step)
