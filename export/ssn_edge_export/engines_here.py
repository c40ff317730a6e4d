"""The engines that this machine can hold an exported model against the net with."""

from __future__ import annotations

from ssn_edge_runtime.engines import ENGINES
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.openvino import OpenVinoEngine, missing
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.manifest import INT8_ONNXRUNTIME

CPU = "onnxruntime-cpu"
"""Always there; it decides, and its scores are what thresholds are fitted on."""
OPENVINO = "openvino"


def engines_here(precision: str) -> tuple[str, ...]:
    """Names of the engines that can run a precision here, the deciding one first."""
    here = (CPU,) if missing() else (CPU, OPENVINO)
    return tuple(name for name in here if precision in ENGINES[name].precisions)


def open_here(
    engine: str, model: bytes, input_size_hw: tuple[int, int], *, precision: str
) -> Engine:
    """Load a model into an engine of this machine.

    Raises:
        EngineError: It is not known, not installed as it must be, or cannot load the model.
    """
    if engine == CPU:
        return OnnxRuntimeEngine(
            model,
            input_size_hw=input_size_hw,
            integer_biases=precision == INT8_ONNXRUNTIME,
        )
    if engine == OPENVINO:
        return OpenVinoEngine(model, input_size_hw=input_size_hw)
    raise EngineError(f"engine {engine!r} cannot be certified with here; {CPU} or {OPENVINO} can")
