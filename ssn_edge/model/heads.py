"""The trained part: feature adaptor, segmentation head, classification head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssn_edge.model.batch_norm import BatchNorm
from ssn_edge.model.variant import Variant
from ssn_edge_runtime.errors import ConfigError

PUBLISHED_CHANNELS = 1536
PUBLISHED_SEGMENTATION_WIDTH = 1024
PUBLISHED_CLASSIFICATION_WIDTH = 128
_LEAST_SEGMENTATION_WIDTH = 64
_LEAST_CLASSIFICATION_WIDTH = 32


@dataclass(frozen=True, slots=True)
class HeadWidths:
    """Hidden channels of the two heads."""

    segmentation: int
    classification: int

    def __post_init__(self) -> None:
        """Refuse a head without channels."""
        if self.segmentation < 1 or self.classification < 1:
            raise ConfigError(
                f"head widths {self.segmentation} and {self.classification}: at least 1 is wanted"
            )


def default_widths(channels: int) -> HeadWidths:
    """The published widths for 1536 channels, in proportion below, in steps of 8, with a floor.

    The floor (64 and 32) keeps the classifier of a net with few channels from starving: a strict
    proportion gives EfficientNet-Lite0's 152 channels a width of 13.
    """
    share = min(1.0, channels / PUBLISHED_CHANNELS)

    def width(published: int, least: int) -> int:
        return max(least, round(published * share / 8) * 8)

    return HeadWidths(
        segmentation=width(PUBLISHED_SEGMENTATION_WIDTH, _LEAST_SEGMENTATION_WIDTH),
        classification=width(PUBLISHED_CLASSIFICATION_WIDTH, _LEAST_CLASSIFICATION_WIDTH),
    )


class FeatureAdaptor(nn.Module):
    """A 1x1 projection of the features onto themselves; linear."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, channels, kernel_size=1)
        nn.init.xavier_normal_(self.projection.weight)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        adapted: Tensor = self.projection(feature)
        return adapted


class SegmentationHead(nn.Module):
    """Adapted features to the low-resolution anomaly map, in logits."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, width, kernel_size=1)
        self.norm = BatchNorm(width)
        self.activation = nn.LeakyReLU(0.2)
        self.output = nn.Conv2d(width, 1, kernel_size=1, bias=False)
        nn.init.xavier_normal_(self.hidden.weight)
        nn.init.xavier_normal_(self.output.weight)

    def forward(self, adapted: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 1, h, w), unbounded."""
        logits: Tensor = self.output(self.activation(self.norm(self.hidden(adapted))))
        return logits


class ClassificationHead(nn.Module):
    """Features and map to one logit a picture."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # An explicit padding: profilers and converters mishandle padding="same".
        self.hidden = nn.Conv2d(channels + 1, width, kernel_size=5, padding=2)
        self.norm = BatchNorm(width)
        self.activation = nn.ReLU()
        self.output = nn.Linear(2 * width + 2, 1)
        nn.init.xavier_normal_(self.hidden.weight)
        nn.init.xavier_normal_(self.output.weight)

    def forward(self, feature: Tensor, map_logits: Tensor) -> Tensor:
        """Score pictures.

        Args:
            feature: (B, C, h, w), un-adapted (journal) or adapted (conference).
            map_logits: (B, 1, h, w), at the features' resolution.

        Returns:
            (B,) logits.
        """
        return self.score(self.hidden(torch.cat([feature, map_logits], dim=1)), map_logits)

    def score(self, hidden: Tensor, map_logits: Tensor) -> Tensor:
        """What follows the convolution.

        Args:
            hidden: (B, width, h, w), of the convolution.
            map_logits: (B, 1, h, w).

        Returns:
            (B,) logits.
        """
        hidden = self.activation(self.norm(hidden))
        pooled = [
            hidden.amax(dim=(2, 3)),  # (B, width)
            hidden.mean(dim=(2, 3)),  # (B, width)
            map_logits.amax(dim=(2, 3)),  # (B, 1)
            map_logits.mean(dim=(2, 3)),  # (B, 1)
        ]
        logits: Tensor = self.output(torch.cat(pooled, dim=1))  # (B, 1)
        return logits.flatten()


class Heads(nn.Module):
    """Adaptor and both heads.

    Args:
        channels: Of the feature.
        widths: Hidden channels.
        variant: Which feature the classification head sees.

    Source:
        blaz-r/SuperSimpleNet@60d1e74 model/supersimplenet.py (MIT), re-implemented.
    """

    def __init__(self, channels: int, widths: HeadWidths, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.adaptor = FeatureAdaptor(channels)
        self.segmentation = SegmentationHead(channels, widths.segmentation)
        self.classification = ClassificationHead(channels, widths.classification)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Map and score of clean features, as at inference.

        Args:
            feature: (B, C, h, w) from `FeatureBuilder`.

        Returns:
            Map logits (B, 1, h, w) and classification logits (B,).
        """
        return self.judge(feature, self.adaptor(feature), detach_map=False)

    def judge(self, feature: Tensor, adapted: Tensor, *, detach_map: bool) -> tuple[Tensor, Tensor]:
        """Both heads on features that may carry noise.

        Args:
            feature: (B, C, h, w), un-adapted.
            adapted: (B, C, h, w), the adaptor's output.
            detach_map: Keep the classification loss out of the map: on without real defects.

        Returns:
            Map logits (B, 1, h, w) and classification logits (B,).
        """
        map_logits = self.segmentation(adapted)
        seen = feature if self.variant is Variant.JOURNAL else adapted
        score_logits = self.classification(seen, map_logits.detach() if detach_map else map_logits)
        return map_logits, score_logits
