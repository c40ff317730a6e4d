"""A trained net with its heads in the order that costs least: the same function, faster.

Between the backbone and the first non-linearity of each head all is linear: upscaling, pooling,
standardisation, adaptor, convolution, batch norm. So channels are projected where the picture is
small, a 1x1 projection for the segmentation head and one for each row of taps of the classification
head, and small matrices upscale, pool, shift and add what comes out. No resize, no pooling, no blur
is left, and no map at full size but the segmentation head's hidden one, a strip at a time.

The layers are centred and scaled before they are projected: see `FoldedHeads`. What pooling and a
zero border take from constants needs no map of its own: constants are further rows of an operand,
each with its own column of "inside the image" or of "lost at the border".
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ssn_edge_export.deploy_heads import (
    ClassificationHead,
    Grid,
    SegmentationHead,
    Standardise,
    constant,
)
from ssn_edge_export.folded_heads import Features, Heads, fold
from ssn_edge_export.spatial_matrices import upscaled_and_blurred, upscaled_and_pooled


class MapFunction(Protocol):
    """Upscaling of the raw map to the network input, and a separable blur."""

    size_hw: tuple[int, int]
    kernel: Tensor


@runtime_checkable
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
        standardise: Standardise,
        segmentation: SegmentationHead,
        classification: ClassificationHead,
        map_matrices: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.mean, self.std = net.mean, net.std
        self.backbone = net.backbone
        self.standardise = standardise
        self.segmentation = segmentation
        self.classification = classification
        self.map_rows, self.map_columns = (constant(each) for each in map_matrices)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Judge normalised images.

        Args:
            image: (B, 3, H, W), RGB, less the mean, over the deviation; H and W the net's own.

        Returns:
            The anomaly map, (B, H, W) logits; and the classification logit, (B,).
        """
        layers = self.backbone(image)  # (B, C, y, x) each
        raw_map = self.segmentation(self.standardise.channels_first(layers))  # (B, h, w)
        logits: Tensor = self.classification(self.standardise.channels_last(layers), raw_map)
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
        height, width = (2 * int(side) for side in layers[0].shape[2:])
        folded = fold(net.features, net.heads)
        channels = [int(layer.shape[1]) for layer in layers]
        grids = [
            Grid(
                *(
                    upscaled_and_pooled(
                        int(source), target, align_corners=net.features.align_corners
                    )
                    for source, target in zip(layer.shape[2:], (height, width), strict=True)
                )
            )
            for layer in layers
        ]
        kernel = net.anomaly_map.kernel.detach().cpu()
        module = DeployNet(
            net,
            Standardise(folded, channels),
            SegmentationHead(folded, channels, grids),
            ClassificationHead(folded, net.heads.classification.output, channels, grids),
            (
                upscaled_and_blurred(height, size_hw[0], kernel),
                upscaled_and_blurred(width, size_hw[1], kernel).T,
            ),
        )
    return module.to(device=weight.device, dtype=weight.dtype).eval()
