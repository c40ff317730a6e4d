"""The contract between `export` and every engine, compared with what an engine loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ssn_edge_runtime.engines.base import (
    ANOMALY_MAP,
    BATCH,
    CLASSIFICATION_LOGIT,
    DEFECT_MASK,
    MAP_MAX_LOGIT,
    PIXEL_THRESHOLD,
    PIXELS,
    REGION_MASK,
)
from ssn_edge_runtime.errors import EngineError

Shape: TypeAlias = "Sequence[int | str | None]"
Signature: TypeAlias = "Mapping[str, tuple[str, Shape]]"
"""By name: the type as ``uint8`` or ``float``, and the sizes; a text or None is a free one."""


def check_signature(
    inputs: Signature, outputs: Signature, *, input_size_hw: tuple[int, int], batch_size: int
) -> None:
    """Refuse a model whose inputs or outputs are not those of `engines/base.py`.

    Args:
        inputs: As the engine has loaded them.
        outputs: Likewise; a size that an engine cannot tell may be None.
        input_size_hw: Height and width that the manifest states.
        batch_size: Frames at once.

    Raises:
        EngineError: Another name, type or size.
    """
    height, width = input_size_hw
    _compare(
        "input",
        inputs,
        {
            PIXELS: ("uint8", (BATCH, height, width, 3)),
            PIXEL_THRESHOLD: ("float", (1,)),
            REGION_MASK: ("uint8", (height, width)),
        },
        batch_size,
    )
    _compare(
        "output",
        outputs,
        {
            CLASSIFICATION_LOGIT: ("float", (BATCH,)),
            MAP_MAX_LOGIT: ("float", (BATCH,)),
            ANOMALY_MAP: ("float", (BATCH, height, width)),
            DEFECT_MASK: ("uint8", (BATCH, height, width)),
        },
        batch_size,
    )


def _compare(what: str, found: Signature, wanted: Signature, batch_size: int) -> None:
    if set(found) != set(wanted):
        raise EngineError(
            f"the model's {what}s are {', '.join(sorted(found))}; {', '.join(sorted(wanted))} are "
            "needed, export the package again"
        )
    for name, (wanted_type, wanted_shape) in wanted.items():
        found_type, found_shape = found[name]
        is_free = what == "output"  # shape inference may leave an output's sizes unnamed
        fits = _fits(found_shape, wanted_shape, batch_size, is_free=is_free)
        if found_type != wanted_type or not fits:
            batch = "" if batch_size == 1 else f" with {BATCH} free or {batch_size}"
            raise EngineError(
                f"the model's {what} {name} is {_text(found_type, found_shape)}; "
                f"{_text(wanted_type, wanted_shape)}{batch} is needed, export the package again"
            )


def _fits(found: Shape, wanted: Shape, batch_size: int, *, is_free: bool) -> bool:
    return len(found) == len(wanted) and all(
        (size in (batch_size, None) or isinstance(size, str))
        if target == BATCH
        else size == target or (is_free and not isinstance(size, int))
        for size, target in zip(found, wanted, strict=True)
    )


def _text(dtype: str, shape: Shape) -> str:
    return f"{dtype} ({', '.join('?' if size is None else str(size) for size in shape)})"
