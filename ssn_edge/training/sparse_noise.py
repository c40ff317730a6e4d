"""A convolution of noise that lies on a few pixels, worked out for those pixels alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssn_edge.model.anomaly_generator import Anomalies


def add_noise_convolution(hidden: Tensor, anomalies: Anomalies, weight: Tensor) -> Tensor:
    """Add the centred, zero-padded convolution of the noise to what is there, in place.

    Args:
        hidden: (2B, O, h, w), contiguous or channels last; changed.
        anomalies: The noise and where it lies.
        weight: (k, k, O, C): tap row, tap column, output, input.

    Returns:
        `hidden`.
    """
    values = anomalies.values.to(weight.dtype)
    changed: Tensor = _NoiseConvolution.apply(hidden, values, anomalies.synthetic.nonzero(), weight)
    return changed


class _NoiseConvolution(torch.autograd.Function):
    """A row of taps at a time: all taps of all noisy pixels would be the largest tensor."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, values: Tensor, places: Tensor, weight: Tensor) -> Tensor:
        taps, _, width, channels = weight.shape
        ctx.mark_dirty(hidden)
        ctx.save_for_backward(values, places)
        ctx.shape = weight.shape
        pixels = hidden.permute(0, 2, 3, 1)
        for tap_row in range(taps):
            projection = weight[tap_row].reshape(-1, channels)
            # What is added lies in memory as what it is added to, so that both are walked in order.
            by_channel = hidden.is_contiguous()
            part = (projection @ values.T).T if by_channel else values @ projection.T
            part = part.view(len(values), taps, width)
            reached, outside = _reached(places, hidden.shape, tap_row, taps)
            # A tap that falls outside the image adds zero to some pixel: no shape depends on it.
            part.masked_fill_(outside, 0.0)
            # Tap by tap, as no two noisy pixels reach the same pixel by one tap: torch adds in
            # parallel, and sums of the same addends in another order would differ from run to run.
            for tap, where in enumerate(zip(*reached, strict=True)):
                pixels.index_put_(where, part[:, tap], accumulate=True)
        return hidden

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, places = ctx.saved_tensors
        taps, _, width, channels = ctx.shape
        pixels = gradient.permute(0, 2, 3, 1)
        total = gradient.new_empty((taps, taps * width, channels))
        for tap_row in range(taps):
            reached, outside = _reached(places, gradient.shape, tap_row, taps)
            sample, row, column = (index.T for index in reached)
            part = pixels[sample, row, column].masked_fill_(outside, 0.0)  # (N, taps, O)
            torch.mm(part.flatten(1).T, values, out=total[tap_row])
        return gradient, None, None, total.view(ctx.shape)


def _reached(
    places: Tensor, shape: torch.Size, tap_row: int, taps: int
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Which pixels each noisy pixel reaches by the taps of a row.

    Returns:
        Samples, rows and columns, (taps, N) each, inside the image; and (N, taps, 1) bool, where a
        tap falls outside of it.
    """
    height, width = shape[2:]
    reach = taps // 2
    sample, row, column = places.unbind(dim=1)  # (N,) each
    row = row + reach - tap_row
    column = column + reach - torch.arange(taps, device=places.device)[:, None]
    outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
    column = column.clamp(0, width - 1)
    inside = (sample.expand_as(column), row.clamp(0, height - 1).expand_as(column), column)
    return inside, outside.T[:, :, None]
