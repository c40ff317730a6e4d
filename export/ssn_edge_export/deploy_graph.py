"""A trained net with its heads in the order that costs least: the same function, faster.

Between the backbone and the first non-linearity of each head all is linear: upscaling, pooling,
standardisation, adaptor, convolution, batch norm. So channels are projected where the picture is
small, a 1x1 projection for each row of taps, and small matrices upscale, pool, shift and add what
comes out. With the channels last every step is a plain matrix product on reshaped operands: no
transposition of the large maps, no resize, no pooling, no blur is left.

What a zero border takes from constants needs no maps either: constants are further rows of the
last product's operand, each with its own column of "inside the image".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_edge_export.folded_heads import Features, FoldedHeads, Heads, fold
from ssn_edge_export.spatial_matrices import (
    seen_by_taps,
    upscaled_and_blurred,
    upscaled_and_pooled,
)


class MapFunction(Protocol):
    """Upscaling of the raw map to the network input, and a separable blur."""

    size_hw: tuple[int, int]
    kernel: Tensor


class DeployableNet(Protocol):
    """What the rewrite needs to know of a trained net."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of R, G and B, of pixels in 0 to 1."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """Deviation of R, G and B, of pixels in 0 to 1."""
        ...

    @property
    def backbone(self) -> nn.Module:
        """(B, 3, H, W) to layer2 (B, C2, h2, w2) and layer3 (B, C3, h3, w3)."""
        ...

    @property
    def features(self) -> Features:
        """Layers to feature, at twice the grid of layer2."""
        ...

    @property
    def heads(self) -> Heads:
        """Feature to raw map and classification logit."""
        ...

    @property
    def anomaly_map(self) -> MapFunction:
        """Raw map to anomaly map."""
        ...


