"""Models in OpenVINO: the same as in ONNX Runtime, in FP32 unless something else is asked for."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.openvino import OpenVinoEngine, missing
from ssn_edge_runtime.errors import EngineError

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SIZE_HW = (48, 64)

Build = Callable[..., onnx.ModelProto]


def opened(model: onnx.ModelProto, batch_size: int = 1) -> OpenVinoEngine:
    return OpenVinoEngine(
        model.SerializeToString(), input_size_hw=SIZE_HW, batch_size=batch_size, threads=1
    )


def frames(count: int, seed: int = 0) -> ByteImage:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *SIZE_HW, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, "B"])
def test_it_gives_what_onnx_runtime_gives(batch: int | str, tiny_model: Build) -> None:
    model = tiny_model(batch=batch)
    region = np.zeros(SIZE_HW, dtype=np.bool_)
    region[3:40, 5:60] = True
    with (
        opened(model) as engine,
        OnnxRuntimeEngine(model.SerializeToString(), input_size_hw=SIZE_HW) as reference,
    ):
        typed: Engine = engine
        assert (typed.name, typed.batch_size) == ("openvino", 1)
        assert typed.identity == reference.identity
        for pixels in frames(3):
            for mask in (None, region):
                found = typed.infer(pixels, pixel_threshold=3.0, region_mask=mask)
                wanted = reference.infer(pixels, pixel_threshold=3.0, region_mask=mask)
                assert found.classification_logit == pytest.approx(
                    wanted.classification_logit, abs=1e-6
                )
                assert found.map_max_logit == pytest.approx(wanted.map_max_logit, abs=1e-6)
                np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map, atol=1e-6)
                np.testing.assert_array_equal(found.defect_mask, wanted.defect_mask)
                assert found.anomaly_map.dtype == np.float32
                assert found.defect_mask.dtype == np.uint8


@pytest.mark.parametrize("make", [OpenVinoEngine, OnnxRuntimeEngine])
def test_a_batch_is_its_frames_one_by_one(make: Callable[..., Engine], tiny_model: Build) -> None:
    data = tiny_model(batch="B").SerializeToString()
    several = frames(3)
    with (
        make(data, input_size_hw=SIZE_HW, batch_size=3) as engine,
        make(data, input_size_hw=SIZE_HW) as single,
    ):
        assert engine.batch_size == 3
        together = engine.infer_batch(several, pixel_threshold=1.0)
        for found, pixels in zip(together, several, strict=True):
            wanted = single.infer(pixels, pixel_threshold=1.0)
            assert found.map_max_logit == wanted.map_max_logit
            np.testing.assert_allclose(found.anomaly_map, wanted.anomaly_map, atol=1e-6)
            np.testing.assert_array_equal(found.defect_mask, wanted.defect_mask)
        with pytest.raises(EngineError, match=r"loaded for 3 frames at once, 2 were given"):
            engine.infer_batch(several[:2], pixel_threshold=1.0)
        with pytest.raises(EngineError, match=r"loaded for 3 frames at once, 1 were given"):
            engine.infer(several[0], pixel_threshold=1.0)


@pytest.mark.parametrize("make", [OpenVinoEngine, OnnxRuntimeEngine])
def test_a_model_of_one_frame_takes_no_batch(
    make: Callable[..., Engine], tiny_model: Build
) -> None:
    data = tiny_model(batch=1).SerializeToString()
    with pytest.raises(EngineError, match=r"uint8 \(B, 48, 64, 3\) with B free or 4 is needed"):
        make(data, input_size_hw=SIZE_HW, batch_size=4)


def test_the_inputs_are_left_as_they_were_and_may_be_read_only(tiny_model: Build) -> None:
    pixels = frames(1)[0]
    before = pixels.copy()
    pixels.flags.writeable = False
    with opened(tiny_model()) as engine:
        engine.infer(pixels, pixel_threshold=0.0)
    np.testing.assert_array_equal(pixels, before)


def test_the_arrays_outlive_the_next_call_and_the_engine(tiny_model: Build) -> None:
    with opened(tiny_model()) as engine:
        first = engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)
        engine.infer(np.full((*SIZE_HW, 3), 255, np.uint8), pixel_threshold=0.0)
    assert (first.anomaly_map == -8).all()
    assert not first.defect_mask.any()


def test_floats_are_computed_in_fp32_though_the_processor_may_know_bf16(
    conv_model: bytes,
) -> None:
    with OpenVinoEngine(conv_model, input_size_hw=SIZE_HW) as engine:
        assert set(engine.executed_types()) == {"f32"}


@pytest.mark.parametrize(
    "data", [b"", b"no model", b"\x08\x07", b"\x12\x0f\x00\x00ORTM" + bytes(9)]
)
def test_what_is_no_model_is_an_engine_error_of_one_line(data: bytes) -> None:
    with pytest.raises(EngineError, match="cannot load the model") as caught:
        OpenVinoEngine(data, input_size_hw=SIZE_HW)
    assert "\n" not in str(caught.value)


def test_a_failure_inside_is_an_engine_error(tiny_model: Build) -> None:
    with opened(tiny_model()) as engine:
        with pytest.raises(EngineError, match="openvino failed") as caught:
            engine.infer(np.zeros((3, 3, 3), np.uint8), pixel_threshold=0.0)
        assert "\n" not in str(caught.value)
        engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)


def test_a_closed_engine_does_not_run(tiny_model: Build) -> None:
    engine = opened(tiny_model())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)
    with pytest.raises(EngineError, match="is closed"):
        engine.executed_types()


@pytest.mark.parametrize("make", [OpenVinoEngine, OnnxRuntimeEngine])
def test_several_engines_in_threads_that_did_not_make_them(
    make: Callable[..., Engine], tiny_model: Build
) -> None:
    data = tiny_model(gain=1 / 8).SerializeToString()
    pictures = frames(8)
    with make(data, input_size_hw=SIZE_HW, threads=1) as reference:
        wanted = [reference.infer(each, pixel_threshold=1.0).map_max_logit for each in pictures]
    engines = [make(data, input_size_hw=SIZE_HW, threads=1) for _ in range(3)]
    found: dict[int, list[float]] = {}

    def judge(index: int) -> None:
        found[index] = [
            engines[index].infer(each, pixel_threshold=1.0).map_max_logit
            for each in pictures
            for _ in range(5)
        ]

    threads = [threading.Thread(target=judge, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for engine in engines:
        engine.close()
    assert list(found.values()) == [[each for each in wanted for _ in range(5)]] * 3


@pytest.mark.parametrize("make", [OpenVinoEngine, OnnxRuntimeEngine])
def test_closing_while_another_thread_infers_ends_in_an_error_not_in_a_crash(
    make: Callable[..., Engine], conv_model: bytes
) -> None:
    pixels = frames(1)[0]
    for _ in range(5):
        engine = make(conv_model, input_size_hw=SIZE_HW, threads=1)
        wanted = engine.infer(pixels, pixel_threshold=0.0).map_max_logit
        started = threading.Event()
        outcomes: list[float | str] = []

        def judge(
            engine: Engine = engine,
            started: threading.Event = started,
            outcomes: list[float | str] = outcomes,
        ) -> None:
            while True:
                try:
                    outcomes.append(engine.infer(pixels, pixel_threshold=0.0).map_max_logit)
                except EngineError as error:
                    outcomes.append(str(error))
                    return
                started.set()

        thread = threading.Thread(target=judge)
        thread.start()
        assert started.wait(timeout=60)
        engine.close()
        thread.join(timeout=60)
        assert not thread.is_alive()
        *before, last = outcomes
        assert set(before) == {wanted}
        assert "is closed" in str(last)


def test_openvino_not_installed_says_how_to_install_it(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(EngineError) as caught:
        opened(tiny_model())
    assert str(caught.value) == "openvino is not installed; pip install 'ssn-edge[openvino]'"


def test_an_installation_that_cannot_be_imported_is_an_engine_error(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"installed but cannot be imported .*openvino\]' again"):
        opened(tiny_model())


def test_it_says_nothing_on_standard_output_or_error(
    tiny_model: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened(tiny_model(batch="B")) as engine:
        engine.infer(np.zeros((*SIZE_HW, 3), np.uint8), pixel_threshold=0.0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ["OpenVinoEngine", "OnnxRuntimeEngine"])
def test_nothing_is_told_to_anyone_and_nothing_is_left_behind(
    engine: str, tiny_model: Build, tmp_path: Path
) -> None:
    """ONNX Runtime's telemetry would write into the home folder when it is imported."""
    model = tmp_path / "model.onnx"
    model.write_bytes(tiny_model().SerializeToString())
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('the network was asked for')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        f"from ssn_edge_runtime.engines.{engine[:-6].lower()} import {engine}\n"
        "import numpy as np\n"
        f"with {engine}(open(sys.argv[1], 'rb').read(), input_size_hw=(48, 64)) as engine:\n"
        "    engine.infer(np.zeros((48, 64, 3), np.uint8), pixel_threshold=0.0)\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
    # CI turns telemetry off by itself, and so does what other tests in this process have set.
    for name in ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "TF_BUILD"):
        environment.pop(name, None)
    subprocess.run(
        [sys.executable, "-c", code, str(model)],
        env={**environment, "HOME": str(home)},
        check=True,
        timeout=60,
    )
    assert list(home.rglob("*")) == []
