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


_SCALE_BITS = 8
"""Scales lie within 2 ** -8 and 2 ** 8: a channel that hardly moved in training and fires on a
defect stays finite in float16."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldedHeads:
    """Heads on the layers, centred and scaled, without adaptor and batch norms.

    A channel goes into the heads as `(layer - centre) * scale`: numbers around 0 and of one size,
    so that half precision does not lose small differences beside a large mean, and one INT8 range
    suits all channels. Both are numbers that float16 has, so that it changes neither; what they
    leave of the standardisation is in weights and biases. Pooling takes a share of any constant
    near the border: there it would have taken of the centre, too, and `*_border` weighs that.

    Args:
        centre: (C,), representable in float16.
        scale: (C,), powers of two.
        segmentation_weight: (S, C).
        segmentation_bias: (S,), everywhere.
        segmentation_border: (S,), on the share that pooling takes.
        slope: Of the leaky ReLU.
        map_weight: (S,), of the last convolution of the segmentation head.
        tap_weight: (W, C, k, k), on the feature.
        tap_bias: (W, k, k), what a tap adds where it lies inside the image.
        tap_border: (W, k, k), the same, on the share that pooling takes.
        map_tap_weight: (W, 1, k, k), on the raw map.
        classification_bias: (W,), everywhere.
    """

    centre: Tensor
    scale: Tensor
    segmentation_weight: Tensor
    segmentation_bias: Tensor
    segmentation_border: Tensor
    slope: float
    map_weight: Tensor
    tap_weight: Tensor
    tap_bias: Tensor
    tap_border: Tensor
    map_tap_weight: Tensor
    classification_bias: Tensor


@torch.no_grad()
def fold(features: Features, heads: Heads) -> FoldedHeads:
    """Multiply adaptor, batch norms and most of the standardisation into the convolutions.

    Raises:
        ExportError: The variant is neither of the two, or a kernel is not square and odd.
    """
    segmentation, classification = heads.segmentation, heads.classification
    _check(heads.variant.value, classification.hidden)
    mean, std = _exact(features.mean), _exact(features.std)
    centre = mean.to(torch.float16).to(torch.float64)
    scale = 2 ** -std.log2().round().clamp(-_SCALE_BITS, _SCALE_BITS)
    rest = 1 / (std * scale)  # of the standardisation, for the weights
    everywhere, at_border = (centre - mean) / std, -centre / std

    projection = heads.adaptor.projection
    adaptor = _exact(projection.weight)[:, :, 0, 0]  # (C, C)
    norm_scale, norm_shift = _affine(segmentation.norm)
    weight = norm_scale[:, None] * _exact(segmentation.hidden.weight)[:, :, 0, 0]  # (S, C)
    bias = weight @ _bias(projection) + norm_scale * _bias(segmentation.hidden) + norm_shift
    weight = weight @ adaptor

    norm_scale, norm_shift = _affine(classification.norm)
    taps = norm_scale[:, None, None, None] * _exact(classification.hidden.weight)
    map_taps, taps = taps[:, -1:], taps[:, :-1]
    # The adaptor's bias ends with the image, the convolution's own does not.
    tap_bias = torch.zeros_like(taps[:, 0])
    if heads.variant.value == CONFERENCE:
        tap_bias = _on_taps(taps, _bias(projection))
        taps = (taps.permute(0, 2, 3, 1) @ adaptor).permute(0, 3, 1, 2)
    return FoldedHeads(
        centre=centre,
        scale=scale,
        segmentation_weight=weight * rest,
        segmentation_bias=bias + weight @ everywhere,
        segmentation_border=weight @ at_border,
        slope=segmentation.activation.negative_slope,
        map_weight=_exact(segmentation.output.weight).flatten(),
        tap_weight=taps * rest[:, None, None],
        tap_bias=tap_bias + _on_taps(taps, everywhere),
        tap_border=_on_taps(taps, at_border),
        map_tap_weight=map_taps,
        classification_bias=norm_scale * _bias(classification.hidden) + norm_shift,
    )


def _on_taps(taps: Tensor, channels: Tensor) -> Tensor:
    """(W, C, k, k) and (C,) to (W, k, k)."""
    return torch.einsum("ocyx,c->oyx", taps, channels)


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
