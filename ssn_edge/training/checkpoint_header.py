"""What a checkpoint says of its run, read without PyTorch: a device may not have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssn_edge_runtime.errors import CheckpointError

LARGEST_HEADER_BYTES = 256 * 2**20
_LENGTH_BYTES = 8


def read_header(path: Path) -> Mapping[str, Any]:
    """The header of a checkpoint; its tensors are not looked at, and may be damaged.

    A safetensors file begins with the length of a JSON object and the object; ours lies in its
    metadata.

    Raises:
        CheckpointError: Unreadable, or not a checkpoint of ssn-edge.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            text = file.read(min(length, LARGEST_HEADER_BYTES))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        header = json.loads(json.loads(text)["__metadata__"]["ssn_edge"])
        known = isinstance(header["training_data"], str) and isinstance(header["listing"], dict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of ssn-edge") from error
    if not known:
        raise CheckpointError(f"{path} is not a checkpoint of ssn-edge")
    return dict(header)
