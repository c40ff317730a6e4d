"""A stand-in for a GPU and for TensorRT on a machine that has neither.

It has the interface that our engine uses of both, and computes with ONNX Runtime. Work put into a
stream is done when the stream is waited for and not before, GPU memory is apart from the host's,
and whatever is used outside of `current`, or after it was freed, is an error. So our side
(addresses, copies, order, waiting, graphs, threads, release) is tested for true; the real
libraries' side is what ``pytest -m gpu`` tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.engines.cuda_device import (
    CudaEvent,
    CudaGraph,
    CudaProperties,
    DeviceMemory,
    HostMemory,
)
from ssn_edge_runtime.engines.tensorrt_library import Messages, TensorRt
from ssn_edge_runtime.errors import EngineError

MAGIC = b"stand-in plan "


class StandInDevice:
    """Memory, streams and events that are the host's."""

    def __init__(self, *, integrated: bool = False) -> None:
        self.properties = CudaProperties("stand-in", "8.7", 8, integrated, True)
        self.adapter = "stand-in"
        self.alive: list[object] = []
        self.can_capture = True
        self.fails = False
        self.free_bytes = 8 * 2**30
        self._here = threading.local()
        self._handles = itertools.count(1)
        self._streams: dict[int, StandInStream] = {}

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        depth = getattr(self._here, "depth", 0)
        self._here.depth = depth + 1
        try:
            yield
        finally:
            self._here.depth = depth

    def check(self) -> None:
        assert getattr(self._here, "depth", 0), "used outside of current()"
        if self.fails:
            raise EngineError("the stand-in was told to fail")

    def free_memory_bytes(self) -> int:
        self.check()
        return self.free_bytes

    def allocate(self, size_bytes: int) -> StandInMemory:
        self.check()
        return StandInMemory(self, size_bytes)

    def allocate_host(self, size_bytes: int, *, mapped: bool = False) -> StandInMemory:
        self.check()
        return StandInMemory(self, size_bytes, is_mapped=mapped)

    def create_stream(self) -> StandInStream:
        self.check()
        stream = StandInStream(self, next(self._handles))
        self._streams[stream.handle] = stream
        return stream

    def create_event(self) -> StandInEvent:
        self.check()
        return StandInEvent(self)

    def elapsed_ms(self, first: CudaEvent, last: CudaEvent) -> float:
        self.check()
        assert isinstance(first, StandInEvent)
        assert isinstance(last, StandInEvent)
        assert first.position is not None
        assert last.position is not None
        return float(last.position - first.position)

    def stream(self, handle: int) -> StandInStream:
        return self._streams[handle]


class Freed:
    """Something that must be freed once."""

    def __init__(self, device: StandInDevice) -> None:
        self.device = device
        self.is_free = False
        device.alive.append(self)

    def free(self) -> None:
        self.device.check()
        if not self.is_free:
            self.is_free = True
            self.device.alive.remove(self)


class StandInMemory(Freed):
    def __init__(
        self, device: StandInDevice, size_bytes: int, *, is_mapped: bool | None = None
    ) -> None:
        super().__init__(device)
        # What was there before is never 0: who does not write it finds out.
        self._bytes = (ctypes.c_uint8 * size_bytes)(*([0xA5] * size_bytes))
        self._is_mapped = is_mapped

    @property
    def address(self) -> int:
        assert self._is_mapped is None, "memory of the host has no address here"
        return ctypes.addressof(self._bytes)

    @property
    def device_address(self) -> int:
        assert self._is_mapped, "only mapped memory is reached by the GPU"
        return ctypes.addressof(self._bytes)

    @property
    def array(self) -> ByteImage:
        return np.ctypeslib.as_array(self._bytes)

    def copy_from(self, other: StandInMemory) -> None:
        assert not self.is_free
        assert not other.is_free
        assert len(self._bytes) == len(other._bytes)
        self.array[:] = other.array


class StandInEvent(Freed):
    position: int | None = None


class StandInStream(Freed):
    def __init__(self, device: StandInDevice, handle: int) -> None:
        super().__init__(device)
        self.handle = handle
        self.waiting: list[Callable[[], None]] = []
        self._captured: list[Callable[[], None]] | None = None
        self._clock = itertools.count()

    def put(self, work: Callable[[], None]) -> None:
        self.device.check()
        (self.waiting if self._captured is None else self._captured).append(work)

    def copy_to_device(self, target: DeviceMemory, source: HostMemory) -> None:
        assert isinstance(target, StandInMemory)
        assert isinstance(source, StandInMemory)
        self.put(lambda: target.copy_from(source))

    def copy_to_host(self, target: HostMemory, source: DeviceMemory) -> None:
        assert isinstance(target, StandInMemory)
        assert isinstance(source, StandInMemory)
        self.put(lambda: target.copy_from(source))

    def record(self, event: CudaEvent) -> None:
        assert isinstance(event, StandInEvent)

        def note() -> None:
            event.position = next(self._clock)

        self.put(note)

    def synchronize(self) -> None:
        self.device.check()
        assert self._captured is None, "a stream cannot be waited for while it captures"
        work, self.waiting = self.waiting, []
        for each in work:
            each()

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        if not self.device.can_capture:
            raise EngineError("the stand-in was told not to capture")
        self._captured = []
        try:
            work()
            return StandInGraph(self, self._captured)
        finally:
            self._captured = None


