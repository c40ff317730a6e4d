"""SuperSimpleNet, assembled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ssn_edge.model.anomaly_map import AnomalyMap, MapOutput
from ssn_edge.model.backbone import Backbone
from ssn_edge.model.features import FeatureBuilder
from ssn_edge.model.heads import Heads, HeadWidths
from ssn_edge.model.variant import Variant


@dataclass(frozen=True, slots=True)
class Architecture:
    """Every number that a net is built from; stored in the checkpoint.

    Args:
        backbone: timm name.
        input_size_hw: Height and width of the network input.
        widths: Hidden channels of the heads.
        variant: Journal or conference.
        align_corners: Of the feature upscaling.
        map_output: What the net's origin gives as its map; logits for a net of ours.
    """

    backbone: str
    input_size_hw: tuple[int, int]
    widths: HeadWidths
    variant: Variant = Variant.JOURNAL
    align_corners: bool = True
    map_output: MapOutput = MapOutput.LOGITS


class SuperSimpleNet(nn.Module):
    """Backbone, features, adaptor, heads and anomaly map.

    Args:
        architecture: See there.
        backbone: A backbone of that name; built without weights where absent.
    """

    def __init__(self, architecture: Architecture, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone or Backbone(architecture.backbone)
        channels = self.backbone.channels
        self.features = FeatureBuilder(channels, align_corners=architecture.align_corners)
        self.heads = Heads(sum(channels), architecture.widths, architecture.variant)
        self.anomaly_map = AnomalyMap(architecture.input_size_hw)

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of RGB pixels in 0..1 that the input is normalised with."""
        return self.backbone.normalisation.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """Deviation of RGB pixels in 0..1 that the input is normalised with."""
        return self.backbone.normalisation.std

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Judge pictures.

        Args:
            image: (B, 3, H, W) float32, RGB, normalised.

        Returns:
            Anomaly map (B, H, W) and classification logits (B,), both unbounded logits; higher is
            more anomalous.
        """
        layer2, layer3 = self.backbone(image)
        map_logits, score_logits = self.heads(self.features(layer2, layer3))
        return self.anomaly_map(map_logits), score_logits

    def map_of_origin(self, anomaly_map: Tensor) -> Tensor:
        """Our anomaly map as the code that the net was imported from gives it.

        Logits stay as they are; a sigmoid rises strictly with them, so the order of pixels, the
        place of the maximum and every ranking metric are the same, and a threshold t on ours is
        sigmoid(t) on theirs. In float32 theirs loses digits as logits grow, and ties at 1 above 17.

        Args:
            anomaly_map: (B, H, W) logits from `forward`.

        Returns:
            (B, H, W), in logits or 0 to 1 as `Architecture.map_output` says. The score needs no
            counterpart: the nets of both origins give its logit, as ours.
        """
        if self.architecture.map_output is MapOutput.SIGMOID:
            return anomaly_map.sigmoid()
        return anomaly_map
