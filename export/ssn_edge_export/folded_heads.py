"""The trained heads with all that is linear in them multiplied out, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor, nn

from ssn_edge_runtime.errors import ExportError

JOURNAL, CONFERENCE = "journal", "conference"
"""Values of `Heads.variant`: the classification head sees the feature, or the adapted one."""


class Adaptor(Protocol):
    """A linear 1x1 projection of the feature onto itself."""

    projection: nn.Conv2d


class SegmentationHead(Protocol):
    """1x1 convolution, batch norm, leaky ReLU, 1x1 convolution without bias."""

    hidden: nn.Conv2d
    activation: nn.LeakyReLU
    output: nn.Conv2d

    @property
    def norm(self) -> nn.BatchNorm2d:
        """Of the hidden channels."""
        ...


class ClassificationHead(Protocol):
    """Zero-padded convolution of feature and map, batch norm, ReLU, pooling, linear layer."""

    hidden: nn.Conv2d
    output: nn.Linear

    @property
    def norm(self) -> nn.BatchNorm2d:
        """Of the hidden channels."""
        ...


class Heads(Protocol):
    """What follows the feature."""

    @property
    def variant(self) -> Enum:
        """Its value is `JOURNAL` or `CONFERENCE`."""
        ...

    @property
    def adaptor(self) -> Adaptor:
        """In front of the segmentation head, and in the conference variant of both."""
        ...

    @property
    def segmentation(self) -> SegmentationHead:
        """Gives the raw map."""
        ...

    @property
    def classification(self) -> ClassificationHead:
        """Gives the logit."""
        ...


class Features(Protocol):
    """Upscales both layers, pools 3x3, standardises each channel."""

    align_corners: bool
    mean: Tensor
    std: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class FoldedHeads:
    """Heads on the pooled feature before standardisation, without adaptor and batch norms.

    Args:
        segmentation_weight: (S, C).
        segmentation_bias: (S,).
        slope: Of the leaky ReLU.
        map_weight: (S,), of the last convolution of the segmentation head.
        tap_weight: (W, C, k, k), on the feature.
        tap_bias: (W, k, k), what a tap adds where it lies inside the image.
        map_tap_weight: (W, 1, k, k), on the raw map.
        classification_bias: (W,), everywhere.
    """

    segmentation_weight: Tensor
    segmentation_bias: Tensor
    slope: float
    map_weight: Tensor
    tap_weight: Tensor
    tap_bias: Tensor
    map_tap_weight: Tensor
    classification_bias: Tensor


@torch.no_grad()
def fold(features: Features, heads: Heads) -> FoldedHeads:
    """Multiply standardisation, adaptor and batch norms into the convolutions.

    Raises:
        ExportError: The variant is neither of the two, or a kernel is not square and odd.
    """
    segmentation, classification = heads.segmentation, heads.classification
    _check(heads.variant.value, classification.hidden)
    inverse_std = 1 / _exact(features.std)
    standard_shift = -_exact(features.mean) * inverse_std  # the feature of a channel of zeros
    projection = heads.adaptor.projection
    adaptor = _exact(projection.weight)[:, :, 0, 0]  # (C, C)
    adapted_shift = adaptor @ standard_shift + _bias(projection)

    scale, shift = _affine(segmentation.norm)
    weight = scale[:, None] * _exact(segmentation.hidden.weight)[:, :, 0, 0]  # (S, C)
    bias = weight @ adapted_shift + scale * _bias(segmentation.hidden) + shift

    class_scale, class_shift = _affine(classification.norm)
    taps = class_scale[:, None, None, None] * _exact(classification.hidden.weight)
    map_taps, taps = taps[:, -1:], taps[:, :-1]
    seen_shift = standard_shift
    # The shift of the feature ends with the image, the convolution's own bias does not.
    if heads.variant.value == CONFERENCE:
        seen_shift = adapted_shift
    tap_bias = torch.einsum("ocyx,c->oyx", taps, seen_shift)
    if heads.variant.value == CONFERENCE:
        taps = (taps.permute(0, 2, 3, 1) @ adaptor).permute(0, 3, 1, 2)
    return FoldedHeads(
        segmentation_weight=weight @ adaptor * inverse_std,
        segmentation_bias=bias,
        slope=segmentation.activation.negative_slope,
        map_weight=_exact(segmentation.output.weight).flatten(),
        tap_weight=taps * inverse_std[:, None, None],
        tap_bias=tap_bias,
        map_tap_weight=map_taps,
        classification_bias=class_scale * _bias(classification.hidden) + class_shift,
    )


def _check(variant: object, hidden: nn.Conv2d) -> None:
    if variant not in (JOURNAL, CONFERENCE):
        raise ExportError(
            f"the net's variant is {variant!r}; {JOURNAL!r} or {CONFERENCE!r} is wanted; "
            "export the reference graph instead"
        )
    height, width = hidden.kernel_size
    if height != width or height % 2 == 0 or hidden.padding != (height // 2, width // 2):
        raise ExportError(
            f"the classification head has a {height} x {width} kernel with padding "
            f"{hidden.padding}; a square, odd, centred one is wanted; export the reference graph "
            "instead"
        )


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = _exact(norm.weight) / torch.sqrt(_exact(norm.running_var) + norm.eps)
    return scale, _exact(norm.bias) - _exact(norm.running_mean) * scale


def _bias(layer: nn.Conv2d) -> Tensor:
    if layer.bias is None:
        return torch.zeros(layer.out_channels, dtype=torch.float64)
    return _exact(layer.bias)


def _exact(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)
