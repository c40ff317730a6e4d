"""The CUDA device by PyCUDA.

PyCUDA's contexts belong to threads. All of ours push the device's primary context, the one that
TensorRT and PyTorch use, for the length of a call and pop it again, so that any thread may call and
none is left with a context that it did not ask for. ``pycuda.autoinit`` would make another context.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
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
from ssn_edge_runtime.engines.cuda_driver import CudaDriver
from ssn_edge_runtime.errors import EngineError

ORDINAL = 0
_STREAM_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, for which PyCUDA has no name."""


def open_pycuda() -> CudaDevice:
    """Find the first CUDA device.

    Raises:
        EngineError: Not installed, no driver, or no GPU.
    """
    try:
        driver = importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise EngineError("pycuda is not installed; pip install 'ssn-edge[pycuda]'") from error
    except ImportError as error:
        raise EngineError(
            f"pycuda cannot be imported ({error}); install the NVIDIA driver, or build pycuda again"
        ) from error
    return _Device(driver, *_primary_context(driver))


@functools.cache  # once a process: PyCUDA can only let a context go in the thread that made it
def _primary_context(driver: Any) -> tuple[Any, Any]:
    """The device and its primary context, which is kept until the process ends."""
    with _errors(driver, "cuDevicePrimaryCtxRetain"):
        driver.init()
        if driver.Device.count() == 0:
            raise EngineError("there is no CUDA device here; nvidia-smi shows if the driver works")
        device = driver.Device(ORDINAL)
        context = device.retain_primary_context()
    # Left to its end, PyCUDA would detach it as a context of its own, which fails with a warning.
    atexit.register(context.detach)
    return device, context


@contextlib.contextmanager
def _errors(driver: Any, what: str) -> Iterator[None]:
    """PyCUDA's errors as ours."""
    try:
        yield
    except driver.Error as error:
        raise EngineError(
            f"CUDA failed in {what}: {error}; if it fails again, look at the kernel's log and "
            "restart the program"
        ) from error


class _Owned:
    """Something of CUDA's that is given back once."""

    def __init__(self, driver: Any, free: Callable[[], object]) -> None:
        self._driver = driver
        self._free: Callable[[], object] | None = free

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        free, self._free = self._free, None
        if free is not None:
            with _errors(self._driver, "giving memory back"):
                free()


class _DeviceMemory(_Owned):
    def __init__(self, driver: Any, size_bytes: int) -> None:
        with _errors(driver, f"allocating {size_bytes} bytes"):
            allocation = driver.mem_alloc(size_bytes)
        super().__init__(driver, allocation.free)
        self._address = int(allocation)

    @property
    def address(self) -> int:
        return self._address


class _HostMemory(_Owned):
    def __init__(self, driver: Any, size_bytes: int, *, mapped: bool) -> None:
        flags = driver.host_alloc_flags.DEVICEMAP if mapped else 0
        with _errors(driver, f"allocating {size_bytes} bytes of pinned memory"):
            self._array: ByteImage = driver.pagelocked_empty(size_bytes, np.uint8, mem_flags=flags)
            allocation = self._array.base
            assert allocation is not None
            super().__init__(driver, allocation.free)
            self._device = int(allocation.get_device_pointer()) if mapped else 0

    @property
    def array(self) -> ByteImage:
        return self._array

    @property
    def device_address(self) -> int:
        return self._device


class _Event(_Owned):
    def __init__(self, driver: Any, graphs: CudaDriver) -> None:
        self.event = graphs.create_event()
        super().__init__(driver, lambda: graphs.destroy_event(self.event))


class _Graph(_Owned):
    def __init__(self, driver: Any, graphs: CudaDriver, graph: int, stream: int) -> None:
        self._graphs, self._graph, self._stream = graphs, graph, stream
        super().__init__(driver, lambda: graphs.destroy_graph(graph))

    def launch(self) -> None:
        self._graphs.launch(self._graph, self._stream)


class _Stream(_Owned):
    def __init__(self, driver: Any, graphs: CudaDriver) -> None:
        with _errors(driver, "cuStreamCreate"):
            self._stream: Any = driver.Stream(_STREAM_NON_BLOCKING)
        self._graphs = graphs
        self._handle = int(self._stream.handle)
        self._is_capturing = False
        super().__init__(driver, self._drop)

    @property
    def handle(self) -> int:
        return self._handle

    def copy_to_device(self, target: DeviceMemory, source: HostMemory) -> None:
        with _errors(self._driver, "cuMemcpyHtoDAsync"):
            self._driver.memcpy_htod_async(target.address, source.array, self._stream)

    def copy_to_host(self, target: HostMemory, source: DeviceMemory) -> None:
        with _errors(self._driver, "cuMemcpyDtoHAsync"):
            self._driver.memcpy_dtoh_async(target.array, source.address, self._stream)

    def record(self, event: CudaEvent) -> None:
        assert isinstance(event, _Event)
        self._graphs.record(event.event, self._handle, is_capturing=self._is_capturing)

    def synchronize(self) -> None:
        with _errors(self._driver, "cuStreamSynchronize"):
            self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        self._is_capturing = True
        try:
            graph = self._graphs.capture(self._handle, work)
        finally:
            self._is_capturing = False
        return _Graph(self._driver, self._graphs, graph, self._handle)

    def _drop(self) -> None:
        self._stream = None  # PyCUDA destroys it with its object


class _Device:
    """See `CudaDevice`."""

    def __init__(self, driver: Any, device: Any, context: Any) -> None:
        self._driver, self._context = driver, context
        self._graphs = CudaDriver()
        attributes = driver.device_attribute
        with _errors(driver, "cuDeviceGetAttribute"):
            major, minor = device.compute_capability()
            self._properties = CudaProperties(
                name=str(device.name()),
                compute_capability=f"{major}.{minor}",
                sm_count=int(device.get_attribute(attributes.MULTIPROCESSOR_COUNT)),
                is_integrated=bool(device.get_attribute(attributes.INTEGRATED)),
                maps_host_memory=bool(device.get_attribute(attributes.CAN_MAP_HOST_MEMORY)),
            )

    @property
    def adapter(self) -> str:
        return f"pycuda {importlib.import_module('pycuda').VERSION_TEXT}"

    @property
    def properties(self) -> CudaProperties:
        return self._properties

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        with _errors(self._driver, "cuCtxPushCurrent"):
            self._context.push()
        try:
            yield
        finally:
            with _errors(self._driver, "cuCtxPopCurrent"):
                self._driver.Context.pop()

    def free_memory_bytes(self) -> int:
        with _errors(self._driver, "cuMemGetInfo"):
            return int(self._driver.mem_get_info()[0])

    def allocate(self, size_bytes: int) -> DeviceMemory:
        return _DeviceMemory(self._driver, size_bytes)

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> HostMemory:
        return _HostMemory(self._driver, size_bytes, mapped=mapped)

    def create_stream(self) -> CudaStream:
        return _Stream(self._driver, self._graphs)

    def create_event(self) -> CudaEvent:
        return _Event(self._driver, self._graphs)

    def elapsed_ms(self, first: CudaEvent, last: CudaEvent) -> float:
        assert isinstance(first, _Event)
        assert isinstance(last, _Event)
        return self._graphs.elapsed_ms(first.event, last.event)
