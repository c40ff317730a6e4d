"""ONNX Runtime: runs a package's model on any CPU, and later on CUDA."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
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
from ssn_edge_runtime.errors import EngineError

CPU_PROVIDER = "CPUExecutionProvider"

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_OUTPUTS = (CLASSIFICATION_LOGIT, MAP_MAX_LOGIT, ANOMALY_MAP, DEFECT_MASK)
_LOG_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """A model in an ONNX Runtime session.

    Args:
        model: The ONNX file's bytes; the session keeps its own copy.
        input_size_hw: Height and width that the manifest states.
        provider: Execution provider; if it cannot be used, that is an error, and no other one is
            taken in silence.
        intra_op_threads: Threads within one operator; 0 takes one for each physical core.
        name: What runs, for people and records.

    Raises:
        EngineError: ONNX Runtime is not installed, or twice; the model cannot be loaded, or its
            inputs and outputs are not those of `engines/base.py`.
    """

    def __init__(
        self,
        model: bytes,
        *,
        input_size_hw: tuple[int, int],
        provider: str = CPU_PROVIDER,
        intra_op_threads: int = 0,
        name: str = "onnxruntime-cpu",
    ) -> None:
        runtime = _import_onnxruntime()
        self._name = name
        self._errors = _errors(runtime)
        if provider not in runtime.get_available_providers():
            raise EngineError(
                f"onnxruntime here has no {provider}, it has "
                f"{', '.join(runtime.get_available_providers())}; install one that has it"
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.log_severity_level = _LOG_ERRORS_ONLY
        # Spinning threads win a little latency and take the cores of capture and outputs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # What was scanned is ONNX; never guess another format from the bytes.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session: Any = runtime.InferenceSession(
                model, sess_options=options, providers=[provider]
            )
        except self._errors as error:
            raise EngineError(
                f"onnxruntime {runtime.__version__} cannot load the model: {_first_line(error)}"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise EngineError(f"onnxruntime could not start {provider}; run ssn-edge doctor")
        _check_signature(self._session, input_size_hw)
        self._everywhere = np.ones(input_size_hw, dtype=np.uint8)

    @property
    def name(self) -> str:
        """What runs, such as ``onnxruntime-cpu``."""
        return self._name

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        """Judge one preprocessed frame; see `Engine.infer`. The arrays are new.

        Raises:
            EngineError: ONNX Runtime failed, or the engine is closed.
        """
        if self._session is None:
            raise EngineError(f"engine {self._name} is closed")
        region = self._everywhere if region_mask is None else region_mask.astype(np.uint8)
        feeds = {
            PIXELS: pixels[None],  # (1, h, w, 3)
            PIXEL_THRESHOLD: np.array([pixel_threshold], dtype=np.float32),
            REGION_MASK: region,
        }
        try:
            logit, map_max, anomaly_map, defect_mask = self._session.run(_OUTPUTS, feeds)
        except self._errors as error:
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from error
        return Judgement(
            classification_logit=float(logit[0]),
            map_max_logit=float(map_max[0]),
            anomaly_map=anomaly_map[0],
            defect_mask=defect_mask[0],
        )

    def close(self) -> None:
        """Drop the session; a second call does nothing."""
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


def _import_onnxruntime() -> ModuleType:
    installed = [name for name in _DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        # Both write the same files: which one runs depends on the order of their installation.
        raise EngineError(
            f"{' and '.join(installed)} are both installed and overwrite each other; "
            f"pip uninstall {' '.join(installed)}, then install the one that you need"
        )
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


_Shape = Sequence[int | str | None]


def _check_signature(session: Any, input_size_hw: tuple[int, int]) -> None:
    """Compare the graph's inputs and outputs with the contract; the batch is 1 or free."""
    height, width = input_size_hw
    _compare(
        "input",
        {value.name: (value.type, value.shape) for value in session.get_inputs()},
        {
            PIXELS: ("tensor(uint8)", ("B", height, width, 3)),
            PIXEL_THRESHOLD: ("tensor(float)", (1,)),
            REGION_MASK: ("tensor(uint8)", (height, width)),
        },
    )
    _compare(
        "output",
        {value.name: (value.type, value.shape) for value in session.get_outputs()},
        {
            CLASSIFICATION_LOGIT: ("tensor(float)", ("B",)),
            MAP_MAX_LOGIT: ("tensor(float)", ("B",)),
            ANOMALY_MAP: ("tensor(float)", ("B", height, width)),
            DEFECT_MASK: ("tensor(uint8)", ("B", height, width)),
        },
    )


def _compare(
    what: str, found: dict[str, tuple[str, _Shape]], wanted: dict[str, tuple[str, _Shape]]
) -> None:
    if set(found) != set(wanted):
        raise EngineError(
            f"the model's {what}s are {', '.join(sorted(found))}; {', '.join(sorted(wanted))} are "
            "needed, export the package again"
        )
    for name, (wanted_type, wanted_shape) in wanted.items():
        found_type, found_shape = found[name]
        is_free = what == "output"  # shape inference may leave an output's sizes unnamed
        if found_type != wanted_type or not _fits(found_shape, wanted_shape, is_free=is_free):
            raise EngineError(
                f"the model's {what} {name} is {_text(found_type, found_shape)}; "
                f"{_text(wanted_type, wanted_shape)} is needed, export the package again"
            )


def _fits(found: _Shape, wanted: _Shape, *, is_free: bool) -> bool:
    return len(found) == len(wanted) and all(
        (size in (1, None) or isinstance(size, str))
        if target == "B"
        else size == target or (is_free and not isinstance(size, int))
        for size, target in zip(found, wanted, strict=True)
    )


def _text(dtype: str, shape: _Shape) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    return f"{dtype.removeprefix('tensor(').removesuffix(')')} ({sizes})"
