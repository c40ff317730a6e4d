"""The untrained net of a run, and the scale of its noise."""

from __future__ import annotations

import torch

from ssn_edge.model.backbone import CPU_DEFAULT, GPU_DEFAULT, Backbone, is_published_backbone
from ssn_edge.model.heads import default_widths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.weights import load_backbone_weights
from ssn_edge.training.cache import FeatureCache
from ssn_edge.training.processes import ALONE, Processes
from ssn_edge.training.request import RunRequest
from ssn_edge.training.settings import (
    PUBLISHED_NOISE_STD,
    RELATIVE_NOISE_STD,
    TrainingSettings,
)
from ssn_edge_runtime.errors import ConfigError


def find_device(name: str, processes: Processes = ALONE) -> torch.device:
    """The device of this name; "auto" is a GPU where there is one.

    Of several processes each has a GPU of its own.

    Raises:
        ConfigError: No such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and processes.count > 1:
        name = f"cuda:{processes.rank}"
    elif processes.count > 1 and name.startswith("cuda:"):
        raise ConfigError(
            f"device {name} was asked for by {processes.count} processes, and each needs a GPU of "
            "its own; use --device cuda"
        )
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() if ":" in name else True):
        raise ConfigError(f"device {name!r} is unknown; auto, cpu, cuda or cuda:1 fits")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name} was asked for, PyTorch sees {torch.cuda.device_count()} GPUs here; "
            "use --device cpu"
        )
    return torch.device(name)


def build_net(request: RunRequest, device: torch.device) -> tuple[SuperSimpleNet, str]:
    """The untrained net with its pretrained backbone, and where the weights came from."""
    name = request.backbone
    if name == "auto":
        name = GPU_DEFAULT if device.type == "cuda" else CPU_DEFAULT
    # Initial weights follow from the seed, and nobody else's random numbers are touched.
    with torch.random.fork_rng(devices=[]):
        backbone = Backbone(name)
        weights_from = load_backbone_weights(backbone, request.backbone_weights)
        architecture = Architecture(
            backbone=name,
            input_size_hw=request.geometry.input_size_hw,
            widths=request.widths or default_widths(sum(backbone.channels)),
            variant=request.variant,
        )
        torch.default_generator.manual_seed(request.settings.seed)
        net = SuperSimpleNet(architecture, backbone)
    return net.to(device), weights_from


def set_noise_scale(
    net: SuperSimpleNet, cache: FeatureCache, settings: TrainingSettings, device: torch.device
) -> float:
    """Give noise and features a known ratio.

    The published backbone keeps its features and the published constant; those of any other are
    standardised per channel, over normal training pictures.

    Returns:
        Deviation of the noise.
    """
    if is_published_backbone(net.architecture.backbone):
        return settings.noise_std or PUBLISHED_NOISE_STD
    net.features.standardise_by(*cache.feature_statistics(net.features, device))
    return settings.noise_std or RELATIVE_NOISE_STD
