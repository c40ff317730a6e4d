"""Both heads in the order that costs least: layers at their own resolution to map and logit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_edge_export.folded_heads import FoldedHeads
from ssn_edge_export.spatial_matrices import seen_by_taps

_BANDS = 4
"""Strips of the map that the segmentation head works out one after the other: a strip needs few
rows of the layers, and what is in hand fits a cache. More of them cost more than they save."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where a layer lies on the feature's grid.

    Args:
        rows: (h, y), what turns the layer's rows into those of the pooled feature.
        columns: The same for columns, (w, x).
    """

    rows: Tensor
    columns: Tensor


class Standardise(nn.Module):
    """Layers around 0 and of one size; see `FoldedHeads`.

    Args:
        folded: Centre and scale.
        channels: Of each layer.
    """

    def __init__(self, folded: FoldedHeads, channels: Sequence[int]) -> None:
        super().__init__()
        self.centres = constants(torch.split_with_sizes(folded.centre, list(channels)))
        self.scales = constants(torch.split_with_sizes(folded.scale, list(channels)))

    def channels_first(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, y, x) each, as it came."""
        return [
            (layer - centre[:, None, None]) * scale[:, None, None]
            for layer, centre, scale in zip(layers, self.centres, self.scales, strict=True)
        ]

    def channels_last(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, y, x) each to (B, y * x, C)."""
        # After the transposition: in front of it, ONNX Runtime would put the transposition into
        # each product that reads it, and transpose many times.
        return [
            (layer.flatten(2).transpose(1, 2) - centre) * scale
            for layer, centre, scale in zip(layers, self.centres, self.scales, strict=True)
        ]


class SegmentationHead(nn.Module):
    """Layers to the raw map.

    Channels come first: each engine has its best code for 1x1 convolutions, and what turns columns
    is then a product with a constant on the right.

    Args:
        folded: Weights.
        channels: Of each layer.
        grids: Of each layer.
    """

    def __init__(self, folded: FoldedHeads, channels: Sequence[int], grids: Sequence[Grid]) -> None:
        super().__init__()
        self.slope = folded.slope
        self.weights = constants(
            part[:, :, None, None] for part in _by_layer(folded.segmentation_weight, channels)
        )
        self.columns = constants(grid.columns.T for grid in grids)  # (x, w)
        lost_y, kept_x = lost(grids[0].rows), 1 - lost(grids[0].columns)
        height, self.width = len(lost_y), len(kept_x)
        # Two constant rows: of what is everywhere, and of what the upper and lower border lack.
        # 1 - (1 - lost_y) (1 - lost_x) = lost_x + lost_y (1 - lost_x).
        bias, border = folded.segmentation_bias[:, None], folded.segmentation_border[:, None]
        self.constant = constant(
            torch.stack([bias + border * (1 - kept_x), border * kept_x], dim=1)[None]
        )  # (1, S, 2, w)
        of_constant = torch.stack([torch.ones_like(lost_y), lost_y], dim=1)  # (h, 2)
        bands = [[grid.rows[band] for grid in grids] for band in torch.arange(height).chunk(_BANDS)]
        self.ranges = [[_needed(rows) for rows in band] for band in bands]
        narrow = [
            torch.cat(
                [rows[:, start:end] for rows, (start, end) in zip(band, ranges, strict=True)], 1
            )
            for band, ranges in zip(bands, self.ranges, strict=True)
        ]
        self.rows = constants(  # (k, rows needed + 2) each
            torch.cat([rows, ends], dim=1)
            for rows, ends in zip(narrow, of_constant.chunk(_BANDS), strict=True)
        )
        self.output = constant(folded.map_weight[None])

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, C, y, x) of each layer to (B, h, w)."""
        projected = [
            F.conv2d(layer, weight) for layer, weight in zip(layers, self.weights, strict=True)
        ]  # (B, S, y, x)
        ends = self.constant.expand(projected[0].shape[0], -1, -1, -1)
        strips = []
        for rows, ranges in zip(self.rows, self.ranges, strict=True):
            parts = [
                each[:, :, start:end] @ columns
                for each, columns, (start, end) in zip(projected, self.columns, ranges, strict=True)
            ]
            hidden = F.leaky_relu(rows @ torch.cat([*parts, ends], dim=2), self.slope)
            strip = self.output @ hidden.flatten(2)  # (B, 1, k * w)
            strips.append(strip.reshape(-1, len(rows), self.width))
        return torch.cat(strips, dim=1)


