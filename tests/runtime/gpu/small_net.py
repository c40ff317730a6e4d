"""A SuperSimpleNet with random weights whose maps and scores differ from picture to picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssn_edge.model.backbone import Normalisation
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant

CHANNELS = (32, 64)


class SmallBackbone(nn.Module):
    """Two layers at an eighth and a sixteenth of the picture."""

    channels = CHANNELS
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())
        )
        self.fine = nn.Sequential(nn.Conv2d(16, CHANNELS[0], 3, 2, 1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, 2, 1), nn.ReLU())

    def forward(self, image: Tensor) -> list[Tensor]:
        fine = self.fine(self.stem(image))
        return [fine, self.coarse(fine)]


def small_net(size_hw: tuple[int, int], *, seed: int = 0) -> SuperSimpleNet:
    torch.manual_seed(seed)
    architecture = Architecture("small", size_hw, HeadWidths(32, 16), Variant.JOURNAL, True)
    return SuperSimpleNet(architecture, SmallBackbone()).eval()
