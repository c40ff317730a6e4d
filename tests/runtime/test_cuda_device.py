"""The CUDA adapters where there is no driver; with one they are tested in `gpu/`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ssn_edge_runtime.engines import cuda_device, cuda_python
from ssn_edge_runtime.engines.cuda_device import open_cuda_device
from ssn_edge_runtime.engines.cuda_driver import CudaDriver
from ssn_edge_runtime.engines.cuda_pycuda import open_pycuda
from ssn_edge_runtime.errors import EngineError

without_gpu = pytest.mark.skipif(
    Path("/dev/nvidiactl").exists() or Path("/dev/nvhost-gpu").exists(),
    reason="this machine has an NVIDIA GPU",
)
needs_cuda_python = pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None, reason="cuda-python is not installed"
)

RUNTIME_NAMES = """
    cudaGetDeviceCount cudaGetErrorString cudaSetDevice cudaMalloc cudaFree cudaHostAlloc
    cudaFreeHost cudaHostGetDevicePointer cudaHostAllocMapped cudaHostAllocDefault cudaMemcpyAsync
    cudaMemcpyKind cudaStreamCreateWithFlags cudaStreamNonBlocking cudaStreamDestroy
    cudaStreamSynchronize cudaStreamBeginCapture cudaStreamEndCapture cudaStreamCaptureMode
    cudaEventCreate cudaEventDestroy cudaEventRecord cudaEventRecordWithFlags cudaEventElapsedTime
    cudaGraphInstantiate cudaGraphDestroy cudaGraphLaunch cudaGraphExecDestroy cudaMemGetInfo
    cudaDeviceAttr cudaDeviceGetAttribute cudaGetDeviceProperties
""".split()  # noqa: SIM905 - a list of so many names is read more easily so


@without_gpu
@needs_cuda_python
def test_cuda_python_without_a_driver_says_that_there_is_no_device() -> None:
    with pytest.raises(EngineError, match=r"no CUDA device here.*nvidia-smi"):
        open_cuda_device("cuda-python")


@needs_cuda_python
@pytest.mark.parametrize("name", RUNTIME_NAMES)
def test_cuda_python_has_every_name_that_we_use(name: str) -> None:
    assert hasattr(cuda_python._import(), name)


@without_gpu
@needs_cuda_python
def test_cuda_python_takes_every_argument_as_we_give_it() -> None:
    runtime = cuda_python._import()
    stream, event = runtime.cudaStream_t(0), runtime.cudaEvent_t(0)
    graph, launchable = runtime.cudaGraph_t(0), runtime.cudaGraphExec_t(0)
    there = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    attribute = runtime.cudaDeviceAttr.cudaDevAttrIntegrated
    assert int(stream) == 0
    # Without a driver each gives an error code; a wrong type would raise.
    for name, arguments in (
        ("cudaSetDevice", (0,)),
        ("cudaMalloc", (16,)),
        ("cudaHostAlloc", (16, runtime.cudaHostAllocMapped)),
        ("cudaHostGetDevicePointer", (4096, 0)),
        ("cudaMemcpyAsync", (4096, 8192, 16, there, stream)),
        ("cudaStreamCreateWithFlags", (runtime.cudaStreamNonBlocking,)),
        ("cudaStreamBeginCapture", (stream, mode)),
        ("cudaStreamEndCapture", (stream,)),
        ("cudaStreamSynchronize", (stream,)),
        ("cudaEventCreate", ()),
        ("cudaEventRecord", (event, stream)),
        ("cudaEventRecordWithFlags", (event, stream, 1)),
        ("cudaEventElapsedTime", (event, event)),
        ("cudaGraphInstantiate", (graph, 0)),
        ("cudaGraphLaunch", (launchable, stream)),
        ("cudaDeviceGetAttribute", (attribute, 0)),
        ("cudaMemGetInfo", ()),
    ):
        found = getattr(runtime, name)(*arguments)
        assert isinstance(found, tuple), name
        assert int(found[0]) != 0, name


@needs_cuda_python
def test_the_flag_of_captured_events_is_the_librarys() -> None:
    runtime = cuda_python._import()
    assert runtime.cudaEventRecordExternal == cuda_python._RECORD_EXTERNAL


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"ssn-edge\[pycuda\].*ssn-edge\[cuda\]"):
        open_cuda_device()


def test_pycuda_without_a_driver_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pycuda.driver":
                raise ImportError("libcuda.so.1: cannot open shared object file")

    package = ModuleType("pycuda")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoDriver(), *sys.meta_path])
    with pytest.raises(EngineError, match=r"libcuda\.so\.1.*install the NVIDIA driver"):
        open_pycuda()


@without_gpu
def test_the_driver_that_is_missing_is_named() -> None:
    with pytest.raises(EngineError, match=r"libcuda\.so\.1.*install the NVIDIA driver"):
        CudaDriver()


def test_the_first_adapter_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.runtime.stand_in_gpu import StandInDevice

    def broken() -> StandInDevice:
        raise EngineError("pycuda is broken")

    works = StandInDevice()
    monkeypatch.setattr(cuda_device, "ADAPTERS", {"pycuda": broken, "cuda-python": lambda: works})
    assert open_cuda_device() is works
    with pytest.raises(EngineError, match="pycuda is broken"):
        open_cuda_device("pycuda")
