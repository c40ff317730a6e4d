"""What a plan really computes in INT8, FP16 and FP32, read from TensorRT's engine inspector.

A graph with Q/DQ nodes is a wish; the builder decides layer by layer. The inspector's JSON differs:
TensorRT 10 says ``"Format/Datatype": "Row major linear FP16 format"`` or ``"Half"``, 11 and RTX say
``"Datatype": "Half"`` beside ``"Format"``.

Source:
    NVIDIA TensorRT documentation, Engine Inspector, and its migration guide from 10 to 11 for the
    keys; the types' names of RTX 1.7.1 as its builder logs them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ssn_edge_runtime.errors import EngineError

_TYPES = {
    "int8": ("int8",),
    "fp8": ("fp8", "float8"),
    "bf16": ("bf16", "bfloat16"),
    "fp16": ("fp16", "half", "float16"),
    "fp32": ("fp32", "float32", "float"),
}
"""Ours to TensorRT's; in this order, since ``Float`` is in ``BFloat16``. UInt8 is none."""

_MULTIPLYING = ("conv", "correlation", "gemm", "matmul", "matrixmultiply", "fullyconnected")
"""What the kind of a layer holds that multiplies: where nearly all of the time goes."""
_FUSED_PRODUCT = "_Fc"
"""What RTX's fusions of a matrix product have in their names."""


@dataclass(frozen=True, slots=True)
class PlanLayer:
    """A layer as it runs; most are several of the network's in one.

    Args:
        name: By the library.
        kind: Such as ``CaskConvolution``, ``gemm`` or ``Reformat``.
        inputs: Types of its inputs, such as ``int8``; what is none of ours is ``other``.
        outputs: Types of its outputs.
        weights: Type of its weights where it is told, else empty.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: str = ""

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or a matrix product, and no copy between formats."""
        kind = self.kind.lower()
        if "fusion" in kind:
            return _FUSED_PRODUCT in self.name
        return "reformat" not in kind and any(each in kind for each in _MULTIPLYING)

    @property
    def computes_in(self) -> str:
        """The type that it multiplies in: INT8 only if what comes in is INT8."""
        return self.inputs[0] if self.inputs else self.weights or "other"


@dataclass(frozen=True, slots=True)
class PlanLayers:
    """All layers of a plan."""

    layers: tuple[PlanLayer, ...]

    @property
    def multiplying(self) -> Counter[str]:
        """How many convolutions and matrix products run in which type."""
        return Counter(each.computes_in for each in self.layers if each.multiplies)

    def describe(self) -> str:
        """For people: ``31 of 38 convolutions and matrix products in INT8, 7 in FP16``."""
        counts = self.multiplying
        if not counts:
            return f"{len(self.layers)} layers; the library does not tell what they compute in"
        (first, count), *others = counts.most_common()
        text = f"{count} of {counts.total()} convolutions and matrix products in {first.upper()}"
        return ", ".join([text, *(f"{number} in {kind.upper()}" for kind, number in others)])

    def to_dict(self) -> dict[str, object]:
        """For the note beside the plan."""
        return {
            "count": len(self.layers),
            "multiplying": dict(self.multiplying),
            "int8": [each.name for each in self.layers if "int8" in each.inputs],
        }


def layers_from_json(text: str) -> PlanLayers:
    """Read what `EngineInspector.get_engine_information` gives as JSON.

    Args:
        text: Of TensorRT 10, 11 or RTX, of a plan built with detailed verbosity.

    Raises:
        EngineError: It is not of that form.
    """
    try:
        document = json.loads(text)
        listed = document["Layers"]
        return PlanLayers(tuple(_layer(each) for each in listed))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(
            f"the engine inspector's answer cannot be read ({type(error).__name__}); the plan is "
            "as good as before, but what runs in INT8 is not known"
        ) from error


def _layer(document: object) -> PlanLayer:
    if isinstance(document, str):  # a plan built without detailed verbosity has names alone
        return PlanLayer(document, "", (), ())
    if not isinstance(document, Mapping):
        raise TypeError("a layer is a text or an object")
    weights = document.get("Weights")
    return PlanLayer(
        name=str(document.get("Name", "")),
        kind=str(document.get("LayerType", "")),
        inputs=_types(document.get("Inputs", ())),
        outputs=_types(document.get("Outputs", ())),
        weights=_type(weights.get("Type", "")) if isinstance(weights, Mapping) else "",
    )


def _types(tensors: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    return tuple(
        _type(each.get("Datatype") or each.get("Format/Datatype") or "") for each in tensors
    )


def _type(text: object) -> str:
    lowered = str(text).lower().replace("uint8", "")
    return next(
        (ours for ours, theirs in _TYPES.items() if any(each in lowered for each in theirs)),
        "other",
    )
