"""Builds with TensorRT-RTX's real parser and builder, which need no GPU."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from ssn_edge_runtime.engines.tensorrt import TensorRtEngine
from ssn_edge_runtime.engines.tensorrt_build import BuildOptions, plan_from_onnx
from ssn_edge_runtime.engines.tensorrt_library import TENSORRT_RTX, TensorRt, import_tensorrt
from ssn_edge_runtime.engines.tensorrt_progress import STEPS, BuildProgress, run_cancellable
from ssn_edge_runtime.errors import ConfigError, EngineError
from tests.runtime.stand_in_gpu import StandInDevice, stand_in_tensorrt

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)


@pytest.fixture
def rtx() -> TensorRt:
    return import_tensorrt(TENSORRT_RTX)


@needs_rtx
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_free_batch_is_fixed_and_built(
    rtx: TensorRt, tiny_model: Callable[..., onnx.ModelProto], batch_size: int
) -> None:
    seen: list[tuple[str, int, int]] = []
    built = plan_from_onnx(
        rtx,
        tiny_model(batch="B").SerializeToString(),
        batch_size=batch_size,
        options=BuildOptions(workspace_bytes=64 * 2**20, optimisation_level=0),
        on_progress=lambda *step: seen.append(step),
    )
    assert len(built.plan) > 1000
    assert built.network_layers >= 10  # a node each at least
    assert built.library == f"tensorrt-rtx {rtx.version}"
    assert seen[-1] == ("done", STEPS, STEPS)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@needs_rtx
def test_a_model_of_one_frame_is_not_built_for_more(
    rtx: TensorRt, tiny_model: Callable[..., onnx.ModelProto]
) -> None:
    with pytest.raises(EngineError, match="one frame at a time, 2 were asked for"):
        plan_from_onnx(rtx, tiny_model().SerializeToString(), batch_size=2)


@needs_rtx
def test_a_refusal_names_the_node_and_its_operator(
    rtx: TensorRt, tiny_model: Callable[..., onnx.ModelProto]
) -> None:
    model = tiny_model()
    model.graph.node[2].op_type = "BitShift"
    model.graph.node[2].name = "shifted"
    with pytest.raises(EngineError, match=r"refuses the model: node shifted \(BitShift\)"):
        plan_from_onnx(rtx, model.SerializeToString())


@needs_rtx
def test_what_is_not_onnx_is_refused(rtx: TensorRt) -> None:
    with pytest.raises(EngineError, match="refuses the model"):
        plan_from_onnx(rtx, b"not a model")


@needs_rtx
def test_an_interrupted_build_stops_and_leaves_no_thread(
    rtx: TensorRt, tiny_model: Callable[..., onnx.ModelProto]
) -> None:
    def interrupt(phase: str, done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_from_onnx(rtx, tiny_model().SerializeToString(), on_progress=interrupt)
    assert not [each for each in threading.enumerate() if each.name == "engine-build"]


@needs_rtx
def test_without_a_gpu_a_plan_cannot_be_loaded_and_the_error_says_why(
    rtx: TensorRt, tiny_model: Callable[..., onnx.ModelProto]
) -> None:
    if Path("/dev/nvidiactl").exists() or Path("/dev/nvhost-gpu").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    plan = plan_from_onnx(rtx, tiny_model().SerializeToString()).plan
    device = StandInDevice()
    with pytest.raises(EngineError, match=r"cannot load the plan|cannot start.*nvidia-smi"):
        TensorRtEngine(rtx, plan, input_size_hw=(48, 64), device=device)
    assert device.alive == []


def test_progress_adds_up_phases_within_phases() -> None:
    progress = BuildProgress()
    progress.start("all", None, 4)
    assert progress.now() == ("all", 0)
    assert progress.step("all", 0)
    progress.start("kernels", "all", 10)
    for step in range(5):
        progress.step("kernels", step)
    assert progress.now() == ("kernels", STEPS * 3 // 8)
    progress.finish("kernels")
    assert progress.now() == ("all", STEPS * 3 // 8)  # it never falls
    progress.step("all", 3)
    assert progress.now() == ("all", STEPS)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler: what a shell starts in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_build_at_its_next_step() -> None:
    progress = BuildProgress()
    steps: list[int] = []

    def build() -> bytes:
        while progress.step("build", len(steps)) and len(steps) < 6000:  # a minute
            steps.append(len(steps))
            time.sleep(0.01)
        raise EngineError("the builder was stopped")

    sent: list[bool] = []

    def interrupt_once(phase: str, done: int, count: int) -> None:
        if len(steps) > 2 and not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_cancellable(build, progress, interrupt_once)
    assert not progress.step("build", 0)


def test_the_error_of_a_build_is_raised_where_it_was_asked_for() -> None:
    def build() -> bytes:
        raise EngineError("no kernel")

    with pytest.raises(EngineError, match="no kernel"):
        run_cancellable(build, BuildProgress(), lambda phase, done, count: None)


@pytest.mark.parametrize(("workspace_bytes", "level"), [(1000, 3), (2**30, 6), (2**30, -1)])
def test_impossible_options_are_refused(workspace_bytes: int, level: int) -> None:
    with pytest.raises(ConfigError, match="use 1 MiB or more, and 0 to 5"):
        BuildOptions(workspace_bytes, level)


def test_measured_kernels_are_kept_and_a_damaged_file_is_measured_again(
    tmp_path: Path,
    tiny_model: Callable[..., onnx.ModelProto],
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = stand_in_tensorrt(StandInDevice())
    taken: list[bytes] = []
    make = library.module.Builder

    def builder(logger: object) -> object:
        made = make(logger)
        config = made.create_builder_config()

        def create(content: bytes) -> object:
            taken.append(content)
            return SimpleNamespace(serialize=lambda: b"measured")

        config.create_timing_cache = create
        made.create_builder_config = lambda: config
        return made

    library.module.Builder = builder
    model, path = tiny_model(batch="B").SerializeToString(), tmp_path / "timing" / "a.cache"
    for _ in range(2):
        plan_from_onnx(library, model, timing_cache=path)
    assert taken == [b"", b"measured"]
    assert path.read_bytes() == hashlib.sha256(b"measured").digest() + b"measured"
    path.write_bytes(path.read_bytes()[:-1])
    plan_from_onnx(library, model, timing_cache=path)
    assert taken[-1] == b""
    assert "is damaged; kernels are measured again" in caplog.text
