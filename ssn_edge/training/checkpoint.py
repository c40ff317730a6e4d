"""Checkpoints: one safetensors file with a JSON header, whole or not there at all.

The net is stored complete, backbone included: a package exported from it never depends on what a
download gives another day. The state of an unfinished run is a second file of the same form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssn_edge.model.anomaly_map import MapOutput
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge_runtime.errors import CheckpointError, ConfigError
from ssn_edge_runtime.files import write_whole

CHECKPOINT_NAME = "checkpoint.safetensors"
STATE_NAME = "unfinished.safetensors"
SCHEMA_VERSION = 1
_HEADER = "ssn_edge"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained net and how it came about.

    Args:
        net: In evaluation mode, on the CPU.
        header: Settings, geometry, regime, data fingerprint: what `ssn_edge.training.run` wrote.
    """

    net: SuperSimpleNet
    header: Mapping[str, Any]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, object]) -> None:
    """Write tensors and a JSON header to one file, under a temporary name first.

    Args:
        path: The file.
        tensors: Anything but shared memory.
        header: What JSON can hold.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    document = {**header, "schema": SCHEMA_VERSION}
    document["sha256"] = _digest(contiguous, document)
    write_whole(path, save(contiguous, metadata={_HEADER: json.dumps(document, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        CheckpointError: Missing, cut short, changed, or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; train first: ssn-edge train DATA")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({error}); copy it again or train again"
        ) from error
    try:
        header = json.loads(metadata.get(_HEADER, ""))
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is not a checkpoint of ssn-edge")
    if header.get("schema") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint schema {header.get('schema')!r}; {SCHEMA_VERSION} is needed"
        )
    if header.pop("sha256", None) != _digest(tensors, header):
        raise CheckpointError(
            f"{path} was changed after it was written; copy it again or train again"
        )
    return tensors, cast(dict[str, Any], header)


def save_checkpoint(path: Path, net: SuperSimpleNet, header: Mapping[str, object]) -> None:
    """Write a trained net."""
    save_tensors(
        path, net.state_dict(), {**header, "architecture": architecture_to_dict(net.architecture)}
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a trained net.

    Raises:
        CheckpointError: The file is damaged, or its keys or shapes do not fit its architecture.
    """
    tensors, header = load_tensors(path)
    try:
        net = SuperSimpleNet(architecture_from_dict(header["architecture"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header lacks or misstates {error}") from error
    except ConfigError as error:
        raise CheckpointError(f"{path}: its net cannot be built: {error}") from error
    own = net.state_dict()
    if missing := sorted(set(own) - set(tensors)):
        raise CheckpointError(f"{path} lacks {missing[0]!r} and {len(missing) - 1} more tensors")
    if surplus := sorted(set(tensors) - set(own)):
        raise CheckpointError(f"{path} has an unknown tensor {surplus[0]!r}")
    for name, value in tensors.items():
        if value.shape != own[name].shape:
            raise CheckpointError(
                f"{path}: {name!r} has shape {tuple(value.shape)}, {tuple(own[name].shape)} fits"
            )
    net.load_state_dict(tensors, strict=True)
    return Checkpoint(net.eval(), header)


def architecture_to_dict(architecture: Architecture) -> dict[str, object]:
    """The architecture as JSON holds it."""
    return {
        "backbone": architecture.backbone,
        "input_size_hw": list(architecture.input_size_hw),
        "segmentation_width": architecture.widths.segmentation,
        "classification_width": architecture.widths.classification,
        "variant": architecture.variant.value,
        "align_corners": architecture.align_corners,
        "map_output": architecture.map_output.value,
    }


def architecture_from_dict(document: Mapping[str, Any]) -> Architecture:
    """The architecture from JSON."""
    height, width = document["input_size_hw"]
    return Architecture(
        backbone=str(document["backbone"]),
        input_size_hw=(int(height), int(width)),
        widths=HeadWidths(
            int(document["segmentation_width"]), int(document["classification_width"])
        ),
        variant=Variant(document["variant"]),
        align_corners=bool(document["align_corners"]),
        # Checkpoints from before nets could be imported do not have it.
        map_output=MapOutput(document.get("map_output", MapOutput.LOGITS.value)),
    )


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(tensors: Mapping[str, Tensor], document: Mapping[str, object]) -> str:
    text = tensors_digest(tensors) + json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
