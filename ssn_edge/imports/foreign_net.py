"""A checkpoint of someone else to a net of ours that gives their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ssn_edge.imports.foreign_file import ForeignFile
from ssn_edge.imports.foreign_names import (
    Origin,
    backbone_and_heads,
    check_names,
    check_shapes,
    find_origin,
    heads_from_tensors,
)
from ssn_edge.imports.origin_settings import OriginSettings, read_origin_settings
from ssn_edge.model.anomaly_map import AnomalyMap, MapOutput
from ssn_edge.model.backbone import GPU_DEFAULT, Backbone, Normalisation
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.model.weights import load_backbone_weights
from ssn_edge.training.regime import Regime
from ssn_edge_runtime.errors import CheckpointError, ConfigError
from ssn_edge_runtime.preprocess import Interpolation

IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""What both origins normalise with, whatever the backbone."""


@dataclass(frozen=True, slots=True)
class NetChoice:
    """What a person says of a checkpoint; None for what the file says, or else the usual.

    Args:
        origin: Whose code wrote it.
        variant: Needed where the file does not tell: the authors' never does.
        regime: Supervision that training had; needed for the authors' files.
        backbone: timm name.
        backbone_weights: File of pretrained weights, for a checkpoint without its backbone.
        map_output: What the origin calls its map.
    """

    origin: Origin | None = None
    variant: Variant | None = None
    regime: Regime | None = None
    backbone: str | None = None
    backbone_weights: Path | None = None
    map_output: MapOutput | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImportedNet:
    """A net of ours with the weights of another, and what goes with it.

    Args:
        net: In evaluation mode, on the CPU.
        origin: Whose code wrote the file.
        regime: Supervision that training had.
        interpolation: The origin's resize of frames.
        backbone_weights: One phrase that says where the backbone's weights came from.
    """

    net: SuperSimpleNet
    origin: Origin
    regime: Regime
    interpolation: Interpolation
    backbone_weights: str


def import_net(file: ForeignFile, choice: NetChoice, input_size_hw: tuple[int, int]) -> ImportedNet:
    """Build the net that gives the origin's outputs.

    What differs between the origins and us is kept in the net's architecture (corner alignment of
    the feature upscaling, what the map is called) and in the geometry (the resize).

    Args:
        file: From `read_foreign_file`.
        choice: What the file does not tell.
        input_size_hw: Height and width of the network input that it was trained with.

    Raises:
        CheckpointError: The file does not fit, or there are no pretrained weights.
        ConfigError: The file does not tell the variant or the regime and neither does `choice`, or
            they disagree; or the backbone is unknown or cannot be used.
    """
    origin = choice.origin or find_origin(file.tensors, file.path)
    told = read_origin_settings(file, origin)
    variant, regime = _variant_and_regime(file, origin, choice, told)
    name = _backbone_name(file, choice, told)
    backbone = _empty_backbone(name, told)
    tensors: Mapping[str, Tensor] = file.tensors
    extractor: dict[str, Tensor] = {}
    if origin is Origin.ANOMALIB:
        _refuse_weights(choice.backbone_weights)
        blur = AnomalyMap(input_size_hw).kernel
        extractor, tensors = backbone_and_heads(file.tensors, blur, file.path)
    heads = heads_from_tensors(tensors, origin, variant, file.path)
    _check_channels(heads.adaptor.projection.out_channels, backbone, file.path)
    if origin is Origin.ANOMALIB:
        _load_backbone(backbone, extractor, file.path)
        weights_from = f"file {file.path.name}"
    else:
        weights_from = load_backbone_weights(backbone, choice.backbone_weights)
    backbone.grid_hw(input_size_hw)  # a size it cannot take is told now, not at the first picture
    anomalib = origin is Origin.ANOMALIB
    architecture = Architecture(
        backbone=name,
        input_size_hw=input_size_hw,
        widths=HeadWidths(
            heads.segmentation.hidden.out_channels, heads.classification.hidden.out_channels
        ),
        variant=variant,
        align_corners=not anomalib,
        map_output=choice.map_output or (MapOutput.SIGMOID if anomalib else MapOutput.LOGITS),
    )
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        net = SuperSimpleNet(architecture, backbone)
    net.heads.load_state_dict(heads.state_dict(), strict=True)
    return ImportedNet(
        net=net.eval(),
        origin=origin,
        regime=regime,
        interpolation=Interpolation.LINEAR_ANTIALIASED if anomalib else Interpolation.LINEAR,
        backbone_weights=weights_from,
    )


