"""Small nets as the authors' code and anomalib have them, written from the facts, not from ours."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ssn_edge_runtime.arrays import ByteImage

BACKBONE = "test_byobnet"
"""timm's smallest network with ImageNet's mean and deviation, as both origins want."""
LAYERS = ["stages.1", "stages.2"]
CHANNELS = 192
WIDTHS = (24, 12)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ForeignNet:
    """A net with random weights, in both origins' words.

    Args:
        extractor: The backbone as timm gives it for its features, cut behind the last one.
        heads: Weights by short names: adaptor, seg0, seg1, seg3, cls0, cls1, fc.
        adapts: Whether the classification head sees adapted features: the conference variant.
        anomalib: No corner alignment, and a sigmoid on the map.
    """

    extractor: nn.Module
    heads: dict[str, Tensor]
    adapts: bool
    anomalib: bool

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) normalised RGB to map (B, H, W) and score (B,), in float64."""
        weights = {name: value.double() for name, value in self.heads.items()}

        def conv(x: Tensor, name: str, padding: int = 0) -> Tensor:
            bias = weights.get(f"{name}.bias")
            return F.conv2d(x, weights[f"{name}.weight"], bias, padding=padding)

        def norm(x: Tensor, name: str) -> Tensor:
            leaves = ("running_mean", "running_var", "weight", "bias")
            return F.batch_norm(x, *(weights[f"{name}.{leaf}"] for leaf in leaves))

        with torch.no_grad():
            layers = copy.deepcopy(self.extractor).double()(image.double())
            size = (2 * layers[0].shape[2], 2 * layers[0].shape[3])
            feature = torch.cat(
                [
                    F.interpolate(x, size, mode="bilinear", align_corners=not self.anomalib)
                    for x in layers
                ],
                dim=1,
            )
            feature = F.avg_pool2d(feature, 3, stride=1, padding=1)
            adapted = conv(feature, "adaptor")
            low = conv(F.leaky_relu(norm(conv(adapted, "seg0"), "seg1"), 0.2), "seg3")
            seen = torch.cat([adapted if self.adapts else feature, low], dim=1)
            hidden = F.relu(norm(conv(seen, "cls0", padding=2), "cls1"))
            pooled = [f(x) for x in (hidden, low) for f in (_maximum, _mean)]
            score = F.linear(torch.cat(pooled, dim=1), weights["fc.weight"], weights["fc.bias"])
            large = F.interpolate(low, image.shape[2:], mode="bilinear", align_corners=False)
            large = F.conv2d(F.pad(large, [12] * 4, mode="reflect"), gaussian()[None, None])[:, 0]
        return (large.sigmoid() if self.anomalib else large), score[:, 0]

    def backbone_file(self, path: Path) -> Path:
        """The backbone's weights alone, as a download has them."""
        save_file(self.extractor.state_dict(), path)
        return path

    def authors_state(self) -> OrderedDict[str, Tensor]:
        """What the authors' code saves."""
        return _renamed(
            self.heads,
            {
                "adaptor": "feature_adaptor.projection",
                "seg": "discriminator.seg.",
                "cls": "discriminator.dec_head.",
                "fc": "discriminator.fc_score",
            },
        )

    def anomalib_state(self) -> dict[str, Tensor]:
        """The state dict in anomalib's checkpoints."""
        heads = _renamed(
            self.heads,
            {
                "adaptor": "model.adaptor.projection",
                "seg": "model.segdec.seg_head.",
                "cls": "model.segdec.cls_conv.",
                "fc": "model.segdec.cls_fc",
            },
        )
        inner = "model.feature_extractor.feature_extractor.feature_extractor."
        return {
            **{inner + name: value for name, value in self.extractor.state_dict().items()},
            **heads,
            "model.anomaly_map_generator.smoothing.kernel": gaussian().float()[None, None],
            "post_processor._image_threshold": torch.tensor(0.4),
            "post_processor.pixel_max": torch.tensor(float("nan")),
        }

    def anomalib_checkpoint(self, **changes: object) -> dict[str, object]:
        """What Lightning saves, with the hyper-parameters that anomalib has."""
        return {
            "epoch": 3,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": self.anomalib_state(),
            "loops": {"fit_loop": {"state_dict": {}}},
            "lr_schedulers": [{"milestones": Counter({240: 1})}],
            "hparams_name": "kwargs",
            "hyper_parameters": {
                "perlin_threshold": 0.2,
                "backbone": BACKBONE,
                "layers": LAYERS,
                "supervised": False,
                "adapt_cls_features": self.adapts,
                "pre_processor": True,
                **changes,
            },
        }


def make_net(*, adapts: bool, anomalib: bool, seed: int = 0) -> ForeignNet:
    """The same seed gives the same net; no weight is at its initial value."""
    seg, cls = WIDTHS
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        extractor: nn.Module = timm.create_model(
            BACKBONE, pretrained=False, features_only=True, out_indices=(2, 3)
        )
        for module in extractor.modules():
            if isinstance(module, nn.BatchNorm2d):
                _shake(module)
        modules: dict[str, nn.Module] = {
            "adaptor": nn.Conv2d(CHANNELS, CHANNELS, 1),
            "seg0": nn.Conv2d(CHANNELS, seg, 1),
            "seg1": _shake(nn.BatchNorm2d(seg)),
            "seg3": nn.Conv2d(seg, 1, 1, bias=False),
            "cls0": nn.Conv2d(CHANNELS + 1, cls, 5),
            "cls1": _shake(nn.BatchNorm2d(cls)),
            "fc": nn.Linear(2 * cls + 2, 1),
        }
    with torch.no_grad():
        modules["seg3"].weight.mul_(20)  # type: ignore[operator]  # a map with some relief
    heads = {
        f"{part}.{leaf}": value
        for part, module in modules.items()
        for leaf, value in module.state_dict().items()
    }
    return ForeignNet(extractor.eval(), heads, adapts, anomalib)


def normalised(pixels_rgb: Tensor) -> Tensor:
    """(B, 3, H, W) RGB, 0 to 1, by ImageNet's mean and deviation."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    return (pixels_rgb - mean) / std


def rgb(frame_bgr: ByteImage) -> Tensor:
    """A frame as (1, 3, H, W) RGB, 0 to 1."""
    return (
        torch.from_numpy(np.ascontiguousarray(frame_bgr[:, :, ::-1])).permute(2, 0, 1)[None] / 255
    )


def gaussian() -> Tensor:
    """25 x 25, sigma 4, sum 1, float64."""
    offsets = torch.arange(-12, 13, dtype=torch.float64)
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 32)
    return kernel / kernel.sum()


def _shake(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.2)
        norm.bias.normal_(0, 0.2)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.7, 1.5)
    return norm


def _renamed(heads: dict[str, Tensor], names: dict[str, str]) -> OrderedDict[str, Tensor]:
    state = OrderedDict()
    for name, value in heads.items():
        part, leaf = name.split(".", 1)
        number = part[-1] if part[-1].isdigit() else ""
        state[f"{names[part.removesuffix(number)]}{number}.{leaf}"] = value
    return state


def _maximum(x: Tensor) -> Tensor:
    return x.flatten(2).max(dim=2).values


def _mean(x: Tensor) -> Tensor:
    return x.flatten(2).mean(dim=2)
