"""Both adapters do the same: memory, copies, streams, events, graphs, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ssn_edge_runtime.engines.cuda_device import CudaDevice
from ssn_edge_runtime.errors import EngineError

SIZE = 1 << 20


def test_the_device_is_described(cuda: CudaDevice) -> None:
    properties = cuda.properties
    assert properties.name
    assert properties.sm_count > 0
    major, _, minor = properties.compute_capability.partition(".")
    assert int(major) >= 5
    assert minor.isdecimal()
    with cuda.current():
        assert cuda.free_memory_bytes() > SIZE


def test_bytes_come_back_from_the_gpu(cuda: CudaDevice) -> None:
    with cuda.current():
        stream = cuda.create_stream()
        there, back = cuda.allocate_host(SIZE), cuda.allocate_host(SIZE)
        memory = cuda.allocate(SIZE)
        there.array[:] = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
        back.array[:] = 0
        stream.copy_to_device(memory, there)
        stream.copy_to_host(back, memory)
        stream.synchronize()
        assert np.array_equal(back.array, there.array)
        for each in (memory, back, there, stream):
            each.free()
            each.free()


def test_a_captured_graph_copies_anew_at_each_launch(cuda: CudaDevice) -> None:
    with cuda.current():
        stream = cuda.create_stream()
        there, back = cuda.allocate_host(SIZE), cuda.allocate_host(SIZE)
        memory = cuda.allocate(SIZE)
        events = [cuda.create_event(), cuda.create_event()]
        back.array[:] = 0

        def copy() -> None:
            stream.record(events[0])
            stream.copy_to_device(memory, there)
            stream.copy_to_host(back, memory)
            stream.record(events[1])

        graph = stream.capture(copy)
        stream.synchronize()
        assert not back.array.any()  # captured, not run
        for value in (7, 8, 9):
            there.array[:] = value
            graph.launch()
            stream.synchronize()
            assert (back.array == value).all()
            assert 0 < cuda.elapsed_ms(*events) < 1000
        for each in (graph, *events, memory, back, there, stream):
            each.free()


def test_work_that_fails_while_it_is_captured_leaves_the_stream_usable(cuda: CudaDevice) -> None:
    with cuda.current():
        stream = cuda.create_stream()
        there, memory = cuda.allocate_host(SIZE), cuda.allocate(SIZE)

        def fail() -> None:
            stream.copy_to_device(memory, there)
            raise EngineError("on purpose")

        with pytest.raises(EngineError, match="on purpose"):
            stream.capture(fail)
        stream.copy_to_device(memory, there)
        stream.synchronize()
        for each in (memory, there, stream):
            each.free()


def test_mapped_memory_has_an_address_on_the_gpu(cuda: CudaDevice) -> None:
    if not cuda.properties.maps_host_memory:
        pytest.skip("this GPU does not map memory of the host")
    with cuda.current():
        memory = cuda.allocate_host(SIZE, mapped=True)
        assert memory.device_address
        memory.array[:] = 3
        memory.free()


def test_other_threads_may_use_and_free_what_one_made(cuda: CudaDevice) -> None:
    with cuda.current():
        stream, memory = cuda.create_stream(), cuda.allocate(SIZE)
        there, back = cuda.allocate_host(SIZE), cuda.allocate_host(SIZE)
    there.array[:] = 5
    faults: list[BaseException] = []

    def work() -> None:
        try:
            with cuda.current():
                stream.copy_to_device(memory, there)
                stream.copy_to_host(back, memory)
                stream.synchronize()
                assert (back.array == 5).all()
                for each in (memory, back, there, stream):
                    each.free()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            faults.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert faults == []


def test_memory_that_is_not_there_is_an_error(cuda: CudaDevice) -> None:
    with cuda.current(), pytest.raises(EngineError, match="CUDA failed"):
        cuda.allocate(1 << 50)


def test_torch_and_the_adapter_share_the_primary_context(cuda: CudaDevice) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    before = torch.ones(1000, device="cuda")
    with cuda.current():
        memory = cuda.allocate(SIZE)
        assert float((before * 2).sum()) == 2000
        memory.free()
    assert float(torch.ones(10, device="cuda").sum() + before.sum()) == 1010