class ClassificationHead(nn.Module):
    """Layers and raw map to the classification logit.

    Channels come last: then a row of taps is one product, without moving a value.

    Args:
        folded: Weights.
        output: The last layer.
        channels: Of each layer.
        grids: Of each layer.
    """

    def __init__(
        self,
        folded: FoldedHeads,
        output: nn.Linear,
        channels: Sequence[int],
        grids: Sequence[Grid],
    ) -> None:
        super().__init__()
        width, _, taps, _ = folded.tap_weight.shape
        self.taps, self.reach = taps, taps // 2
        self.size_hw = (len(grids[0].rows), len(grids[0].columns))
        self.shapes = [(grid.rows.shape[1], taps * grid.columns.shape[1], width) for grid in grids]
        # Layer by layer, each row of taps: (C, taps * W), to the taps of this row.
        self.weights = constants(
            row
            for part in _by_layer(folded.tap_weight, channels)
            for row in part.permute(2, 1, 3, 0).flatten(2)
        )
        self.columns = constants(  # (w, x * taps)
            seen_by_taps(grid.columns, taps).permute(1, 2, 0).flatten(1) for grid in grids
        )
        self.rows = constants(  # (h, taps * y)
            seen_by_taps(grid.rows, taps).transpose(0, 1).flatten(1) for grid in grids
        )
        # What the taps add to any picture, as two factors: it is not small, and engines multiply
        # constants when they load.
        self.constant_rows, self.constant = _of_any_picture(folded, grids[0])
        self.map_weight = constant(folded.map_tap_weight)
        self.bias = constant(folded.classification_bias)
        self.output = output

    def forward(self, layers: Sequence[Tensor], raw_map: Tensor) -> Tensor:
        """(B, y * x, C) of each layer and (B, h, w) to (B,)."""
        of_taps = iter(self.weights)
        hidden = self.constant_rows @ self.constant  # (h, w * W)
        for layer, rows, columns, shape in zip(
            layers, self.rows, self.columns, self.shapes, strict=True
        ):
            parts = [
                columns @ (layer @ next(of_taps)).reshape(-1, *shape)  # (B, y, w, W)
                for _ in range(self.taps)
            ]
            hidden = hidden + rows @ torch.cat(parts, dim=1).flatten(2)  # (B, h, w * W)
        of_map = F.conv2d(
            raw_map.reshape(-1, 1, *self.size_hw), self.map_weight, self.bias, padding=self.reach
        )
        # Channels first from here: what a channel's maximum and mean are taken of lies together.
        of_map = of_map.flatten(2)  # (B, W, h * w)
        of_layers = hidden.reshape(-1, of_map.shape[2], of_map.shape[1]).transpose(1, 2)
        hidden = F.relu(of_layers + of_map)
        pooled = [
            hidden.amax(dim=2),  # (B, W)
            hidden.mean(dim=2),  # (B, W)
            raw_map.flatten(1).amax(dim=1, keepdim=True),  # (B, 1)
            raw_map.flatten(1).mean(dim=1, keepdim=True),  # (B, 1)
        ]
        logits: Tensor = self.output(torch.cat(pooled, dim=1))  # (B, 1)
        return logits.flatten()


def lost(matrix: Tensor) -> Tensor:
    """The share of a constant that pooling takes near the ends: (target, source) to (target,)."""
    return 1 - matrix.sum(dim=1)


def _by_layer(weight: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """(O, C, ...) into the parts that see one layer each."""
    return list(torch.split_with_sizes(weight, list(channels), dim=1))


def constant(values: Tensor) -> nn.Parameter:
    """A weight of its own memory that no training changes."""
    return nn.Parameter(values.detach().clone().contiguous(), requires_grad=False)


def constants(values: Iterable[Tensor]) -> nn.ParameterList:
    """Several of them."""
    return nn.ParameterList(constant(each) for each in values)


def _needed(rows: Tensor) -> tuple[int, int]:
    """First and last source row, exclusive, that a strip's rows are made of."""
    used = rows.abs().sum(dim=0).nonzero().flatten()
    return int(used[0]), int(used[-1]) + 1


def _of_any_picture(folded: FoldedHeads, grid: Grid) -> tuple[nn.Parameter, nn.Parameter]:
    """What taps add whatever they see: (h, 2 * taps) and (2 * taps, w * W), to be multiplied.

    A tap adds its bias and, on the share that pooling takes, its border weight, both inside the
    image only; see `SegmentationHead` for the two terms of that share.
    """
    taps = folded.tap_weight.shape[2]
    (inside_y, lost_y), (inside_x, lost_x) = (
        seen_by_taps(torch.stack([torch.ones_like(each), each], dim=1), taps).unbind(2)
        for each in (lost(grid.rows), lost(grid.columns))
    )  # (taps, h) and (taps, w) each
    of_inside = torch.einsum("xw,oyx->ywo", inside_x, folded.tap_bias)
    of_inside = of_inside + torch.einsum("xw,oyx->ywo", lost_x, folded.tap_border)
    of_border = torch.einsum("xw,oyx->ywo", inside_x - lost_x, folded.tap_border)
    rows = torch.cat([inside_y, lost_y]).T
    return constant(rows), constant(torch.cat([of_inside, of_border]).flatten(1))