def _variant_and_regime(
    file: ForeignFile, origin: Origin, choice: NetChoice, told: OriginSettings
) -> tuple[Variant, Regime]:
    """From the file where it tells, else from the person; never guessed."""
    variant = told.variant or choice.variant
    regime = choice.regime or told.regime
    if variant is None or regime is None:
        wanted = []
        if variant is None:
            wanted.append("--variant journal or conference (both have the same tensors)")
        if regime is None:
            wanted.append("--regime unsupervised, weak, mixed or full")
        hint = ""
        if origin is Origin.ANOMALIB:
            hint = "; adapt_cls_features is conference, and so are versions without that setting"
        raise ConfigError(
            f"{file.path} does not tell how its net was built or trained; say "
            f"{' and '.join(wanted)}{hint}"
        )
    if choice.variant not in (None, variant):
        raise ConfigError(
            f"--variant {choice.variant.value} was asked for, {file.path} says {variant.value}; "
            "leave the option out"
        )
    return variant, regime


def _backbone_name(file: ForeignFile, choice: NetChoice, told: OriginSettings) -> str:
    if told.backbone is not None and choice.backbone not in (None, told.backbone):
        raise ConfigError(
            f"--backbone {choice.backbone} was asked for, {file.path} says {told.backbone}; "
            "leave the option out"
        )
    return told.backbone or choice.backbone or GPU_DEFAULT


def _empty_backbone(name: str, told: OriginSettings) -> Backbone:
    """A backbone of this name, if what goes in and comes out is what the origin has."""
    with torch.random.fork_rng(devices=[]):
        backbone = Backbone(name)
    if backbone.normalisation != IMAGENET:
        raise ConfigError(
            f"backbone {name!r} takes pictures with mean {backbone.normalisation.mean} and "
            f"deviation {backbone.normalisation.std} here; both origins take ImageNet's "
            f"{IMAGENET.mean} and {IMAGENET.std}, so the net would give other outputs. Train it "
            "here: ssn-edge train"
        )
    ours = [str(layer) for layer in cast(Any, backbone.extractor).feature_info.module_name()]
    if told.layers is not None and list(told.layers) != ours:
        raise ConfigError(
            f"the checkpoint uses the layers {', '.join(told.layers)} of {name}; those at strides "
            f"8 and 16 are used here: {', '.join(ours)}. Train it here: ssn-edge train"
        )
    return backbone


def _refuse_weights(named: Path | None) -> None:
    if named is not None:
        raise ConfigError(
            f"--backbone-weights {named}: a checkpoint of anomalib brings its backbone's weights; "
            "leave the option out"
        )


def _check_channels(channels: int, backbone: Backbone, path: Path) -> None:
    if channels != sum(backbone.channels):
        raise CheckpointError(
            f"{path} is for features of {channels} channels, {backbone.name} gives "
            f"{sum(backbone.channels)}; name the backbone that it was trained with: --backbone NAME"
        )


def _load_backbone(backbone: Backbone, found: dict[str, Tensor], path: Path) -> None:
    own = backbone.extractor.state_dict()
    check_names(found, own, f"{path}, in its backbone {backbone.name},")
    check_shapes(found, own, f"{path}, backbone {backbone.name}")
    backbone.extractor.load_state_dict(
        {name: value.to(own[name].dtype) for name, value in found.items()}, strict=True
    )