class DeployNet(nn.Module):
    """What `deploy_net` makes: takes and gives what the net does, at its input size only."""

    def __init__(
        self,
        net: DeployableNet,
        segmentation: _SegmentationHead,
        classification: _ClassificationHead,
        map_matrices: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.mean, self.std = net.mean, net.std
        self.backbone = net.backbone
        self.segmentation = segmentation
        self.classification = classification
        self.map_rows, self.map_columns = (_constant(each) for each in map_matrices)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Judge normalised images.

        Args:
            image: (B, 3, H, W), RGB, less the mean, over the deviation; H and W the net's own.

        Returns:
            The anomaly map, (B, H, W) logits; and the classification logit, (B,).
        """
        # Pixels first, channels last: (B, y * x, C).
        layers = [layer.flatten(2).transpose(1, 2) for layer in self.backbone(image)]
        raw_map = self.segmentation(layers)  # (B, h, w)
        logits: Tensor = self.classification(layers, raw_map)
        return self.map_rows @ raw_map @ self.map_columns, logits


def deploy_net(net: DeployableNet) -> DeployNet:
    """Rewrite a trained net for inference.

    Constants are worked out in float64 and stored in the type of the net's weights.

    Args:
        net: In evaluation mode; its backbone and last layer are kept by reference.

    Returns:
        In evaluation mode, on the device of the net; equal to the net up to rounding.

    Raises:
        ExportError: The heads are not of a form that can be rewritten.
    """
    weight = net.heads.segmentation.output.weight
    size_hw = net.anomaly_map.size_hw
    with torch.no_grad():
        layers = net.backbone(weight.new_zeros((1, 3, *size_hw)))
        grids = [(int(layer.shape[2]), int(layer.shape[3])) for layer in layers]
        height, width = 2 * grids[0][0], 2 * grids[0][1]
        folded = fold(net.features, net.heads)
        channels = [int(layer.shape[1]) for layer in layers]
        rows, columns = (
            [
                upscaled_and_pooled(grid[axis], side, align_corners=net.features.align_corners)
                for grid in grids
            ]
            for axis, side in enumerate((height, width))
        )
        kernel = net.anomaly_map.kernel.detach().cpu()
        module = DeployNet(
            net,
            _SegmentationHead(folded, channels, rows, columns),
            _ClassificationHead(folded, net.heads.classification.output, channels, rows, columns),
            (
                upscaled_and_blurred(height, size_hw[0], kernel),
                upscaled_and_blurred(width, size_hw[1], kernel).T,
            ),
        )
    return module.to(device=weight.device, dtype=weight.dtype).eval()


class _SegmentationHead(nn.Module):
    """Layers to the raw map.

    Args:
        folded: Weights.
        channels: Of each layer.
        rows: For each layer, what turns its rows into those of the feature, (h, y).
        columns: The same for columns, (w, x).
    """

    def __init__(
        self,
        folded: FoldedHeads,
        channels: Sequence[int],
        rows: Sequence[Tensor],
        columns: Sequence[Tensor],
    ) -> None:
        super().__init__()
        self.slope = folded.slope
        self.size_hw = (len(rows[0]), len(columns[0]))
        self.grids = [
            (row.shape[1], each.shape[1]) for row, each in zip(rows, columns, strict=True)
        ]
        self.weights = _constants(
            part.T for part in _of_layers(folded.segmentation_weight, channels)
        )
        everywhere = torch.ones_like(rows[0][:, :1])
        self.rows = _constant(torch.cat([*rows, everywhere], dim=1))  # (h, sum of y + 1)
        self.columns = _constants(columns)
        self.bias = _constant(folded.segmentation_bias.expand(1, len(columns[0]), -1))
        self.output = _constant(folded.map_weight[:, None])

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """(B, y * x, C) of each layer to (B, h, w)."""
        parts = [
            matrix @ (layer @ weight).reshape(-1, *grid, len(self.output))  # (B, y, w, S)
            for layer, weight, matrix, grid in zip(
                layers, self.weights, self.columns, self.grids, strict=True
            )
        ]
        hidden = self.rows @ _stacked(parts, self.bias)  # (B, h, w * S)
        hidden = F.leaky_relu(hidden.reshape(-1, *self.size_hw, len(self.output)), self.slope)
        return (hidden @ self.output).flatten(2)


class _ClassificationHead(nn.Module):
    """Layers and raw map to the classification logit.

    Args:
        folded: Weights.
        output: The last layer.
        channels: Of each layer.
        rows: For each layer, what turns its rows into those of the feature, (h, y).
        columns: The same for columns, (w, x).
    """

    def __init__(
        self,
        folded: FoldedHeads,
        output: nn.Linear,
        channels: Sequence[int],
        rows: Sequence[Tensor],
        columns: Sequence[Tensor],
    ) -> None:
        super().__init__()
        width, _, taps, _ = folded.tap_weight.shape
        self.reach = taps // 2
        self.size_hw = (len(rows[0]), len(columns[0]))
        self.shapes = [
            (row.shape[1], taps * each.shape[1], width)
            for row, each in zip(rows, columns, strict=True)
        ]
        self.taps = taps
        # Layer by layer, each row of taps: (C, taps * W), to the taps of this row.
        self.weights = _constants(
            row
            for part in _of_layers(folded.tap_weight, channels)
            for row in part.permute(2, 1, 3, 0).flatten(2)
        )
        self.columns = _constants(  # (w, x * taps)
            seen_by_taps(matrix, taps).permute(1, 2, 0).flatten(1) for matrix in columns
        )
        inside_y, inside_x = (
            seen_by_taps(torch.ones_like(matrix[:, :1]), taps).squeeze(2)  # (taps, h) or (taps, w)
            for matrix in (rows[0], columns[0])
        )
        shifted_rows = [seen_by_taps(matrix, taps).transpose(0, 1).flatten(1) for matrix in rows]
        self.rows = _constant(torch.cat([*shifted_rows, inside_y.T], dim=1))
        # What a row of taps adds, (taps, w, W); it ends where the image ends.
        self.tap_bias = _constant(torch.einsum("xw,oyx->ywo", inside_x, folded.tap_bias))
        self.map_weight = _constant(folded.map_tap_weight)
        self.bias = _constant(folded.classification_bias)
        self.output = output

    def forward(self, layers: Sequence[Tensor], raw_map: Tensor) -> Tensor:
        """(B, y * x, C) of each layer and (B, h, w) to (B,)."""
        of_taps = iter(self.weights)
        parts = [
            columns @ (layer @ next(of_taps)).reshape(-1, *shape)  # (B, y, w, W)
            for layer, columns, shape in zip(layers, self.columns, self.shapes, strict=True)
            for _ in range(self.taps)
        ]
        of_feature = self.rows @ _stacked(parts, self.tap_bias)  # (B, h, w * W)
        of_map = F.conv2d(
            raw_map.reshape(-1, 1, *self.size_hw), self.map_weight, self.bias, padding=self.reach
        )
        of_map = of_map.flatten(2).transpose(1, 2)  # (B, h * w, W)
        hidden = F.relu(of_feature.reshape(of_map.shape) + of_map)
        pooled = [
            hidden.amax(dim=1),  # (B, W)
            hidden.mean(dim=1),  # (B, W)
            raw_map.flatten(1).amax(dim=1, keepdim=True),  # (B, 1)
            raw_map.flatten(1).mean(dim=1, keepdim=True),  # (B, 1)
        ]
        logits: Tensor = self.output(torch.cat(pooled, dim=1))  # (B, 1)
        return logits.flatten()


def _stacked(parts: Sequence[Tensor], constant: Tensor) -> Tensor:
    """(B, y, w, C) each and (n, w, C), on top of each other: (B, sum of y + n, w * C)."""
    constants = constant.expand(len(parts[0]), *constant.shape)
    return torch.cat([*parts, constants], dim=1).flatten(2)


def _of_layers(weight: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """(O, C, ...) into the parts that see one layer each."""
    return list(torch.split_with_sizes(weight, list(channels), dim=1))


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone().contiguous(), requires_grad=False)


def _constants(values: Iterable[Tensor]) -> nn.ParameterList:
    return nn.ParameterList(_constant(each) for each in values)
