"""A convolution of the upscaled, pooled feature, worked out at the backbone's own resolution.

Upscaling, pooling and shifting act on each channel alone, on rows and columns separately; a
convolution's taps act on each pixel alone. So a picture is projected where it is small, one 1x1
projection a tap, and small matrices then upscale, pool, shift and add the projections. The feature
itself is never built, and no 5x5 convolution is left.

With the channels last on the way, each of these is a plain matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssn_edge_export.spatial_matrices import seen_by_taps, upscaled_and_pooled


@dataclass(frozen=True, slots=True, eq=False)
class LowMap:
    """One summand of the feature, at its own resolution.

    Args:
        pixels: (B, y * x, C); without gradient.
        rows: (h, y), what turns its rows into the feature's.
        columns: (w, x), the same for columns.
    """

    pixels: Tensor
    rows: Tensor
    columns: Tensor


def layer_map(layer: Tensor, grid_hw: tuple[int, int], *, align_corners: bool) -> LowMap:
    """A backbone layer, to be upscaled to the grid and pooled as `FeatureBuilder` does.

    Args:
        layer: (B, C, y, x).
        grid_hw: Of the feature.
        align_corners: Of the upscaling.
    """
    rows, columns = (
        upscaled_and_pooled(source, target, align_corners=align_corners, like=layer)
        for source, target in zip(layer.shape[2:], grid_hw, strict=True)
    )
    return LowMap(layer.flatten(2).mT.contiguous(), rows, columns)


def frame_map(batch: int, grid_hw: tuple[int, int], like: Tensor) -> LowMap:
    """Two channels that hold what the layers cannot, because it ends where the image ends.

    The first is what pooling takes from a 1 near the border, below 0 there and 0 elsewhere: layers
    that are standardised before the pooling lack it. The second is 1 on every pixel: the weight on
    it is a bias that a tap adds where it is inside the image.
    """
    sides = []
    for side in grid_hw:
        one = like.new_ones((1, side))
        sides.append(torch.cat([F.avg_pool1d(one, 3, stride=1, padding=1) - one, one]).T)
    # With (loss, 1) on each axis, (1 + loss_y) (1 + loss_x) - 1 has these four coefficients.
    pixels = like.new_tensor([[1, 0], [1, 0], [1, 0], [0, 1]])
    return LowMap(pixels.expand(batch, -1, -1), *sides)


def low_resolution_convolution(
    maps: Sequence[LowMap],
    weights: Sequence[Tensor],
    *,
    copies: int,
    memory_format: torch.memory_format,
) -> Tensor:
    """Convolve the sum of what the maps become on the grid, centred and zero-padded.

    Args:
        maps: The summands, B pictures each.
        weights: For each map (k, k, O, C): tap row, tap column, output, input.
        copies: How often the B results are repeated.
        memory_format: Of the result: contiguous or channels last.

    Returns:
        (copies * B, O, h, w).
    """
    output: Tensor = _Convolution.apply(maps, copies, memory_format, *weights)
    return output


class _Convolution(torch.autograd.Function):
    """One picture at a time: a picture's projections on all taps fit a cache, a batch's do not."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Sequence[LowMap],
        copies: int,
        memory_format: torch.memory_format,
        *weights: Tensor,
    ) -> Tensor:
        taps, _, width, _ = weights[0].shape
        ctx.maps, ctx.copies = maps, copies
        ctx.shapes = [weight.shape for weight in weights]
        ctx.rows = [_rows(each, taps) for each in maps]
        ctx.columns = torch.cat([_columns(each, taps) for each in maps], dim=1)
        projections = [weight.reshape(taps, -1, weight.shape[3]).mT for weight in weights]
        batch, height = len(maps[0].pixels), len(maps[0].rows)
        columns = ctx.columns.expand(height, -1, -1)  # (h, w, sum of x * taps)
        output = torch.empty(
            (copies * batch, width, height, columns.shape[1]),
            dtype=weights[0].dtype,
            device=weights[0].device,
            memory_format=memory_format,
        )
        band = output.new_empty((height, columns.shape[2], width))
        for index in range(batch):
            for each, rows, part, projection in zip(
                maps, ctx.rows, _parts(band, maps, taps), projections, strict=True
            ):
                pixels = each.pixels[index].expand(taps, -1, -1)
                tapped = torch.bmm(pixels, projection)  # (tap row, y * x, tap column * O)
                torch.mm(rows, tapped.view(rows.shape[1], -1), out=part)
            torch.bmm(columns, band, out=output[index].permute(1, 2, 0))  # (h, w, O)
            for copy in range(1, copies):
                output[copy * batch + index] = output[index]
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps: Sequence[LowMap] = ctx.maps
        taps, _, width, _ = ctx.shapes[0]
        batch, height = len(maps[0].pixels), gradient.shape[2]
        columns = ctx.columns.T.expand(height, -1, -1)
        totals = [gradient.new_zeros((taps, taps * width, shape[3])) for shape in ctx.shapes]
        band = gradient.new_empty((height, columns.shape[1], width))
        for index in range(batch):
            of_both_copies = gradient[index::batch].sum(dim=0)  # (O, h, w)
            torch.bmm(columns, of_both_copies.permute(1, 2, 0), out=band)
            for each, rows, part, total in zip(
                maps, ctx.rows, _parts(band, maps, taps), totals, strict=True
            ):
                tapped = (rows.T @ part).view(taps, -1, taps * width)
                total.baddbmm_(tapped.mT, each.pixels[index].expand(taps, -1, -1))
        found = [total.view(shape) for total, shape in zip(totals, ctx.shapes, strict=True)]
        return None, None, None, *found


def _rows(each: LowMap, taps: int) -> Tensor:
    """(h, taps * y)."""
    return seen_by_taps(each.rows, taps).transpose(0, 1).flatten(1)


def _columns(each: LowMap, taps: int) -> Tensor:
    """(w, x * taps)."""
    return seen_by_taps(each.columns, taps).permute(1, 2, 0).flatten(1)


def _parts(band: Tensor, maps: Sequence[LowMap], taps: int) -> list[Tensor]:
    """Each map's share of (h, sum of x * taps, O), as (h, x * taps * O)."""
    sizes = [taps * each.columns.shape[1] for each in maps]
    return [part.flatten(1) for part in band.split_with_sizes(sizes, dim=1)]
