"""TensorRT and TensorRT-RTX: runs a plan that was built on this device.

Addresses are set once and never change. On a Jetson the GPU reads and writes the host's memory
itself; elsewhere pinned memory is copied. Copies and inference are captured as one CUDA graph.

Written by the libraries' documentation, and tested here against a stand-in that computes with ONNX
Runtime: it has not run on a GPU yet. ``pytest -m gpu`` proves it on one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

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
from ssn_edge_runtime.engines.cuda_device import (
    CudaDevice,
    CudaGraph,
    DeviceMemory,
    HostMemory,
    open_cuda_device,
)
from ssn_edge_runtime.engines.signature import check_signature
from ssn_edge_runtime.engines.tensorrt_layers import PlanLayers, layers_from_json
from ssn_edge_runtime.engines.tensorrt_library import TensorRt
from ssn_edge_runtime.errors import EngineError

logger = logging.getLogger(__name__)

_INPUTS = (PIXELS, PIXEL_THRESHOLD, REGION_MASK)
_OUTPUTS = (CLASSIFICATION_LOGIT, MAP_MAX_LOGIT, ANOMALY_MAP, DEFECT_MASK)
_REBUILD = "build it here: ssn-edge build --force"


class TensorRtEngine:
    """A plan in an execution context, with its buffers. Any thread may call it, one at a time.

    Args:
        tensorrt: The library that built the plan.
        plan: Its bytes, as this device wrote them: a plan is executable content.
        input_size_hw: Height and width that the manifest states.
        batch_size: Frames at once, as the plan was built for.
        device: What CUDA is reached by; None for what is installed.
        mapped: Whether the GPU uses the host's memory itself; None where both are one.
        use_graph: Whether to capture the work as a CUDA graph.

    Raises:
        EngineError: No GPU, or the plan cannot be loaded by this library on this device.
    """

    def __init__(
        self,
        tensorrt: TensorRt,
        plan: bytes,
        *,
        input_size_hw: tuple[int, int],
        batch_size: int = 1,
        device: CudaDevice | None = None,
        mapped: bool | None = None,
        use_graph: bool = True,
    ) -> None:
        self._tensorrt = tensorrt
        self._identity = hashlib.sha256(plan).hexdigest()
        self._batch_size = batch_size
        self._size = input_size_hw
        self._device = device or open_cuda_device()
        properties = self._device.properties
        can_map = properties.is_integrated and properties.maps_host_memory
        self._mapped = can_map if mapped is None else mapped
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_run = False
        self._host_ms = (0.0, 0.0)
        self._graph: CudaGraph | None = None
        # What is made is freed in reverse: by `close`, or here if the rest cannot be made.
        self._resources = contextlib.ExitStack()
        try:
            with self._device.current():
                self._load(plan)
                self._make_buffers()
                if use_graph:
                    self._capture()
        except BaseException:
            self._release()
            raise

    @property
    def name(self) -> str:
        """What runs: ``tensorrt`` or ``tensorrt-rtx``."""
        return self._tensorrt.engine

    @property
    def identity(self) -> str:
        """SHA-256 of the plan."""
        return self._identity

    @property
    def batch_size(self) -> int:
        """Frames at once."""
        return self._batch_size

    @property
    def uses_graph(self) -> bool:
        """Whether copies and inference are launched as one CUDA graph."""
        return self._graph is not None

    @property
    def is_mapped(self) -> bool:
        """Whether the GPU uses the host's memory itself, without copies."""
        return self._mapped

    @property
    def last_stage_ms(self) -> Mapping[str, float]:
        """Milliseconds of ``copy_in``, ``infer`` and ``copy_out``; empty before the first call.

        By events of the GPU; the copies include those of the host to and from pinned memory.
        """
        with self._lock:
            if self._is_closed or not self._has_run:
                return {}
            with self._device.current():
                copied_in, inferred, copied_out = (
                    self._device.elapsed_ms(first, last)
                    for first, last in zip(self._events, self._events[1:], strict=False)
                )
            before, after = self._host_ms
        return {"copy_in": copied_in + before, "infer": inferred, "copy_out": copied_out + after}

    def layers(self) -> PlanLayers:
        """What really runs in which type.

        Raises:
            EngineError: The engine is closed, or the library's answer cannot be read.
        """
        with self._lock, self._device.current():
            if self._is_closed:
                raise EngineError(f"engine {self.name} is closed")
            inspector = self._engine.create_engine_inspector()
            json_format = self._tensorrt.module.LayerInformationFormat.JSON
            return layers_from_json(str(inspector.get_engine_information(json_format)))

    def infer(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> Judgement:
        """Judge one preprocessed frame; see `Engine.infer`. The next call reuses the arrays.

        Raises:
            EngineError: TensorRT or CUDA failed, or the engine is closed or takes several frames.
        """
        (judgement,) = self.infer_batch(
            pixels[None], pixel_threshold=pixel_threshold, region_mask=region_mask
        )
        return judgement

    def infer_batch(
        self, pixels: ByteImage, *, pixel_threshold: float, region_mask: BoolMask | None = None
    ) -> tuple[Judgement, ...]:
        """Judge preprocessed frames; see `Engine.infer_batch`. The next call reuses the arrays.

        Raises:
            EngineError: TensorRT or CUDA failed, the engine is closed, or takes other many frames.
        """
        with self._lock:
            if self._is_closed:
                raise EngineError(f"engine {self.name} is closed")
            if pixels.shape != self._pinned[PIXELS].shape:
                raise EngineError(
                    f"engine {self.name} was built for {self._pinned[PIXELS].shape}, pixels of "
                    f"{pixels.shape} were given; preprocess frames to the network's size"
                )
            started = time.perf_counter_ns()
            self._pinned[PIXELS][...] = pixels
            self._pinned[PIXEL_THRESHOLD][0] = pixel_threshold
            self._pinned[REGION_MASK][...] = True if region_mask is None else region_mask
            for name in (CLASSIFICATION_LOGIT, MAP_MAX_LOGIT):
                # If the GPU wrote nothing, and said nothing, the last frame's score would decide.
                self._pinned[name].fill(np.nan)
            staged = time.perf_counter_ns()
            with self._device.current():
                if self._graph is not None:
                    self._graph.launch()
                else:
                    self._enqueue()
                self._stream.synchronize()
            returned = time.perf_counter_ns()
            for name in _OUTPUTS:
                # Pinned memory ends with the engine; what is handed out must not.
                np.copyto(self._found[name], self._pinned[name])
            self._host_ms = (
                (staged - started) / 1e6,
                (time.perf_counter_ns() - returned) / 1e6,
            )
            self._has_run = True
            return tuple(
                Judgement(float(logit), float(map_max), anomaly_map, defect_mask)
                for logit, map_max, anomaly_map, defect_mask in zip(
                    *(self._found[name] for name in _OUTPUTS), strict=True
                )
            )

    def close(self) -> None:
        """Wait for a running call, then free all; a second call does nothing."""
        with self._lock:
            self._release()

    def __enter__(self) -> TensorRtEngine:
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

    def _load(self, plan: bytes) -> None:
        """Runtime, engine and context; each must be freed before the one it was made of."""
        library = self._tensorrt
        library.messages.clear()
        try:
            self._runtime: Any = library.module.Runtime(library.logger)
        except TypeError as error:  # the bindings' word for null
            raise self._failed("cannot start", "nvidia-smi shows whether the GPU works") from error
        self._resources.callback(self._drop, "_runtime")
        self._runtime.engine_host_code_allowed = False
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failed("cannot load the plan", _REBUILD)
        self._resources.callback(self._drop, "_engine")
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed("cannot make a context", "free memory of the GPU")
        self._resources.callback(self._drop, "_context")
        height, width = self._size
        found = {
            self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)
        }
        if PIXELS in found and not self._context.set_input_shape(
            PIXELS, (self._batch_size, height, width, 3)
        ):
            raise self._failed(f"takes no {self._batch_size} x {height} x {width}", _REBUILD)
        self._check(found)

    def _check(self, found: set[str]) -> None:
        """Names, types and sizes by the contract; a plan of another package ends here."""
        module = self._tensorrt.module
        types = {module.DataType.UINT8: "uint8", module.DataType.FLOAT: "float"}
        inputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        outputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name in sorted(found):
            kind = self._engine.get_tensor_dtype(name)
            is_input = self._engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
            described = (types.get(kind, str(kind)), tuple(self._context.get_tensor_shape(name)))
            (inputs if is_input else outputs)[name] = described
        check_signature(inputs, outputs, input_size_hw=self._size, batch_size=self._batch_size)

    def _make_buffers(self) -> None:
        """Stream, events and memory; addresses are set here and stay."""
        self._stream = self._device.create_stream()
        self._resources.callback(self._stream.free)
        self._events = [self._device.create_event() for _ in range(4)]
        for event in self._events:
            self._resources.callback(event.free)
        self._buffers: dict[str, _Buffer] = {}
        self._pinned: dict[str, npt.NDArray[Any]] = {}
        for name in (*_INPUTS, *_OUTPUTS):
            shape = tuple(self._context.get_tensor_shape(name))
            is_byte = name in (PIXELS, REGION_MASK, DEFECT_MASK)
            dtype: npt.DTypeLike = np.uint8 if is_byte else np.float32
            size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            host = self._device.allocate_host(size_bytes, mapped=self._mapped)
            self._resources.callback(host.free)
            memory = None
            if not self._mapped:
                memory = self._device.allocate(size_bytes)
                self._resources.callback(memory.free)
            self._buffers[name] = _Buffer(host, memory)
            self._pinned[name] = host.array.view(dtype).reshape(shape)
            self._pinned[name].fill(0)
            if not self._context.set_tensor_address(name, self._buffers[name].address):
                raise self._failed(f"does not take the memory of {name}", _REBUILD)
        self._found = {name: np.zeros_like(self._pinned[name]) for name in _OUTPUTS}

    def _enqueue(self) -> None:
        """Everything that one call puts into the stream."""
        self._tensorrt.messages.clear()
        self._stream.record(self._events[0])
        for name in _INPUTS:
            host, memory = self._buffers[name].host, self._buffers[name].memory
            if memory is not None:
                self._stream.copy_to_device(memory, host)
        self._stream.record(self._events[1])
        if not self._context.execute_async_v3(self._stream.handle):
            raise self._failed("cannot run the plan", "restart the program; if it stays, rebuild")
        self._stream.record(self._events[2])
        for name in _OUTPUTS:
            host, memory = self._buffers[name].host, self._buffers[name].memory
            if memory is not None:
                self._stream.copy_to_host(host, memory)
        self._stream.record(self._events[3])

    def _capture(self) -> None:
        """One graph of all of it; without one the engine runs all the same."""
        # The first run allocates and compiles, which a capture must not see.
        self._enqueue()
        self._stream.synchronize()
        try:
            graph = self._stream.capture(self._enqueue)
        except EngineError as error:
            logger.warning(
                "%s runs without a CUDA graph, with some more latency: %s", self.name, error
            )
            return
        self._resources.callback(graph.free)
        try:
            graph.launch()
        finally:
            self._stream.synchronize()
        self._graph = graph

    def _release(self) -> None:
        """Free what was made, in reverse; the lock is held, or nobody else knows the engine."""
        if self._is_closed:
            return
        self._is_closed = True
        self._graph = None
        # Views of pinned memory must be gone before it is.
        self._pinned = {}
        try:
            with self._device.current():
                self._resources.close()
        except EngineError as error:
            # After a failure of the GPU nothing can be given back; the process gives all back.
            logger.warning("%s: not all could be freed: %s", self.name, error)

    def _drop(self, name: str) -> None:
        setattr(self, name, None)

    def _failed(self, what: str, advice: str) -> EngineError:
        library = self._tensorrt
        return EngineError(
            f"{library.engine} {library.version} {what}: {library.messages.why()}; {advice}"
        )


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Memory of one tensor: of the host, and of the GPU unless the host's is mapped."""

    host: HostMemory
    memory: DeviceMemory | None

    @property
    def address(self) -> int:
        return self.host.device_address if self.memory is None else self.memory.address
