"""What a TensorRT engine needs of CUDA: memory, copies, a stream, events, a captured graph.

Two adapters give it, PyCUDA and cuda-python, under the same tests. Both work in the device's
primary context, the one that TensorRT and PyTorch use, so that all of them live in one process. All
is on the first CUDA device; CUDA_VISIBLE_DEVICES chooses another.

Written by the libraries' documentation; nothing here has run on a GPU yet. ``pytest -m gpu`` does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import EngineError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CudaProperties:
    """What decides how an engine uses a GPU.

    Args:
        name: As the driver tells it.
        compute_capability: Such as ``8.7``.
        sm_count: Streaming multiprocessors; differs between variants and power modes.
        is_integrated: It shares memory with the processor, as on a Jetson.
        maps_host_memory: It can reach pinned memory of the host itself.
    """

    name: str
    compute_capability: str
    sm_count: int
    is_integrated: bool
    maps_host_memory: bool


class DeviceMemory(Protocol):
    """Memory of the GPU."""

    @property
    def address(self) -> int:
        """As the GPU sees it."""
        ...

    def free(self) -> None:
        """Give it back; a second call does nothing. Needs `CudaDevice.current`."""
        ...


class HostMemory(Protocol):
    """Page-locked memory of the host."""

    @property
    def array(self) -> ByteImage:
        """Its bytes, (n,) uint8; not to be touched after `free`."""
        ...

    @property
    def device_address(self) -> int:
        """As the GPU sees it; of mapped memory only."""
        ...

    def free(self) -> None:
        """Give it back; a second call does nothing. Needs `CudaDevice.current`."""
        ...


class CudaEvent(Protocol):
    """A point in a stream, with its time."""

    def free(self) -> None:
        """Give it back; a second call does nothing. Needs `CudaDevice.current`."""
        ...


class CudaGraph(Protocol):
    """Captured work that is launched as one."""

    def launch(self) -> None:
        """Put it into the stream it was captured in."""
        ...

    def free(self) -> None:
        """Give it back; a second call does nothing. Needs `CudaDevice.current`."""
        ...


class CudaStream(Protocol):
    """An order of work of its own, never the default stream: TensorRT would wait for all others."""

    @property
    def handle(self) -> int:
        """What `execute_async_v3` takes."""
        ...

    def copy_to_device(self, target: DeviceMemory, source: HostMemory) -> None:
        """Copy all of the host memory; returns before it is done."""
        ...

    def copy_to_host(self, target: HostMemory, source: DeviceMemory) -> None:
        """Fill all of the host memory; returns before it is done."""
        ...

    def record(self, event: CudaEvent) -> None:
        """Note the time when the stream gets here, in a captured graph at each launch."""
        ...

    def synchronize(self) -> None:
        """Wait until all is done; errors of the work are raised here."""
        ...

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Capture what a function puts into the stream, without running it.

        Raises:
            EngineError: Something in it cannot be captured. The stream is as before.
        """
        ...

    def free(self) -> None:
        """Give it back; a second call does nothing. Needs `CudaDevice.current`."""
        ...


class CudaDevice(Protocol):
    """The first CUDA device, by one of the adapters. All errors are `EngineError`."""

    @property
    def adapter(self) -> str:
        """Which library gives it, such as ``cuda-python 12.9.5``."""
        ...

    @property
    def properties(self) -> CudaProperties:
        """What the driver says of it."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Make the device the calling thread's; every other call needs to be within this."""
        ...

    def free_memory_bytes(self) -> int:
        """What can still be allocated."""
        ...

    def allocate(self, size_bytes: int) -> DeviceMemory:
        """Memory of the GPU, not cleared."""
        ...

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> HostMemory:
        """Page-locked memory of the host; mapped if the GPU is to reach it without copies."""
        ...

    def create_stream(self) -> CudaStream:
        """A stream that does not wait for the default one."""
        ...

    def create_event(self) -> CudaEvent:
        """An event with a time."""
        ...

    def elapsed_ms(self, first: CudaEvent, last: CudaEvent) -> float:
        """Milliseconds between two recorded events that have passed."""
        ...


def open_cuda_device(adapter: str | None = None) -> CudaDevice:
    """The first CUDA device, by what is installed: PyCUDA before cuda-python.

    Args:
        adapter: ``pycuda`` or ``cuda-python``, to take that one only.

    Raises:
        EngineError: Neither is installed, or there is no driver or no GPU.
    """
    reasons = []
    for name in ADAPTERS if adapter is None else (adapter,):
        try:
            device = ADAPTERS[name]()
        except EngineError as error:
            reasons.append(str(error))
            continue
        logger.info("CUDA by %s: %s", device.adapter, device.properties.name)
        return device
    raise EngineError("; ".join(reasons))


def _pycuda() -> CudaDevice:
    # Imported here: a device needs only the one that is installed.
    from ssn_edge_runtime.engines.cuda_pycuda import open_pycuda

    return open_pycuda()


def _cuda_python() -> CudaDevice:
    from ssn_edge_runtime.engines.cuda_python import open_cuda_python

    return open_cuda_python()


ADAPTERS: dict[str, Callable[[], CudaDevice]] = {"pycuda": _pycuda, "cuda-python": _cuda_python}
"""Name to what opens it, best first: who compiled PyCUDA wants it."""
