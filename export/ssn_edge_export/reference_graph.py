"""The straightforward graph around a trained net: camera pixels in, what a verdict needs out."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ssn_edge_runtime.decision import LARGEST_LOGIT

NOT_JUDGED_LOGIT = -2 * LARGEST_LOGIT
"""The map's value outside the region mask, for the map maximum. Finite in float16, and beyond what
the decision rule takes: a region that leaves nothing to judge becomes `unknown`, not `pass`."""


class InspectionNet(Protocol):
    """What `export` needs to know of a trained net; in practice a `torch.nn.Module`."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of R, G and B, of pixels in 0 to 1."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """Deviation of R, G and B, of pixels in 0 to 1."""
        ...

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Judge normalised images.

        Args:
            image: (B, 3, H, W) float32, RGB, less the mean, over the deviation.

        Returns:
            The anomaly map, (B, H, W) float32 logits at input size, upscaled and blurred; and the
            classification logit, (B,) float32.
        """
        ...


class ReferenceGraph(nn.Module):
    """A net with normalisation before it and region, maximum and mask after it.

    Inputs and outputs are those of `ssn_edge_runtime.engines.base`, in that order.

    Args:
        net: The trained net, in evaluation mode, kept by reference.
    """

    scale: Tensor
    shift: Tensor
    rgb_of_bgr: Tensor

    def __init__(self, net: InspectionNet) -> None:
        super().__init__()
        self.net = net
        mean = torch.tensor(net.mean, dtype=torch.float64)
        std = torch.tensor(net.std, dtype=torch.float64)
        # (x / 255 - mean) / std as one multiplication and one addition, rounded once.
        self.register_buffer("scale", _per_channel(1 / (255 * std)))
        self.register_buffer("shift", _per_channel(-mean / std))
        self.register_buffer("rgb_of_bgr", torch.tensor([2, 1, 0]))

    def forward(
        self, pixels: Tensor, pixel_threshold: Tensor, region_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Judge camera pixels.

        Args:
            pixels: (B, H, W, 3) uint8, BGR.
            pixel_threshold: (1,) float32, a logit.
            region_mask: (H, W) uint8; 0 is not judged.

        Returns:
            Classification logit, (B,) float32; map maximum within the region, (B,) float32;
            anomaly map, (B, H, W) float32 logits, unmasked; defect mask, (B, H, W) uint8, 0 or 1.
        """
        # TensorRT has uint8 at the graph's edge only, to and from float: Cast comes first and last.
        image = pixels.to(torch.float32)
        image = image.permute(0, 3, 1, 2).index_select(1, self.rgb_of_bgr)  # (B, 3, H, W)
        anomaly_map, classification_logit = self.net(image * self.scale + self.shift)
        is_judged = region_mask.to(torch.float32) > 0.5  # (H, W)
        map_max_logit = torch.where(is_judged, anomaly_map, NOT_JUDGED_LOGIT).amax(dim=(1, 2))
        is_defect = (anomaly_map >= pixel_threshold) & is_judged  # (B, H, W)
        defect_mask = torch.where(is_defect, 1.0, 0.0).to(torch.uint8)
        return classification_logit, map_max_logit, anomaly_map, defect_mask


def _per_channel(values: Tensor) -> Tensor:
    return values.to(torch.float32).reshape(1, 3, 1, 1)
