"""Keys of plans, and building, certifying and loading them, on the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.device_info import DeviceInfo, GpuInfo, describe_device
from ssn_edge_runtime.engines import choose_engine, kinds, tensorrt_cache, tensorrt_plans
from ssn_edge_runtime.engines.base import ModelToRun
from ssn_edge_runtime.engines.cache import EngineCache
from ssn_edge_runtime.engines.tensorrt_build import BuildOptions
from ssn_edge_runtime.engines.tensorrt_cache import EngineBuild, build_engine
from ssn_edge_runtime.engines.tensorrt_library import TensorRt
from ssn_edge_runtime.engines.tensorrt_plans import choose_tensorrt, tensorrt_key
from ssn_edge_runtime.errors import CertificateError, ConfigError, EngineError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package
from tests.runtime.stand_in_gpu import MAGIC, StandInDevice, stand_in_tensorrt

GPU = GpuInfo(
    name="Orin",
    driver_version="540.4.0",
    cuda_version="12.6",
    compute_capability="8.7",
    sm_count=8,
)
MODEL = ModelToRun(b"onnx", "a" * 64, "int8", (48, 64))


@pytest.fixture
def orin() -> DeviceInfo:
    return replace(describe_device(), gpu=GPU, l4t_line="R36 (release), REVISION: 4.3")


@pytest.fixture
def device() -> StandInDevice:
    return StandInDevice()


@pytest.fixture
def library(device: StandInDevice, orin: DeviceInfo, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    """The stand-in in the place of what this machine has not."""
    stand_in = stand_in_tensorrt(device)
    for module in (tensorrt_cache, tensorrt_plans):
        monkeypatch.setattr(module, "import_tensorrt", lambda engine: stand_in)
    monkeypatch.setattr(
        "ssn_edge_runtime.engines.tensorrt_library.import_tensorrt", lambda engine: stand_in
    )
    monkeypatch.setattr(tensorrt_cache, "open_cuda_device", lambda: device)
    monkeypatch.setattr("ssn_edge_runtime.engines.tensorrt.open_cuda_device", lambda: device)
    monkeypatch.setattr(tensorrt_cache, "describe_device", lambda: orin)
    monkeypatch.setattr(kinds, "_device", lambda: orin)
    return stand_in


@pytest.fixture
def two_precisions(
    package_contents: tuple[Manifest, Mapping[str, bytes]],
    tiny_model: Callable[..., onnx.ModelProto],
    tmp_path: Path,
) -> Iterator[Package]:
    """A package of fp32 and fp16, which here differ by a name alone."""
    manifest, entries = package_contents
    models = {}
    for name in ("fp32", "fp16"):
        model = tiny_model(batch="B")
        model.graph.name = f"model of {name}"
        models[f"models/{name}.onnx"] = model.SerializeToString()
    half = replace(
        manifest.precisions["fp32"],
        model="models/fp16.onnx",
        certificate="certificates/fp16.json",
    )
    golden = tuple(
        replace(each, expected={**each.expected, "fp16": each.expected["fp32"]})
        for each in manifest.golden
    )
    path = tmp_path / "two.ssn"
    write_package(
        path,
        replace(manifest, precisions={**manifest.precisions, "fp16": half}, golden=golden),
        {**entries, **models, "certificates/fp16.json": b"{}"},
    )
    with Package.open(path) as package:
        yield package


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def build(package: Package, cache: EngineCache, **options: object) -> EngineBuild:
    return build_engine(package, engine="tensorrt", cache=cache, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "model"),
    [
        ({"engine": "tensorrt-rtx"}, {}),
        ({"version": "10.16.2.10"}, {}),
        ({"recipe": 99}, {}),
        ({}, {"sha256": "b" * 64}),
        ({}, {"precision": "fp16"}),
        ({}, {"input_size_hw": (64, 48)}),
        ({}, {"batch_size": 2}),
    ],
)
def test_each_part_of_the_build_is_in_the_key(
    orin: DeviceInfo, changed: dict[str, object], model: dict[str, object]
) -> None:
    arguments = {"engine": "tensorrt", "version": "10.3.0.30", "recipe": 1, **changed}

    def key(engine: str, version: str, recipe: int) -> str:
        made = replace(MODEL, **model)  # type: ignore[arg-type]
        return tensorrt_key(engine, version, made, orin, recipe=recipe).sha256

    plain = tensorrt_key("tensorrt", "10.3.0.30", MODEL, orin, recipe=1).sha256
    assert key(**arguments) != plain  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Orin Nano"},
        {"compute_capability": "8.9"},
        {"sm_count": 16},
        {"driver_version": "570.1"},
        {"cuda_version": "13.0"},
    ],
)
def test_each_property_of_the_gpu_is_in_the_key(
    orin: DeviceInfo, change: dict[str, object]
) -> None:
    other = replace(orin, gpu=replace(GPU, **change))  # type: ignore[arg-type]
    assert tensorrt_key("tensorrt", "1", MODEL, orin) != tensorrt_key("tensorrt", "1", MODEL, other)


@pytest.mark.parametrize("change", [{"l4t_line": "R36, REVISION: 5.0"}, {"machine": "aarch65"}])
def test_the_system_is_in_the_key(orin: DeviceInfo, change: dict[str, str]) -> None:
    other = replace(orin, **change)  # type: ignore[arg-type]
    assert tensorrt_key("tensorrt", "1", MODEL, orin) != tensorrt_key("tensorrt", "1", MODEL, other)


def test_a_device_without_a_gpu_says_so(orin: DeviceInfo) -> None:
    with pytest.raises(EngineError, match="no NVIDIA GPU was found; nvidia-smi must show one"):
        choose_tensorrt("auto", replace(orin, gpu=None))


def test_an_engine_without_a_plan_is_not_built(orin: DeviceInfo) -> None:
    with pytest.raises(ConfigError, match="choose auto, tensorrt or tensorrt-rtx"):
        choose_tensorrt("openvino", orin)


def test_the_best_precision_is_built_certified_and_then_chosen(
    library: TensorRt, two_precisions: Package, cache: EngineCache, device: StandInDevice
) -> None:
    messages: list[str] = []
    built = build(two_precisions, cache, on_message=messages.append)
    assert (built.precision, built.was_built, built.fallen_from) == ("fp16", True, {})
    assert built.certificate.pictures == 3
    assert built.layers == "1 of 1 convolutions and matrix products in INT8"
    assert built.details["layers"] == {"count": 1, "multiplying": {"int8": 1}, "int8": ["all"]}
    assert any("building fp16" in each for each in messages)
    assert device.alive == []
    choice = choose_engine(two_precisions, engine="tensorrt", cache=cache)
    assert choice.precision == "fp16"
    with choice.open() as engine:
        assert engine.name == "tensorrt"
    assert device.alive == []


def test_a_plan_that_is_there_is_tested_and_not_built_again(
    library: TensorRt, two_precisions: Package, cache: EngineCache
) -> None:
    first = build(two_precisions, cache)
    second = build(two_precisions, cache)
    assert (first.was_built, second.was_built) == (True, False)
    assert len(library.module.built) == 1
    assert second.certificate.engine_sha256 == first.certificate.engine_sha256
    assert build(two_precisions, cache, force=True).was_built
    assert build(two_precisions, cache, options=BuildOptions(2**29, 3)).was_built
    assert len(library.module.built) == 3


def test_a_damaged_plan_is_built_again(
    library: TensorRt, two_precisions: Package, cache: EngineCache
) -> None:
    built = build(two_precisions, cache)
    (plan,) = built.folder.glob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    assert build(two_precisions, cache).was_built


def test_a_whole_plan_that_the_library_no_longer_takes_is_built_again(
    library: TensorRt, two_precisions: Package, cache: EngineCache
) -> None:
    build(two_precisions, cache)
    choice = choose_engine(two_precisions, engine="tensorrt", cache=cache)
    details = (choice.slot.read_note() or {})["details"]
    assert isinstance(details, dict)
    choice.slot.write_plan(b"of a library before", details)
    with pytest.raises(EngineError, match="cannot load the plan"):
        choice.open()
    messages: list[str] = []
    assert build(two_precisions, cache, on_message=messages.append).was_built
    assert any("built again" in each for each in messages)


def test_a_plan_of_another_model_is_found_out_by_the_golden_pictures(
    library: TensorRt,
    two_precisions: Package,
    cache: EngineCache,
    tiny_model: Callable[..., onnx.ModelProto],
) -> None:
    build(two_precisions, cache)
    choice = choose_engine(two_precisions, engine="tensorrt", cache=cache)
    details = (choice.slot.read_note() or {})["details"]
    assert isinstance(details, dict)
    other = tiny_model(batch="B", gain=1 / 8).SerializeToString()
    choice.slot.write_plan(MAGIC + other, details)
    with pytest.raises(EngineError, match="may not decide"):
        choice.open()
    again = build(two_precisions, cache)
    assert again.was_built
    assert again.certificate.score_difference < 1e-3


def test_a_precision_that_cannot_be_built_is_fallen_from_and_said(
    library: TensorRt,
    device: StandInDevice,
    two_precisions: Package,
    cache: EngineCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = stand_in_tensorrt(device, refuses=b"model of fp16")
    for module in (tensorrt_cache, tensorrt_plans):
        monkeypatch.setattr(module, "import_tensorrt", lambda engine: refusing)
    messages: list[str] = []
    built = build(two_precisions, cache, on_message=messages.append)
    assert built.precision == "fp32"
    assert "cannot build the model" in built.fallen_from["fp16"]
    assert any("fp16 is not used" in each for each in messages)
    with pytest.raises(EngineError, match="cannot build the model"):
        build(two_precisions, cache, precision="fp16")


def test_an_engine_that_decides_otherwise_is_not_certified(
    library: TensorRt,
    two_precisions: Package,
    cache: EngineCache,
    tiny_model: Callable[..., onnx.ModelProto],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = MAGIC + tiny_model(batch="B", gain=1 / 8).SerializeToString()
    take = library.module.Builder

    def builder(logger: object) -> object:
        made = take(logger)
        made.build_serialized_network = lambda network, config: other
        return made

    library.module.Builder = builder
    with pytest.raises(CertificateError, match="does not give what tiny"):
        build(two_precisions, cache)
    with pytest.raises(EngineError, match="was not built on this device"):
        choose_engine(two_precisions, engine="tensorrt", cache=cache)


def test_a_full_gpu_is_refused_before_the_build(
    library: TensorRt, two_precisions: Package, cache: EngineCache, device: StandInDevice
) -> None:
    device.free_bytes = 2**20
    with pytest.raises(EngineError, match=r"the GPU has 1 MB free.*smaller --workspace"):
        build(two_precisions, cache)
    assert library.module.built == []


def test_a_precision_that_is_not_in_the_package_is_refused(
    library: TensorRt, two_precisions: Package, cache: EngineCache
) -> None:
    with pytest.raises(ConfigError, match="'int8' is not in the package"):
        build(two_precisions, cache, precision="int8")


def test_a_gpu_whose_engine_was_not_built_is_not_passed_over(
    library: TensorRt, two_precisions: Package, cache: EngineCache
) -> None:
    with pytest.raises(EngineError, match=r"ssn-edge build two\.ssn --engine tensorrt"):
        choose_engine(two_precisions, cache=cache)
