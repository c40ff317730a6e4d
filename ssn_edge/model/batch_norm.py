"""Batch norm over a batch that several processes may share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, whose moments are those of all processes' samples together.

    PyTorch's own SyncBatchNorm runs on GPUs alone.

    Attributes:
        sum_over_processes: Sums a tensor over all processes, with gradient; None for one process,
            which uses PyTorch's own kernel.
    """

    sum_over_processes: Callable[[Tensor], Tensor] | None = None

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        if self.sum_over_processes is None or not self.training:
            return super().forward(values)
        count, mean, variance = self._moments(values.to(self.weight.dtype))
        with torch.no_grad():
            self._track(count, mean, variance)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return values * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    def _moments(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Number of values a channel, their mean and their variance, over all processes."""
        assert self.sum_over_processes is not None
        here = values.new_tensor([values.numel() / values.shape[1]])
        count = self.sum_over_processes(here)
        mean = self.sum_over_processes(values.sum(dim=(0, 2, 3))) / count
        # In a second pass: the mean of squares less the squared mean would cancel.
        off = values - mean.view(1, -1, 1, 1)
        return count, mean, self.sum_over_processes(off.square().sum(dim=(0, 2, 3))) / count

    def _track(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = variance * count / (count - 1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked.add_(1)
