"""What the authors and anomalib call the parts of the net, and what we call them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

import torch
from torch import Tensor

from ssn_edge.model.heads import Heads, HeadWidths
from ssn_edge.model.variant import Variant
from ssn_edge_runtime.errors import CheckpointError


class Origin(Enum):
    """Whose code wrote a checkpoint."""

    AUTHORS = "authors"
    """blaz-r/SuperSimpleNet: `weights.pt`, without the backbone."""
    ANOMALIB = "anomalib"
    """A Lightning checkpoint of anomalib's Supersimplenet, with the backbone."""


_HEADS: Mapping[Origin, Mapping[str, str]] = {
    Origin.AUTHORS: {
        "adaptor.projection": "feature_adaptor.projection",
        "segmentation.hidden": "discriminator.seg.0",
        "segmentation.norm": "discriminator.seg.1",
        "segmentation.output": "discriminator.seg.3",
        "classification.hidden": "discriminator.dec_head.0",
        "classification.norm": "discriminator.dec_head.1",
        "classification.output": "discriminator.fc_score",
    },
    Origin.ANOMALIB: {
        "adaptor.projection": "model.adaptor.projection",
        "segmentation.hidden": "model.segdec.seg_head.0",
        "segmentation.norm": "model.segdec.seg_head.1",
        "segmentation.output": "model.segdec.seg_head.3",
        "classification.hidden": "model.segdec.cls_conv.0",
        "classification.norm": "model.segdec.cls_conv.1",
        "classification.output": "model.segdec.cls_fc",
    },
}
"""Ours to theirs. The classification head's last input channel is the map in all three, and the
last layer takes maxima and means of its channels, then maximum and mean of the map."""

_ANOMALIB_BACKBONE = re.compile(r"model\.(?:feature_extractor\.){2,3}")
"""A feature extractor in a feature extractor, around timm's own names."""

_ANOMALIB_BLUR = "model.anomaly_map_generator.smoothing.kernel"

_ANOMALIB_NO_WEIGHTS = (
    "pre_processor.",
    "post_processor.",
    "evaluator.",
    "visualizer.",
    "metrics.",
    "image_metrics.",
    "pixel_metrics.",
    "normalization_metrics.",
    "image_threshold.",
    "pixel_threshold.",
)
"""Thresholds and metrics of anomalib's own; ours are fitted at export."""


def find_origin(names: Iterable[str], path: Path) -> Origin:
    """Whose checkpoint it is, by the names of its tensors.

    Raises:
        CheckpointError: Nobody's that is known here.
    """
    known = set(names)
    for origin, heads in _HEADS.items():
        if any(name.rsplit(".", 1)[0] in heads.values() for name in known):
            return origin
    raise CheckpointError(
        f"{path} holds {len(known)} tensors, such as {min(known)!r}, and none is of a "
        "SuperSimpleNet; wanted are the authors' names (discriminator.seg.0.weight) or anomalib's "
        "(model.segdec.seg_head.0.weight)"
    )


def heads_from_tensors(
    tensors: Mapping[str, Tensor], origin: Origin, variant: Variant, path: Path
) -> Heads:
    """Adaptor and both heads, with hidden widths as the shapes say.

    Args:
        tensors: All weights of a file that are of the heads, and nothing else.
        origin: Whose names they have.
        variant: Which feature the classification head sees; the file cannot tell.
        path: What an error calls the file.

    Returns:
        In evaluation mode.

    Raises:
        CheckpointError: A tensor is missing, unknown or of another shape; its name is told.
    """
    theirs = {_foreign(name, origin): name for name in _heads(1, HeadWidths(1, 1)).state_dict()}
    check_names(tensors, theirs, f"{path}, as a checkpoint of {origin.value},")

    def channels_of(part: str) -> int:
        return max(1, tensors[f"{_HEADS[origin][part]}.bias"].numel())

    widths = HeadWidths(channels_of("segmentation.hidden"), channels_of("classification.hidden"))
    shapes = _heads(channels_of("adaptor.projection"), widths).state_dict()
    check_shapes(tensors, {name: shapes[ours] for name, ours in theirs.items()}, str(path))
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        heads = Heads(channels_of("adaptor.projection"), widths, variant)
    heads.load_state_dict(
        {ours: tensors[name].to(shapes[ours].dtype) for name, ours in theirs.items()}, strict=True
    )
    return heads.eval()


def backbone_and_heads(
    tensors: Mapping[str, Tensor], blur: Tensor, path: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part anomalib's tensors into those of the backbone, by timm's names, and the rest.

    Thresholds and metrics fall away, and the blur, which must be ours.

    Args:
        tensors: All of the file.
        blur: Our kernel of one dimension, (K,).
        path: What an error calls the file.

    Raises:
        CheckpointError: The map is blurred otherwise, or a backbone's tensor is there twice.
    """
    backbone: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.startswith(_ANOMALIB_NO_WEIGHTS):
            continue
        if name == _ANOMALIB_BLUR:
            _check_blur(value, blur, path)
        elif (match := _ANOMALIB_BACKBONE.match(name)) is None:
            rest[name] = value
        elif (plain := name[match.end() :]) in backbone:
            raise CheckpointError(f"{path} has two tensors for {plain!r} of the backbone")
        else:
            backbone[plain] = value
    return backbone, rest


def check_names(found: Iterable[str], wanted: Iterable[str], where: str) -> None:
    """Refuse a file that lacks a tensor or has one that is not known.

    Raises:
        CheckpointError: With the first names.
    """
    found, wanted = set(found), set(wanted)
    if missing := sorted(wanted - found):
        raise CheckpointError(
            f"{where} lacks {_some(missing)}; is it whole, and of a SuperSimpleNet?"
        )
    if surplus := sorted(found - wanted):
        raise CheckpointError(
            f"{where} has what is not known here: {_some(surplus)}; a net with other parts cannot "
            "be imported"
        )


def check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Refuse a tensor of another shape.

    Raises:
        CheckpointError: With its name and both shapes.
    """
    for name, fitting in sorted(wanted.items()):
        if found[name].shape != fitting.shape:
            raise CheckpointError(
                f"{where}: {name!r} has shape {tuple(found[name].shape)}, "
                f"{tuple(fitting.shape)} fits; is it of another net?"
            )


def _heads(channels: int, widths: HeadWidths) -> Heads:
    """Names and shapes, without memory for weights."""
    with torch.device("meta"):
        return Heads(channels, widths, Variant.JOURNAL)


def _foreign(name: str, origin: Origin) -> str:
    part, leaf = name.rsplit(".", 1)
    return f"{_HEADS[origin][part]}.{leaf}"


def _check_blur(found: Tensor, ours: Tensor, path: Path) -> None:
    wanted = torch.outer(ours, ours)
    if found.squeeze().shape != wanted.shape or not torch.allclose(
        found.squeeze().float(), wanted, atol=1e-6
    ):
        raise CheckpointError(
            f"{path} blurs its map by another kernel, {tuple(found.shape)}; a Gaussian with sigma "
            f"4 over {len(ours)} x {len(ours)} pixels is what a net of ours does"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more
