"""Which engine runs, in which precision, and that only one with a certificate decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime.device_certificate import certify
from ssn_edge_runtime.engines import (
    ENGINES,
    Engine,
    EngineCache,
    EngineKind,
    ModelToRun,
    choose_engine,
    choose_precision,
    kinds,
    open_engine,
)
from ssn_edge_runtime.engines.cache import EngineKey, EngineSlot
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.engines.openvino import missing
from ssn_edge_runtime.errors import CertificateError, ConfigError, EngineError
from ssn_edge_runtime.inspector import Inspector
from ssn_edge_runtime.manifest import INT8_ONNXRUNTIME, Manifest
from ssn_edge_runtime.package import Package

SIZE_HW = (48, 64)

needs_openvino = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def two_precisions(
    package_contents: tuple[Manifest, Mapping[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The tiny package with an `int8` model that is the `fp32` one under another name."""
    manifest, entries = package_contents
    fp32 = manifest.precisions["fp32"]
    int8 = replace(fp32, model="models/int8.onnx", certificate="certificates/int8.json")
    path = tmp_path_factory.mktemp("two") / "part.ssn"
    write_package(
        path,
        replace(
            manifest,
            precisions={"fp32": fp32, "int8": int8},
            golden=tuple(
                replace(
                    each, expected={"fp32": each.expected["fp32"], "int8": each.expected["fp32"]}
                )
                for each in manifest.golden
            ),
        ),
        {**entries, int8.model: entries[fp32.model], int8.certificate: b"{}"},
    )
    return path


@pytest.fixture
def package(two_precisions: Path) -> Iterator[Package]:
    with Package.open(two_precisions) as opened:
        yield opened


@pytest.fixture
def own_form(
    package_contents: tuple[Manifest, Mapping[str, bytes]], tmp_path: Path
) -> Iterator[Package]:
    """The tiny package with a model in ONNX Runtime's own form of INT8."""
    manifest, entries = package_contents
    fp32, name = manifest.precisions["fp32"], INT8_ONNXRUNTIME
    own = replace(fp32, model=f"models/{name}.onnx", certificate=f"certificates/{name}.json")
    golden = tuple(
        replace(each, expected={**each.expected, name: each.expected["fp32"]})
        for each in manifest.golden
    )
    path = tmp_path / "own.ssn"
    write_package(
        path,
        replace(manifest, precisions={"fp32": fp32, name: own}, golden=golden),
        {**entries, own.model: entries[fp32.model], own.certificate: b"{}"},
    )
    with Package.open(path) as opened:
        yield opened


