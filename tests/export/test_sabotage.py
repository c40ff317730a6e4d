"""Exports spoilt on purpose, each after what the export itself checks: the gate refuses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from ssn_edge_calibrate.int8_model import int8_from_fp32
from ssn_edge_calibrate.int8_sensitivity import Int8Search
from ssn_edge_export import GateLimits, GateReport, admission, gate, precision_models
from ssn_edge_export.half_precision import fp16_from_fp32
from ssn_edge_runtime.engines import ENGINES, EngineCache, open_engine
from ssn_edge_runtime.errors import CalibrationError, ExportError
from ssn_edge_runtime.manifest import INT8_ONNXRUNTIME, INT8_OPENVINO
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.self_test import check_golden


@pytest.fixture
def net(small_net):
    """One that calls spots anomalous; as it is drawn, it does the opposite."""
    net = small_net()
    with torch.no_grad():
        net.score_head.weight.neg_()
        net.score_head.bias.neg_()
    return net


@pytest.fixture(autouse=True)
def traced(net, model: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Its ONNX model, not traced each time: that is not what is tested here."""
    fp32 = model()
    for ending in ("score_head.weight", "score_head.bias"):
        fp32 = changed(fp32, ending, np.negative)
    monkeypatch.setattr(
        precision_models, "onnx_from_graph", lambda _graph, *, input_size_hw, version: fp32
    )
    return fp32


@pytest.fixture
def seen() -> list[GateReport]:
    """What the gate told its listener."""
    return []


@pytest.fixture
def refused(net, export, tmp_path, seen) -> Callable[..., str]:
    """Export, and be refused with exit code 4, nothing written and the earlier package kept."""
    earlier = tmp_path / "out" / "part.ssn"
    earlier.parent.mkdir()
    earlier.write_bytes(b"the package of yesterday")

    def call(**changes: object) -> str:
        with pytest.raises(ExportError) as error:
            export(
                net,
                on_gate=lambda report: seen.append(report) or Path("part.gate.html"),
                **changes,
            )
        assert error.value.exit_code == 4
        assert earlier.read_bytes() == b"the package of yesterday"
        assert list(earlier.parent.iterdir()) == [earlier]
        message = str(error.value)
        assert message.endswith("No package was written; look at part.gate.html")
        assert "\n" not in message
        return message

    return call


def initialiser(model: onnx.ModelProto, ending: str) -> onnx.TensorProto:
    (found,) = (each for each in model.graph.initializer if each.name.endswith(ending))
    return found


