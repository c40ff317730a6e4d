"""OpenVINO: runs a package's model on x86 and Arm CPUs, an INT8 model as real INT8."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import Judgement
from ssn_edge_runtime.engines.base import (
    ANOMALY_MAP,
    CLASSIFICATION_LOGIT,
    DEFECT_MASK,
    MAP_MAX_LOGIT,
    PIXEL_THRESHOLD,
    PIXELS,
    REGION_MASK,
)
from ssn_edge_runtime.engines.signature import Shape, check_signature
from ssn_edge_runtime.errors import EngineError

DISTRIBUTION = "openvino"

_TELEMETRY = "openvino_telemetry"
_INSTALL = "pip install 'ssn-edge[openvino]'"
_OUTPUTS = (CLASSIFICATION_LOGIT, MAP_MAX_LOGIT, ANOMALY_MAP, DEFECT_MASK)
_ERRORS = (RuntimeError, TypeError, ValueError)
"""OpenVINO raises `RuntimeError` for all that fails inside, the others for what it was given."""


class FloatCompute(str, Enum):
    """What float layers are computed in; by itself OpenVINO would pick BF16 where the CPU has it.

    A package was certified with what its files say, so FP32 is what runs unless BF16 is asked for.
    """

    F32 = "f32"
    BF16 = "bf16"


class OpenVinoEngine:
    """A model compiled by OpenVINO for this CPU.

    Args:
        model: The ONNX file's bytes.
        input_size_hw: Height and width that the manifest states.
        batch_size: Frames at once.
        threads: Within one inference; 0 takes one for each physical core.
        compute: What float layers are computed in; layers with Q/DQ nodes are INT8 in any case.
        name: What runs, for people and records.

    Raises:
        EngineError: OpenVINO is not installed, cannot load the model, or its inputs and outputs are
            not those of `engines/base.py`.
    """

    def __init__(
        self,
        model: bytes,
        *,
        input_size_hw: tuple[int, int],
        batch_size: int = 1,
        threads: int = 0,
        compute: FloatCompute = FloatCompute.F32,
        name: str = "openvino",
    ) -> None:
        openvino = _import_openvino()
        self._name = name
        self._identity = hashlib.sha256(model).hexdigest()
        self._batch_size = batch_size
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": compute.value,
            # Several inspectors, capture and outputs share the cores: none of them is pinned to.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            graph = core.read_model(io.BytesIO(model))
            _fix_batch(graph, batch_size)
            compiled = core.compile_model(graph, "CPU", settings)
            request = compiled.create_infer_request()
        except _ERRORS as error:
            version = openvino.__version__.partition("-")[0]  # the rest names its build
            raise EngineError(
                f"openvino {version} cannot load the model: {_message(error)}"
            ) from error
        check_signature(
            _signature(compiled.inputs),
            _signature(compiled.outputs),
            input_size_hw=input_size_hw,
            batch_size=batch_size,
        )
        self._loaded: _Loaded | None = _Loaded(
            compiled, request, tuple(compiled.output(output) for output in _OUTPUTS)
        )
        self._everywhere = np.ones(input_size_hw, dtype=np.uint8)

    @property
    def name(self) -> str:
        """What runs."""
        return self._name

    @property
    def identity(self) -> str:
        """SHA-256 of the ONNX file."""
        return self._identity

    @property
    def batch_size(self) -> int:
        """Frames at once."""
        return self._batch_size

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        """Judge one preprocessed frame; see `Engine.infer`. The arrays are new.

        Raises:
            EngineError: OpenVINO failed, or the engine is closed or takes several frames.
        """
        (judgement,) = self.infer_batch(
            pixels[None], pixel_threshold=pixel_threshold, region_mask=region_mask
        )
        return judgement

    def infer_batch(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> tuple[Judgement, ...]:
        """Judge preprocessed frames; see `Engine.infer_batch`. The arrays are new.

        Raises:
            EngineError: OpenVINO failed, the engine is closed, or takes other many frames.
        """
        loaded = self._open()  # another thread may close the engine from here on
        if len(pixels) != self._batch_size:
            raise EngineError(
                f"engine {self._name} was loaded for {self._batch_size} frames at once, "
                f"{len(pixels)} were given"
            )
        feeds = {
            PIXELS: pixels,
            PIXEL_THRESHOLD: np.array([pixel_threshold], dtype=np.float32),
            REGION_MASK: self._everywhere if region_mask is None else region_mask.astype(np.uint8),
        }
        try:
            # Inputs are read where they lie; outputs are copied, so that they outlive the engine.
            found = loaded.request.infer(feeds, share_inputs=True, share_outputs=False)
        except _ERRORS as error:
            raise EngineError(f"openvino failed: {_message(error)}") from error
        return tuple(
            Judgement(float(logit), float(map_max), anomaly_map, defect_mask)
            for logit, map_max, anomaly_map, defect_mask in zip(
                *(found[output] for output in loaded.outputs), strict=True
            )
        )

    def executed_types(
        self, kinds: Sequence[str] = ("Convolution", "FullyConnected")
    ) -> Counter[str]:
        """How many layers of these kinds really run in each type, such as ``i8`` or ``f32``.

        Raises:
            EngineError: The engine is closed.
        """
        graph = self._open().model.get_runtime_model()
        layers = [layer.get_rt_info() for layer in graph.get_ops()]
        return Counter(
            str(layer["runtimePrecision"].astype(str))
            for layer in layers
            if layer["layerType"].astype(str) in kinds
        )

    def close(self) -> None:
        """Drop the model, once a running call has ended; a second call does nothing."""
        self._loaded = None

    def __enter__(self) -> OpenVinoEngine:
        """Return the engine itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _open(self) -> _Loaded:
        if self._loaded is None:
            raise EngineError(f"engine {self._name} is closed")
        return self._loaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What OpenVINO made of a model; freed when the last call that uses it has ended."""

    model: Any
    request: Any
    outputs: tuple[Any, ...]


def missing() -> str | None:
    """What to do before OpenVINO can run here; None if it can."""
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return f"openvino is not installed; {_INSTALL}"
    return None


def _import_openvino() -> ModuleType:
    if problem := missing():
        raise EngineError(problem)
    try:
        with _without_telemetry():
            import openvino
    except ImportError as error:
        raise EngineError(
            f"openvino is installed but cannot be imported ({_message(error)}); {_INSTALL} again"
        ) from error
    return openvino  # type: ignore[no-any-return]


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide what would report the import to its maker: OpenVINO then takes a stub in its place."""
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # as the import system defines it
    try:
        yield
    finally:
        if before is None:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = before


def _fix_batch(graph: Any, batch_size: int) -> None:
    for value in graph.inputs:
        if value.get_any_name() == PIXELS:
            shape = value.get_partial_shape()
            if shape.rank.is_static and len(shape) == 4 and shape[0].is_dynamic:
                shape[0] = batch_size
                graph.reshape({PIXELS: shape})


def _signature(values: Sequence[Any]) -> Mapping[str, tuple[str, Shape]]:
    """Names, types and sizes as `check_signature` compares them."""
    return {
        value.get_any_name(): (
            _TYPES.get(value.element_type.get_type_name(), value.element_type.get_type_name()),
            [None if size.is_dynamic else size.get_length() for size in value.partial_shape],
        )
        for value in values
    }


_TYPES = {"u8": "uint8", "f32": "float", "f16": "float16"}


def _message(error: Exception) -> str:
    """The last line of OpenVINO's many: the ones before say in which of its files it was raised."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
