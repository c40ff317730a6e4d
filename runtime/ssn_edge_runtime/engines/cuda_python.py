"""The CUDA device by cuda-python, NVIDIA's own bindings of the runtime API, 12.6 to 13.

Its calls give a tuple whose first part is an error code, and raise nothing. The runtime makes the
primary context by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.engines.cuda_device import (
    CudaDevice,
    CudaEvent,
    CudaGraph,
    CudaProperties,
    CudaStream,
    DeviceMemory,
    HostMemory,
)
from ssn_edge_runtime.errors import EngineError

ORDINAL = 0
_MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""The second is its name in the first releases for CUDA 12."""
_RECORD_EXTERNAL = 1
"""cudaEventRecordExternal: a node of the captured graph that records at each launch."""


def open_cuda_python() -> CudaDevice:
    """Find the first CUDA device.

    Raises:
        EngineError: Not installed, no driver, or no GPU.
    """
    runtime = _import()
    try:
        error, count = runtime.cudaGetDeviceCount()
    except RuntimeError as raised:  # a part of it that is missing
        raise EngineError(
            f"cuda-python cannot load CUDA ({raised}); install the driver"
        ) from raised
    if int(error) != 0 or not count:
        reason = "it lists none" if int(error) == 0 else _text(runtime, error)
        raise EngineError(
            f"there is no CUDA device here (cuda-python: {reason}); nvidia-smi shows whether the "
            "driver works"
        )
    return _Device(runtime)


def _import() -> Any:
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            raise EngineError(
                f"cuda-python is installed but cannot be imported ({error}); install it again: "
                "pip install --force-reinstall 'ssn-edge[cuda]'"
            ) from error
    raise EngineError("cuda-python is not installed; pip install 'ssn-edge[cuda]'")


def _text(runtime: Any, error: Any) -> str:
    told = runtime.cudaGetErrorString(error)[1]
    return told.decode() if isinstance(told, bytes) else f"CUDA error {int(error)}"


class _Runtime:
    """The module, with errors raised."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, name: str, *arguments: object) -> Any:
        error, *results = getattr(self.module, name)(*arguments)
        if int(error) != 0:
            raise EngineError(
                f"CUDA failed in {name}: {_text(self.module, error)}; if it fails again, look at "
                "the kernel's log and restart the program"
            )
        return results[0] if results else None


class _Owned:
    """Something of CUDA's that is given back once."""

    def __init__(self, free: Callable[[], object]) -> None:
        self._free: Callable[[], object] | None = free

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        free, self._free = self._free, None
        if free is not None:
            free()


class _DeviceMemory(_Owned):
    def __init__(self, call: _Runtime, size_bytes: int) -> None:
        self._address = int(call("cudaMalloc", size_bytes))
        super().__init__(lambda: call("cudaFree", self._address))

    @property
    def address(self) -> int:
        return self._address


class _HostMemory(_Owned):
    def __init__(self, call: _Runtime, size_bytes: int, *, mapped: bool) -> None:
        flags = call.module.cudaHostAllocMapped if mapped else call.module.cudaHostAllocDefault
        pointer = int(call("cudaHostAlloc", size_bytes, flags))
        super().__init__(lambda: call("cudaFreeHost", pointer))
        self._array = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(pointer))
        self._device = int(call("cudaHostGetDevicePointer", pointer, 0)) if mapped else 0
        self.pointer, self.size_bytes = pointer, size_bytes

    @property
    def array(self) -> ByteImage:
        return self._array

    @property
    def device_address(self) -> int:
        return self._device


class _Event(_Owned):
    def __init__(self, call: _Runtime) -> None:
        self.event = call("cudaEventCreate")
        super().__init__(lambda: call("cudaEventDestroy", self.event))


class _Graph(_Owned):
    def __init__(self, call: _Runtime, captured: object, stream: object) -> None:
        self._call, self._stream = call, stream
        try:
            self._graph = call("cudaGraphInstantiate", captured, 0)
        finally:
            call("cudaGraphDestroy", captured)
        super().__init__(lambda: call("cudaGraphExecDestroy", self._graph))

    def launch(self) -> None:
        self._call("cudaGraphLaunch", self._graph, self._stream)