def changed(model: bytes, ending: str, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """The model with other values in one of its weights."""
    proto = onnx.load_from_string(model)
    weight = initialiser(proto, ending)
    values = numpy_helper.to_array(weight).copy()
    weight.CopyFrom(numpy_helper.from_array(change(values), weight.name))
    return bytes(proto.SerializeToString())


def colours_swapped(model: bytes) -> bytes:
    """Blue for red, where the graph turns BGR into RGB."""
    nodes = onnx.load_from_string(model).graph.node
    order = next(node.input[1] for node in nodes if node.op_type == "Gather")
    return changed(model, order, lambda values: values[::-1].copy())


def one_weight_flipped(model: bytes) -> bytes:
    def flip(values: np.ndarray) -> np.ndarray:
        largest = np.unravel_index(np.argmax(np.abs(values)), values.shape)
        values[largest] *= -1
        return values

    return changed(model, "fine.0.weight", flip)


SPOILS = {
    "swapped colours": colours_swapped,
    "one weight flipped": one_weight_flipped,
    "wrong mean": lambda model: changed(model, "shift", lambda shift: shift + np.float32(0.3)),
}


def test_both_low_precisions_pass_where_nothing_was_spoilt(net, export, seen):
    # A net with two convolutions has nothing to spare for INT8, so the margin is wide here.
    limits = GateLimits(max_flip_margin=1.5)
    result = export(net, precisions=("fp16", "int8"), limits=limits, on_gate=seen.append)
    with Package.open(result.package_path) as package:
        assert list(package.manifest.precisions) == ["fp16", "fp32", "int8"]
        entries = package.manifest.precisions
        assert len({each.thresholds.image for each in entries.values()}) == 3
        assert entries["fp32"].tolerance.score == 1e-3
        for golden in package.manifest.golden:
            assert set(golden.expected) == {"fp32", "fp16", "int8"}
    assert seen[0].refusals == ()


def test_the_int8_of_onnxruntime_is_certified_there_alone(net, export, seen, tmp_path):
    limits = GateLimits(max_flip_margin=1.5)
    result = export(net, precisions=(INT8_ONNXRUNTIME,), limits=limits, on_gate=seen.append)
    columns = [each.column for each in seen[0].columns if each.column.precision != "fp32"]
    assert [each.engine for each in columns] == ["onnxruntime-cpu"]
    cache = EngineCache(tmp_path / "cache")
    with Package.open(result.package_path) as package:
        model = onnx.load_from_string(package.read(f"models/{INT8_ONNXRUNTIME}.onnx"))
        assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear"}
        with open_engine(
            package, precision=INT8_ONNXRUNTIME, cache=cache, certified=False
        ) as engine:
            assert engine.name == "onnxruntime-cpu"
            check_golden(package, engine, INT8_ONNXRUNTIME)


def test_the_int8_of_openvino_is_certified_there(net, export, seen):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    limits = GateLimits(max_flip_margin=1.5)
    result = export(net, precisions=(INT8_OPENVINO,), limits=limits, on_gate=seen.append)
    columns = [each.column for each in seen[0].columns if each.column.precision != "fp32"]
    assert [each.engine for each in columns] == ["onnxruntime-cpu", "openvino"]
    with Package.open(result.package_path) as package:
        assert list(package.manifest.precisions) == ["fp32", INT8_OPENVINO]
        assert INT8_OPENVINO not in ENGINES["tensorrt"].precisions


@pytest.mark.parametrize("kind", SPOILS)
def test_fp16_of_something_else_than_the_net_is_refused(kind, refused, monkeypatch, seen):
    monkeypatch.setattr(
        precision_models,
        "fp16_from_fp32",
        lambda model, pixels: fp16_from_fp32(SPOILS[kind](model), pixels),
    )
    message = refused(precisions=("fp16",))
    assert message.startswith("FP16 does not decide as the trained net does: fp16 reference-2 on ")
    assert any(limit in message for limit in ("verdicts differ", "falls by", "own deviation"))
    assert "Export without --fp16" in message
    assert [each.precision for each in seen[0].refusals] == ["fp16"]
    assert seen[0].worst


@pytest.mark.parametrize("kind", SPOILS)
def test_fp32_of_something_else_than_the_net_is_refused(kind, refused, monkeypatch, traced):
    monkeypatch.setattr(
        precision_models,
        "onnx_from_graph",
        lambda _graph, *, input_size_hw, version: SPOILS[kind](traced),
    )
    message = refused()
    assert message.startswith("the exported graph is not the trained net: fp32 reference-2 on ")
    assert "0.001 is allowed" in message


def test_int8_with_ranges_from_noise_is_refused(refused, monkeypatch, rng):
    def ranges_from_noise(model, pixels, accept, *, rule, on_progress):
        noise = [rng.integers(0, 256, each.shape, dtype=np.uint8) for each in pixels]
        return Int8Search(int8_from_fp32(model, noise), (), (), 1)

    monkeypatch.setattr(precision_models, "search_float_layers", ranges_from_noise)
    message = refused(precisions=("int8",))
    assert message.startswith("INT8 does not decide as the trained net does: int8 reference-2 on ")
    assert "Export without --int8" in message


def test_fp16_that_overflows_is_refused(refused, monkeypatch):
    """Halves with weights beyond what a half can hold, as if nobody had looked for it."""

    def overflowing(model, pixels):
        half = fp16_from_fp32(model, pixels)
        broken = changed(half.model, "score_head.weight", lambda weight: weight * np.inf)
        return type(half)(broken, half.report)

    monkeypatch.setattr(precision_models, "fp16_from_fp32", overflowing)
    message = refused(precisions=("fp16",))
    assert message.startswith("fp16 gives no score: ")
    assert "inf" in message or "nan" in message


def test_an_engine_that_runs_another_model_is_refused_by_name(refused, monkeypatch, model):
    pytest.importorskip("openvino")
    of_gate = gate.open_here

    def opens(engine, own, input_size_hw, *, precision):
        other = model(seed=1) if engine == "openvino" else own
        return of_gate(engine, other, input_size_hw, precision=precision)

    monkeypatch.setattr(gate, "open_here", opens)
    message = refused()
    assert "fp32 reference-2 on openvino: its score differs by" in message
    assert "onnxruntime" not in message.split(". ")[0]


def shifted(model, pixels):
    """FP16 whose scores are all 3 logits higher."""
    return fp16_from_fp32(changed(model, "score_head.bias", lambda bias: bias + 3), pixels)


def test_a_shift_of_all_scores_turns_no_verdict(net, export, monkeypatch):
    monkeypatch.setattr(precision_models, "fp16_from_fp32", shifted)
    fp32, fp16 = export(net, precisions=("fp16",)).precisions
    assert fp16.thresholds.image - fp32.thresholds.image == pytest.approx(3, abs=0.05)
    assert fp16.columns[0].shift == pytest.approx(3, abs=0.05)
    assert fp16.columns[0].score.largest < 0.05


def test_thresholds_of_another_precision_are_refused(refused, monkeypatch):
    monkeypatch.setattr(precision_models, "fp16_from_fp32", shifted)
    monkeypatch.setattr(
        admission.Admission, "_thresholds_of", lambda self, model: (self.thresholds, self._risk)
    )
    message = refused(precisions=("fp16",))
    assert "pass (" in message
    assert "became fail" in message


def test_an_export_that_keeps_going_leaves_out_what_was_refused(net, export, monkeypatch):
    monkeypatch.setattr(
        precision_models,
        "fp16_from_fp32",
        lambda model, pixels: fp16_from_fp32(colours_swapped(model), pixels),
    )
    result = export(net, precisions=("fp16",), keeps_going=True)
    assert [each.precision for each in result.refusals] == ["fp16"]
    with Package.open(result.package_path) as package:
        assert list(package.manifest.precisions) == ["fp32"]


def test_too_few_pictures_for_int8_are_told_before_the_work(net, export, line, monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError("the net was traced")

    monkeypatch.setattr(precision_models, "onnx_from_graph", never)
    with pytest.raises(CalibrationError, match="32") as error:
        export(net, precisions=("int8",), training_normals=line[0][:5])
    assert error.value.exit_code == 4