class StandInGraph(Freed):
    def __init__(self, stream: StandInStream, work: list[Callable[[], None]]) -> None:
        super().__init__(stream.device)
        self._stream, self._work = stream, work

    def launch(self) -> None:
        for each in self._work:
            self._stream.put(each)


class _DataType(Enum):
    FLOAT = "float"
    UINT8 = "uint8"


_SIZES: Mapping[_DataType, Any] = {_DataType.FLOAT: np.float32, _DataType.UINT8: np.uint8}
_TYPES = {onnx.TensorProto.FLOAT: _DataType.FLOAT, onnx.TensorProto.UINT8: _DataType.UINT8}


class StandInContext:
    """Runs the ONNX model of a plan on whatever the addresses point to."""

    def __init__(self, device: StandInDevice, engine: StandInEngine) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(engine.onnx, options)
        self._device = device
        self._shapes = dict(engine.shapes)
        self._types = engine.types
        self._addresses: dict[str, int] = {}
        self._outputs = [each.name for each in self._session.get_outputs()]
        self.answers = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._shapes[name][1:] != shape[1:]:
            return False
        self._shapes = {
            each: tuple(shape[0] if size == -1 else size for size in sizes)
            for each, sizes in self._shapes.items()
        }
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        if self.answers:
            self._device.stream(handle).put(self._run)
        return self.answers

    def _run(self) -> None:
        feeds = {each.name: self._at(each.name).copy() for each in self._session.get_inputs()}
        for name, value in zip(self._outputs, self._session.run(self._outputs, feeds), strict=True):
            self._at(name)[...] = value

    def _at(self, name: str) -> Any:
        dtype = _SIZES[self._types[name]]
        shape = self._shapes[name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        found = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.ctypeslib.as_array(found).view(dtype).reshape(shape)


class StandInEngine:
    def __init__(self, device: StandInDevice, plan: bytes) -> None:
        self._device = device
        self.onnx = plan.removeprefix(MAGIC)
        graph = onnx.load_model_from_string(self.onnx).graph
        self._inputs = {each.name for each in graph.input}
        values = (*graph.input, *graph.output)
        self.types = {each.name: _TYPES[each.type.tensor_type.elem_type] for each in values}
        self.shapes = {
            each.name: tuple(size.dim_value or -1 for size in each.type.tensor_type.shape.dim)
            for each in values
        }
        self.num_io_tensors = len(values)
        self.contexts: list[StandInContext] = []

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_dtype(self, name: str) -> _DataType:
        return self.types[name]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self._inputs else "out"

    def create_execution_context(self) -> StandInContext:
        self.contexts.append(StandInContext(self._device, self))
        return self.contexts[-1]

    def create_engine_inspector(self) -> Any:
        layer = {
            "Name": "all",
            "LayerType": "gemm",
            "Inputs": [{"Name": "x", "Datatype": "Int8"}],
            "Outputs": [{"Name": "y", "Datatype": "Float"}],
        }
        text = json.dumps({"Layers": [layer]})
        return SimpleNamespace(get_engine_information=lambda _format: text)


class _Parser:
    def __init__(self, network: Any, logger: Any) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, model: bytes) -> bool:
        self._network.model = model
        return True


class _Monitor:
    pass


def stand_in_tensorrt(device: StandInDevice, *, refuses: bytes | None = None) -> TensorRt:
    """The library, as our code takes it.

    Args:
        device: Where it runs.
        refuses: Models that hold these bytes cannot be built.
    """
    built: list[bytes] = []

    def build(network: Any, config: Any) -> bytes | None:
        if refuses is not None and refuses in network.model:
            return None
        built.append(network.model)
        return MAGIC + bytes(network.model)

    def network(flags: int) -> Any:
        shapes = [("pixels", (-1, 48, 64, 3))]
        return SimpleNamespace(
            model=b"",
            num_inputs=1,
            num_layers=1,
            get_input=lambda index: SimpleNamespace(name=shapes[0][0], shape=shapes[0][1]),
        )

    def builder(logger: Any) -> Any:
        return SimpleNamespace(
            create_network=network,
            create_builder_config=lambda: SimpleNamespace(
                set_memory_pool_limit=lambda pool, size: None,
                clear_flag=lambda flag: None,
                add_optimization_profile=lambda profile: 0,
                create_timing_cache=lambda content: SimpleNamespace(serialize=lambda: b"times"),
                set_timing_cache=lambda cache, ignore_mismatch: True,
            ),
            create_optimization_profile=lambda: SimpleNamespace(
                set_shape=lambda name, *shapes: None
            ),
            build_serialized_network=build,
        )

    engines: list[StandInEngine] = []

    def deserialize(plan: bytes) -> StandInEngine | None:
        if not plan.startswith(MAGIC):
            return None
        engines.append(StandInEngine(device, plan))
        return engines[-1]

    module = SimpleNamespace(
        Builder=builder,
        OnnxParser=_Parser,
        IProgressMonitor=_Monitor,
        BuilderFlag=SimpleNamespace(TF32=0),
        MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        ProfilingVerbosity=SimpleNamespace(DETAILED=0),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=deserialize),
        DataType=_DataType,
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        LayerInformationFormat=SimpleNamespace(JSON=0),
        engines=engines,
        built=built,
    )
    return TensorRt("tensorrt", module, "10.3.0.30", Messages(), None)