class _Stream(_Owned):
    def __init__(self, call: _Runtime) -> None:
        self._call = call
        self._stream = call("cudaStreamCreateWithFlags", call.module.cudaStreamNonBlocking)
        self._is_capturing = False
        super().__init__(lambda: call("cudaStreamDestroy", self._stream))

    @property
    def handle(self) -> int:
        return int(self._stream)

    def copy_to_device(self, target: DeviceMemory, source: HostMemory) -> None:
        kind = self._call.module.cudaMemcpyKind.cudaMemcpyHostToDevice
        assert isinstance(source, _HostMemory)
        self._copy(target.address, source.pointer, source.size_bytes, kind)

    def copy_to_host(self, target: HostMemory, source: DeviceMemory) -> None:
        kind = self._call.module.cudaMemcpyKind.cudaMemcpyDeviceToHost
        assert isinstance(target, _HostMemory)
        self._copy(target.pointer, source.address, target.size_bytes, kind)

    def _copy(self, target: int, source: int, size_bytes: int, kind: object) -> None:
        self._call("cudaMemcpyAsync", target, source, size_bytes, kind, self._stream)

    def record(self, event: CudaEvent) -> None:
        assert isinstance(event, _Event)
        if self._is_capturing:
            self._call("cudaEventRecordWithFlags", event.event, self._stream, _RECORD_EXTERNAL)
        else:
            self._call("cudaEventRecord", event.event, self._stream)

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self._stream)

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        # Other threads may go on allocating and waiting while this one captures.
        mode = self._call.module.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        self._is_capturing = True
        try:
            work()
        except BaseException:
            # The stream must leave its capture in any case; what it captured is of no use.
            with contextlib.suppress(EngineError):
                self._call("cudaGraphDestroy", self._call("cudaStreamEndCapture", self._stream))
            raise
        finally:
            self._is_capturing = False
        return _Graph(self._call, self._call("cudaStreamEndCapture", self._stream), self._stream)


class _Device:
    """See `CudaDevice`."""

    def __init__(self, module: Any) -> None:
        self._call = _Runtime(module)
        with self.current():
            self._properties = self._read_properties()

    @property
    def adapter(self) -> str:
        package = importlib.import_module(self._call.module.__name__.rpartition(".")[0])
        return f"cuda-python {getattr(package, '__version__', '')}".rstrip()

    @property
    def properties(self) -> CudaProperties:
        return self._properties

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._call("cudaSetDevice", ORDINAL)
        yield

    def free_memory_bytes(self) -> int:
        error, free_bytes, _ = self._call.module.cudaMemGetInfo()
        if int(error) != 0:
            raise EngineError(f"CUDA failed in cudaMemGetInfo: {_text(self._call.module, error)}")
        return int(free_bytes)

    def allocate(self, size_bytes: int) -> DeviceMemory:
        return _DeviceMemory(self._call, size_bytes)

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> HostMemory:
        return _HostMemory(self._call, size_bytes, mapped=mapped)

    def create_stream(self) -> CudaStream:
        return _Stream(self._call)

    def create_event(self) -> CudaEvent:
        return _Event(self._call)

    def elapsed_ms(self, first: CudaEvent, last: CudaEvent) -> float:
        assert isinstance(first, _Event)
        assert isinstance(last, _Event)
        return float(self._call("cudaEventElapsedTime", first.event, last.event))

    def _read_properties(self) -> CudaProperties:
        attributes = self._call.module.cudaDeviceAttr

        def read(name: str) -> int:
            return int(self._call("cudaDeviceGetAttribute", getattr(attributes, name), ORDINAL))

        name = self._call("cudaGetDeviceProperties", ORDINAL).name
        major = read("cudaDevAttrComputeCapabilityMajor")
        return CudaProperties(
            name=name.decode(errors="replace") if isinstance(name, bytes) else str(name),
            compute_capability=f"{major}.{read('cudaDevAttrComputeCapabilityMinor')}",
            sm_count=read("cudaDevAttrMultiProcessorCount"),
            is_integrated=bool(read("cudaDevAttrIntegrated")),
            maps_host_memory=bool(read("cudaDevAttrCanMapHostMemory")),
        )
