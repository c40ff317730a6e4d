"""Reading a checkpoint of someone else: tensors and plain values, and never anything that runs."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssn_edge_runtime.errors import CheckpointError

_CONVERSION = (
    "python -c \"import torch; torch.save(torch.load({name!r}, map_location='cpu', "
    "weights_only=False)['state_dict'], 'state_dict.pt')\""
)
"""For the environment that the checkpoint comes from, by someone who trusts it."""


@dataclass(frozen=True, slots=True, eq=False)
class ForeignFile:
    """What is in a file that may become a net of ours.

    Args:
        path: The file.
        sha256: Of its bytes, 64 hexadecimal digits.
        tensors: By the names of the code that wrote them.
        hyper_parameters: Of a Lightning checkpoint; None where the file has none.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    hyper_parameters: Mapping[str, object] | None = None


def read_foreign_file(path: Path) -> ForeignFile:
    """Read tensors by name from a safetensors file, a PyTorch state dict or a Lightning checkpoint.

    A pickle is only opened by PyTorch's reader for weights, which refuses whatever could run code.

    Raises:
        CheckpointError: Missing, damaged, with objects in it, or not tensors by name.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist; name the authors' weights.pt or a checkpoint of anomalib's "
            "Supersimplenet"
        )
    document = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    settings = None
    if isinstance(document, Mapping) and "state_dict" in document:
        settings = document.get("hyper_parameters")
        document = document["state_dict"]
    if not isinstance(document, Mapping) or not document:
        raise _no_tensors(path)
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in document.items()):
        raise _no_tensors(path)
    return ForeignFile(
        path=path,
        sha256=_sha256(path),
        tensors=dict(document),
        hyper_parameters=settings if isinstance(settings, Mapping) else None,
    )


def _safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error}); copy it again") from error


def _pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is told here
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead the unpickler to errors of many types
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}): it is damaged, cut short or no "
                "PyTorch file; copy it again, or name another"
            ) from error
        raise CheckpointError(
            f"{path} holds an object ({refused[1]}), and loading objects can run code; tensors and "
            "plain values are wanted. If you trust the file, keep its weights alone, where it was "
            f"made: {_CONVERSION.format(name=path.name)} and import state_dict.pt"
        ) from error


def _no_tensors(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a dictionary of tensors by name, nor has one under 'state_dict'; name the "
        "authors' weights.pt or a checkpoint of anomalib's Supersimplenet"
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
