"""The training step, with the frozen part of its arithmetic taken out; same loss, same gradients.

The heads see `F + n Z`, features and noise on the pixels of a mask, and up to the batch norms all
is linear in it. So `conv(F + n Z) = conv(F) + conv(n Z)`: the first is worked out from the small
backbone outputs, once for a picture and both of its doubled copies (`low_resolution`); the second
for the noisy pixels alone (`sparse_noise`). Nothing needs a gradient towards the features, as the
backbone is frozen.

Source:
    deploy-graph.md, "The same idea in training". `training_step` is what it is held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_edge.model.anomaly_generator import Anomalies, generate_anomalies
from ssn_edge.model.features import FeatureBuilder
from ssn_edge.model.heads import Heads
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.cache import Batch
from ssn_edge.training.leaky_projection import leaky_projection
from ssn_edge.training.low_resolution import (
    LowMap,
    frame_map,
    layer_map,
    low_resolution_convolution,
)
from ssn_edge.training.processes import ALONE, Processes
from ssn_edge.training.regime import Supervision
from ssn_edge.training.sparse_noise import add_noise_convolution
from ssn_edge.training.step import StepResult, step_result


def split_training_step(
    net: SuperSimpleNet,
    batch: Batch,
    *,
    plan: Supervision,
    noise_std: float,
    keys: Tensor,
    processes: Processes = ALONE,
) -> StepResult:
    """Loss of one batch on doubled, perturbed samples, as `training_step` gives it.

    It computes in the weights' precision, under autocast too. It can be differentiated once: the
    backward pass reuses the forward pass's memory.

    Args:
        net: In training mode.
        batch: B samples.
        plan: The regime's settings.
        noise_std: Deviation of the noise.
        keys: (2B,) int64 of `sample_keys`, on the batch's device.
        processes: Who has the other parts of the batch, if it has any.
    """
    features = _Features.of(net.features, batch)
    anomalies = generate_anomalies(
        batch.mask,
        batch.label,
        keys=keys,
        channels=len(features.level),
        noise_std=noise_std,
        perlin_threshold=plan.perlin_threshold,
    )
    with torch.autocast(batch.layer2.device.type, enabled=False):
        map_logits = _map_logits(net.heads, features, anomalies)
        seen = map_logits.detach() if plan.detach_map else map_logits
        score_logits = _score_logits(net.heads, features, anomalies, seen)
        return step_result(map_logits, score_logits, anomalies, batch, plan, processes)


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """The standardised feature of a batch, as summands that were not upscaled.

    Args:
        maps: layer2 and layer3, standardised, and `frame_map`.
        level: (C,), mean by deviation: standardisation comes after the pooling, so near the border
            it takes off more than the pooling of standardised layers does, by `level` times the
            frame's first channel.
    """

    maps: Sequence[LowMap]
    level: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, builder: FeatureBuilder, batch: Batch) -> _Features:
        layers = (batch.layer2, batch.layer3)
        grid_hw = (2 * batch.layer2.shape[2], 2 * batch.layer2.shape[3])
        channels = [layer.shape[1] for layer in layers]
        means = builder.mean.view(1, -1, 1, 1).split_with_sizes(channels, dim=1)
        deviations = builder.std.view(1, -1, 1, 1).split_with_sizes(channels, dim=1)
        maps = [
            layer_map((layer - mean) / deviation, grid_hw, align_corners=builder.align_corners)
            for layer, mean, deviation in zip(layers, means, deviations, strict=True)
        ]
        frame = frame_map(len(batch.layer2), grid_hw, batch.layer2)
        return cls([*maps, frame], builder.mean / builder.std)

    def convolved(self, weight: Tensor, bias: Tensor, memory_format: torch.memory_format) -> Tensor:
        """Convolve the feature, twice the batch.

        Args:
            weight: (k, k, O, C).
            bias: (k, k, O), what each tap adds where it is inside the image.
            memory_format: Of the result.

        Returns:
            (2B, O, h, w).
        """
        channels = [each.pixels.shape[2] for each in self.maps[:-1]]
        frame = torch.stack([weight @ self.level, bias], dim=3)
        weights = [*weight.split_with_sizes(channels, dim=3), frame]
        return low_resolution_convolution(self.maps, weights, copies=2, memory_format=memory_format)


def _map_logits(heads: Heads, features: _Features, anomalies: Anomalies) -> Tensor:
    """(2B, h, w)."""
    head = heads.segmentation
    weight = _taps(head.hidden.weight)
    clean, bias = _before_adaptor(heads, weight)
    # Contiguous: over channels last, torch's batch norm on a CPU sums naively and loses two digits.
    hidden = features.convolved(clean, bias + _bias(head.hidden), torch.contiguous_format)
    hidden = add_noise_convolution(hidden, anomalies, weight)
    normed: Tensor = head.norm(hidden)  # (2B, W, h, w)
    return leaky_projection(normed, head.output.weight.flatten(), head.activation.negative_slope)


def _score_logits(
    heads: Heads, features: _Features, anomalies: Anomalies, map_logits: Tensor
) -> Tensor:
    """(2B,), of (2B, h, w)."""
    head = heads.classification
    taps = _taps(head.hidden.weight)
    weight, map_weight = taps.split_with_sizes([taps.shape[3] - 1, 1], dim=3)
    # The centre tap is inside the image everywhere: it carries the head's own bias.
    reach = len(taps) // 2
    own_bias = F.pad(_bias(head.hidden)[None, None], (0, 0, reach, reach, reach, reach))
    if heads.variant is Variant.JOURNAL:
        clean, bias = weight, own_bias
    else:
        clean, bias = _before_adaptor(heads, weight)
        bias = bias + own_bias
    hidden = features.convolved(clean, bias, torch.channels_last)
    hidden = add_noise_convolution(hidden, anomalies, weight)
    hidden = _with_map_convolution(hidden, map_logits, map_weight)
    return head.score(hidden, map_logits[:, None])


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


def _taps(weight: Tensor) -> Tensor:
    """A convolution's (O, C, k, k) as (k, k, O, C)."""
    return weight.permute(2, 3, 0, 1).contiguous()


def _before_adaptor(heads: Heads, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Fold the adaptor into a convolution that follows it.

    Args:
        heads: With the adaptor.
        weight: (k, k, O, C), on adapted features.

    Returns:
        (k, k, O, C) on features, and (k, k, O), what each tap adds.
    """
    adaptor = heads.adaptor.projection
    return weight @ adaptor.weight.flatten(1), weight @ _bias(adaptor)


def _with_map_convolution(hidden: Tensor, map_logits: Tensor, weight: Tensor) -> Tensor:
    """Add the 5x5 convolution of the map; as a product, as convolutions of one channel are slow.

    Args:
        hidden: (2B, O, h, w).
        map_logits: (2B, h, w).
        weight: (k, k, O, 1).

    Returns:
        (2B, O, h, w), contiguous.
    """
    taps, _, width, _ = weight.shape
    windows = F.unfold(map_logits[:, None], taps, padding=taps // 2)  # (2B, k * k, h * w)
    kernel = weight.reshape(-1, width).T.expand(len(hidden), -1, -1)  # (2B, O, k * k)
    return torch.baddbmm(hidden.flatten(2), kernel, windows).view(hidden.shape)