def load_plan(model: ModelToRun, slot: EngineSlot) -> Engine:
    """As an engine with a plan does; what it computes is ONNX Runtime's."""
    plan = slot.read_plan()
    if plan is None:
        raise EngineError("there is no plan")
    return OnnxRuntimeEngine(plan, input_size_hw=model.input_size_hw, name="tensorrt")


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU with TensorRT, whose plans are ONNX files."""
    kind = EngineKind(
        kinds.GPU_PRECISIONS,
        missing=lambda: None,
        key=plan_key,
        load=load_plan,
        has_plan=True,
    )
    monkeypatch.setitem(ENGINES, "tensorrt", kind)


def plan_key(model: ModelToRun) -> EngineKey:
    return EngineKey({"engine": "tensorrt", "model": model.sha256, "precision": model.precision})


def certified(package: Package, engine: str, precision: str, cache: EngineCache) -> EngineSlot:
    """Certify an engine as `verify` does."""
    choice = choose_engine(
        package, engine=engine, precision=precision, cache=cache, certified=False
    )
    with choice.open() as opened:
        certificate = certify(package, opened, precision, key=choice.slot.key)
    choice.slot.write_certificate(package.package_id, certificate.to_dict())
    return choice.slot


def build(package: Package, precision: str, cache: EngineCache) -> EngineSlot:
    """Put a plan into the slot, without a certificate."""
    model = package.read(package.manifest.precisions[precision].model)
    sha256 = package.manifest.entries[package.manifest.precisions[precision].model].sha256
    slot = cache.slot(plan_key(ModelToRun(model, sha256, precision, SIZE_HW)))
    slot.write_plan(model, {})
    return slot


def test_auto_takes_what_needs_no_certificate_and_logs_why(
    package: Package, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ssn_edge_runtime")
    with open_engine(package, cache=cache) as engine:
        assert engine.name == "onnxruntime-cpu"
    assert (
        "engine onnxruntime-cpu (the best that may decide here), "
        "precision fp32 (the first that may of int8-onnxruntime, fp32, int8, int8-openvino, fp16), "
        f"package {package.package_id}"
    ) in caplog.messages
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@needs_openvino
def test_auto_says_which_better_engine_it_passed_over_and_what_mends_it(
    package: Package, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ssn_edge_runtime")
    open_engine(package, cache=cache).close()
    assert (
        "passed over: engine openvino (int8): it has no device certificate for this package; "
        "run ssn-edge verify part.ssn --engine openvino --precision int8"
    ) in caplog.messages


@needs_openvino
def test_auto_takes_the_better_engine_once_it_is_certified(
    package: Package, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    certified(package, "openvino", "fp32", cache)
    caplog.set_level(logging.INFO, logger="ssn_edge_runtime")
    choice = choose_engine(package, cache=cache)
    assert (choice.engine, choice.precision) == ("openvino", "fp32")
    choice.open().close()
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("falls back to fp32: engine openvino (int8): it has no device")
    certified(package, "openvino", "int8", cache)
    assert choose_engine(package, cache=cache).precision == "int8"


def test_integer_kernels_of_onnxruntime_decide_only_with_a_certificate(
    own_form: Package, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    choice = choose_engine(own_form, engine="onnxruntime-cpu", cache=cache)
    assert choice.precision == "fp32"
    choice.open().close()
    assert any(
        "falls back to fp32: engine onnxruntime-cpu (int8-onnxruntime): it has no device" in each
        for each in caplog.messages
    )
    with pytest.raises(EngineError, match="--engine onnxruntime-cpu --precision int8-onnxruntime"):
        choose_engine(own_form, precision=INT8_ONNXRUNTIME, cache=cache)
    certified(own_form, "onnxruntime-cpu", INT8_ONNXRUNTIME, cache)
    assert choose_engine(own_form, engine="onnxruntime-cpu", cache=cache).precision == (
        INT8_ONNXRUNTIME
    )


@needs_openvino
def test_the_form_of_onnxruntime_is_for_no_other_engine(
    own_form: Package, cache: EngineCache
) -> None:
    with pytest.raises(ConfigError, match="int8-onnxruntime is not for this engine, which runs"):
        choose_engine(own_form, engine="openvino", precision=INT8_ONNXRUNTIME, cache=cache)
    assert choose_engine(own_form, engine="openvino", cache=cache, certified=False).precision == (
        "fp32"
    )


@needs_openvino
def test_an_engine_by_name_without_a_certificate_is_refused(
    package: Package, two_precisions: Path, cache: EngineCache
) -> None:
    message = (
        r"engine openvino \(fp32\): it has no device certificate for this package; run ssn-edge "
        "verify part.ssn --engine openvino --precision fp32"
    )
    with pytest.raises(EngineError, match=message):
        open_engine(package, engine="openvino", precision="fp32", cache=cache)
    with pytest.raises(EngineError, match=message):
        Inspector.open(two_precisions, engine="openvino", precision="fp32", cache=cache)
    # Who measures or certifies opens it all the same.
    open_engine(package, engine="openvino", cache=cache, certified=False).close()
    certified(package, "openvino", "fp32", cache)
    with Inspector.open(
        two_precisions, engine="openvino", precision="fp32", cache=cache
    ) as inspector:
        assert inspector.engine_name == "openvino"
        assert inspector.precision == "fp32"


@pytest.mark.usefixtures("tensorrt")
def test_a_gpu_whose_engine_was_not_built_is_not_passed_over(
    package: Package, cache: EngineCache
) -> None:
    with pytest.raises(EngineError) as caught:
        open_engine(package, cache=cache)
    assert str(caught.value) == (
        "engine tensorrt (int8): it was not built on this device; run ssn-edge build part.ssn "
        f"--engine tensorrt --precision int8; or choose --engine {NEXT}"
    )
    assert caught.value.exit_code == 5
    with open_engine(package, engine="onnxruntime-cpu", cache=cache) as engine:
        assert engine.name == "onnxruntime-cpu"


NEXT = "onnxruntime-cpu" if missing() else "openvino"


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_decides_with_its_certificate_and_not_without(
    package: Package, cache: EngineCache
) -> None:
    slot = build(package, "int8", cache)
    with pytest.raises(EngineError, match="no device certificate"):
        open_engine(package, cache=cache)
    certified(package, "tensorrt", "int8", cache)
    with open_engine(package, cache=cache) as engine:
        assert engine.name == "tensorrt"
    slot.remove_certificate(package.package_id)
    with pytest.raises(EngineError, match="no device certificate"):
        open_engine(package, cache=cache)


@pytest.mark.usefixtures("tensorrt")
def test_a_built_precision_stands_in_for_one_that_was_not_and_says_so(
    package: Package, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    build(package, "fp32", cache)
    certified(package, "tensorrt", "fp32", cache)
    with caplog.at_level(logging.WARNING), open_engine(package, cache=cache) as engine:
        assert engine.name == "tensorrt"
    assert "falls back to fp32: engine tensorrt (int8): it was not built on this device" in (
        caplog.text
    )
    with pytest.raises(EngineError, match="not built"):
        open_engine(package, precision="int8", cache=cache)


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_that_was_built_again_needs_a_new_certificate(
    package: Package,
    cache: EngineCache,
    tiny_model: Callable[..., onnx.ModelProto],
) -> None:
    slot = build(package, "int8", cache)
    certified(package, "tensorrt", "int8", cache)
    slot.write_plan(tiny_model(batch="B").SerializeToString(), {})
    with pytest.raises(EngineError, match="for an engine that was built before this one") as caught:
        open_engine(package, engine="tensorrt", precision="int8", cache=cache)
    assert "ssn-edge build part.ssn --engine tensorrt --precision int8" in str(caught.value)


@pytest.mark.usefixtures("tensorrt")
def test_a_damaged_plan_does_not_run(package: Package, cache: EngineCache) -> None:
    slot = build(package, "int8", cache)
    certified(package, "tensorrt", "int8", cache)
    (plan,) = slot.folder.glob("*.plan")
    plan.write_bytes(b"\0" + plan.read_bytes()[1:])
    with pytest.raises(EngineError):
        open_engine(package, engine="tensorrt", precision="int8", cache=cache)
    with pytest.raises(EngineError, match="not built"):
        open_engine(package, cache=cache)


@needs_openvino
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"package_id": "0" * 64}, "is for another package"),
        ({"model_sha256": "0" * 64}, "is for another model"),
        ({"precision": "fp32"}, "is for another precision"),
        ({"engine": "tensorrt"}, "is for another engine"),
        ({"key_sha256": "0" * 64}, "is for another device, driver or library version"),
        ({"engine_sha256": "0" * 64}, "for an engine that was built before this one"),
        ({"schema": 2}, "of another version"),
        ({"pictures": 0}, "shows no engine that passed"),
        ({"mask_share": 0.5}, "shows no engine that passed"),
        ({"pictures": "3"}, "damaged or of another version"),
        ({"pictures": True}, "damaged or of another version"),
        ({"score_difference": None}, "damaged or of another version"),
        ({"unknown": 1}, "damaged or of another version"),
    ],
)
def test_a_certificate_of_something_else_does_not_count(
    changes: dict[str, object], message: str, package: Package, cache: EngineCache
) -> None:
    slot = certified(package, "openvino", "int8", cache)
    document = slot.read_certificate(package.package_id)
    assert document is not None
    slot.write_certificate(package.package_id, {**document, **changes})
    with pytest.raises(EngineError, match=message):
        open_engine(package, engine="openvino", precision="int8", cache=cache)


@needs_openvino
def test_a_certificate_of_another_library_version_does_not_count(
    package: Package, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified(package, "openvino", "int8", cache)
    monkeypatch.setattr(kinds, "_version", lambda distribution: "2031.1")
    with pytest.raises(EngineError, match="no device certificate"):
        open_engine(package, engine="openvino", precision="int8", cache=cache)


@needs_openvino
def test_a_torn_certificate_counts_as_none(package: Package, cache: EngineCache) -> None:
    slot = certified(package, "openvino", "int8", cache)
    (path,) = slot.folder.glob("certificates/*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EngineError, match="no device certificate"):
        open_engine(package, engine="openvino", precision="int8", cache=cache)


def test_an_engine_that_decides_differently_gets_no_certificate(
    package: Package, tiny_model: Callable[..., onnx.ModelProto]
) -> None:
    other = tiny_model(gain=1 / 15).SerializeToString()
    with (
        OnnxRuntimeEngine(other, input_size_hw=SIZE_HW) as engine,
        pytest.raises(CertificateError, match="does not give what tiny") as caught,
    ):
        certify(package, engine, "fp32", key=EngineKey({}))
    assert caught.value.exit_code == 4


def test_an_engine_that_gives_nan_gets_no_certificate(package: Package) -> None:
    with (
        FakeEngine((float("nan"),), input_size_hw=SIZE_HW) as engine,
        pytest.raises(CertificateError),
    ):
        certify(package, engine, "fp32", key=EngineKey({}))


def test_every_place_of_a_batch_is_tested(package: Package) -> None:
    right = OnnxRuntimeEngine(package.read("models/fp32.onnx"), input_size_hw=SIZE_HW)

    class SecondPlaceWrong(FakeEngine):
        """Right in the first place of its batch alone."""

        def infer_batch(self, pixels, **options):  # type: ignore[no-untyped-def]
            good = right.infer(pixels[0], **options)
            return good, replace(good, classification_logit=good.classification_logit + 1)

    with (
        right,
        SecondPlaceWrong(input_size_hw=SIZE_HW, batch_size=2) as engine,
        pytest.raises(CertificateError, match="has classification logit"),
    ):
        certify(package, engine, "fp32", key=EngineKey({}))


def test_what_is_not_known_or_not_in_the_package_is_refused(
    package_path: Path, cache: EngineCache
) -> None:
    with Package.open(package_path) as package:
        with pytest.raises(ConfigError, match="'tensor' is not known; choose one of auto, tensorr"):
            open_engine(package, engine="tensor", cache=cache)
        with pytest.raises(ConfigError, match="'fp16' is not in the package tiny, which holds fp3"):
            open_engine(package, precision="fp16", cache=cache)
        with pytest.raises(ConfigError, match="'fp16' is not in the package"):
            open_engine(package, engine="onnxruntime-cpu", precision="fp16", cache=cache)


def test_an_engine_that_is_not_here_says_what_is_missing(
    package: Package, cache: EngineCache
) -> None:
    missing_cuda = ENGINES["onnxruntime-cuda"].missing()
    if missing_cuda is None:
        pytest.skip("this machine has a GPU and onnxruntime-gpu")
    with pytest.raises(EngineError, match="engine onnxruntime-cuda cannot run here") as caught:
        open_engine(package, engine="onnxruntime-cuda", cache=cache)
    assert str(caught.value).endswith(missing_cuda)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("held", "chosen"),
    [(("fp16", "fp32", "int8"), "fp32"), (("fp16", "int8"), "int8"), (("fp16",), "fp16")],
)
def test_auto_takes_the_best_precision_for_a_cpu(
    held: tuple[str, ...], chosen: str, manifest: Manifest
) -> None:
    entry = manifest.precisions["fp32"]
    several = replace(manifest, precisions=dict.fromkeys(held, entry))
    assert choose_precision(several) == chosen
