"""ONNX Runtime: runs a package's model on any CPU, and on NVIDIA GPUs by way of CUDA."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from ssn_edge_runtime.arrays import BoolMask, ByteImage
from ssn_edge_runtime.decision import Judgement
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
from ssn_edge_runtime.engines.signature import Shape, check_signature
from ssn_edge_runtime.errors import EngineError

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_OUTPUTS = (CLASSIFICATION_LOGIT, MAP_MAX_LOGIT, ANOMALY_MAP, DEFECT_MASK)
_LOG_ERRORS_ONLY = 3
_ALL_ON_PROVIDER = "session.disable_cpu_ep_fallback"
"""With it a model with a node that only the CPU can run is refused, not split between both."""
_WRONG_IN_HALF = "WeightBiasQuantization"
"""An optimisation that turns biases beside INT8 weights into INT32. With float16 scales the product
of two scales leaves float16's range, and logits were seen to move by 3 (1.32). ONNX Runtime's own
form of INT8 has float32 scales and is slow without it."""


class OnnxRuntimeEngine:
    """A model in an ONNX Runtime session.

    Args:
        model: The ONNX file's bytes; the session keeps its own copy.
        input_size_hw: Height and width that the manifest states.
        batch_size: Frames at once.
        provider: Execution provider; if it cannot be used, that is an error, and no other one is
            taken in silence.
        threads: Within one operator; 0 takes one for each physical core.
        optimise: Whether ONNX Runtime may rewrite the graph; False runs each node as it stands.
        integer_biases: Whether it may turn biases beside INT8 weights into integers, without which
            its own form of INT8 is slow; wrong beside scales in half precision.
        device_id: Which GPU, for CUDA.
        name: What runs, for people and records.

    Raises:
        EngineError: ONNX Runtime is not installed, or twice; the model cannot be loaded, its inputs
            and outputs are not those of `engines/base.py`, or the provider does not really run it.
    """

    def __init__(
        self,
        model: bytes,
        *,
        input_size_hw: tuple[int, int],
        batch_size: int = 1,
        provider: str = CPU_PROVIDER,
        threads: int = 0,
        optimise: bool = True,
        integer_biases: bool = False,
        device_id: int = 0,
        name: str = "onnxruntime-cpu",
    ) -> None:
        runtime = import_onnxruntime()
        self._name = name
        self._identity = hashlib.sha256(model).hexdigest()
        self._batch_size = batch_size
        self._errors = _errors(runtime)
        _require(provider, runtime)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _LOG_ERRORS_ONLY
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Fixed before the graph is optimised: with a free batch, shapes cannot be folded.
        options.add_free_dimension_override_by_name(BATCH, batch_size)
        # Spinning threads win a little latency and take the cores of capture and outputs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # What was scanned is ONNX; never guess another format from the bytes.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        if provider != CPU_PROVIDER:
            options.add_session_config_entry(_ALL_ON_PROVIDER, "1")
        try:
            self._session: Any = runtime.InferenceSession(
                model,
                sess_options=options,
                providers=[_with_options(provider, device_id)],
                disabled_optimizers=[] if integer_biases else [_WRONG_IN_HALF],
                # Else it goes on with the CPU in silence, when it loads and later when it runs.
                enable_fallback=0,
            )
        except self._errors as error:
            raise EngineError(
                f"onnxruntime {runtime.__version__} cannot load the model with {provider}: "
                f"{_first_line(error)}"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise EngineError(
                f"onnxruntime {runtime.__version__} has {provider} but cannot start it; run "
                "ssn-edge doctor, or choose --engine onnxruntime-cpu"
            )
        check_signature(
            _signature(self._session.get_inputs()),
            _signature(self._session.get_outputs()),
            input_size_hw=input_size_hw,
            batch_size=batch_size,
        )
        self._everywhere = np.ones(input_size_hw, dtype=np.uint8)
        if provider != CPU_PROVIDER:
            # A list of providers is what was compiled in: only a run proves that one works here.
            blank = np.zeros((batch_size, *input_size_hw, 3), dtype=np.uint8)
            self.infer_batch(blank, pixel_threshold=0.0)

    @property
    def name(self) -> str:
        """What runs, such as ``onnxruntime-cpu``."""
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
            EngineError: ONNX Runtime failed, or the engine is closed or takes several frames.
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
            EngineError: ONNX Runtime failed, the engine is closed, or takes other many frames.
        """
        session = self._session  # another thread may close the engine from here on
        if session is None:
            raise EngineError(f"engine {self._name} is closed")
        if len(pixels) != self._batch_size:
            raise EngineError(
                f"engine {self._name} was loaded for {self._batch_size} frames at once, "
                f"{len(pixels)} were given"
            )
        region = self._everywhere if region_mask is None else region_mask.astype(np.uint8)
        feeds = {
            PIXELS: pixels,  # (B, h, w, 3)
            PIXEL_THRESHOLD: np.array([pixel_threshold], dtype=np.float32),
            REGION_MASK: region,
        }
        try:
            outputs = session.run(_OUTPUTS, feeds)
        except self._errors as error:
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from error
        return tuple(
            Judgement(float(logit), float(map_max), anomaly_map, defect_mask)
            for logit, map_max, anomaly_map, defect_mask in zip(*outputs, strict=True)
        )

    def close(self) -> None:
        """Drop the session, once a running call has ended; a second call does nothing."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeEngine:
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


def _require(provider: str, runtime: ModuleType) -> None:
    available = runtime.get_available_providers()
    if provider in available:
        return
    if provider == CUDA_PROVIDER and _is_installed("onnxruntime"):
        raise EngineError(
            "onnxruntime here has no CUDA; pip uninstall onnxruntime, then "
            "pip install 'ssn-edge[gpu]' (on a Jetson use TensorRT: ssn-edge build)"
        )
    raise EngineError(
        f"onnxruntime here has no {provider}, it has {', '.join(available)}; install one that "
        "has it"
    )


def _with_options(provider: str, device_id: int) -> str | tuple[str, dict[str, str]]:
    if provider != CUDA_PROVIDER:
        return provider
    # TF32 keeps ten bits of a float's 23: FP32 would not be what the package was certified for.
    return provider, {"device_id": str(device_id), "use_tf32": "0"}


def _signature(values: Sequence[Any]) -> dict[str, tuple[str, Shape]]:
    return {
        value.name: (value.type.removeprefix("tensor(").removesuffix(")"), value.shape)
        for value in values
    }


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, without its telemetry; nobody else imports it.

    Raises:
        EngineError: It is not installed, or twice.
    """
    installed = [name for name in _DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        # Both write the same files: which one runs depends on the order of their installation.
        raise EngineError(
            f"{' and '.join(installed)} are both installed and overwrite each other; "
            f"pip uninstall {' '.join(installed)}, then install the one that you need"
        )
    # Since 1.29 the builds for Linux, too, report to their maker; nothing on a device may.
    os.environ.setdefault(_NO_TELEMETRY, "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            "onnxruntime is not installed; pip install 'ssn-edge[cpu]'"
            if not installed
            else f"onnxruntime is installed but cannot be imported: {_first_line(error)}"
        ) from error
    return onnxruntime  # type: ignore[no-any-return]


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """All that ONNX Runtime raises: its own errors share no base class but `Exception`."""
    state = runtime.capi.onnxruntime_pybind11_state
    own = (each for each in vars(state).values() if isinstance(each, type))
    return (*(each for each in own if issubclass(each, Exception)), RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
