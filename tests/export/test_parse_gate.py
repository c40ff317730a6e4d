"""NVIDIA's parser and compiler, without a GPU, on every kind of graph that we write."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from ssn_edge_calibrate.int8_model import int8_from_fp32
from ssn_edge_calibrate.int8_pictures import MIN_INT8_PICTURES
from ssn_edge_export.half_precision import fp16_from_fp32
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_export.parse_gate import parse_gate, require_tensorrt_form
from ssn_edge_export.tensorrt_rules import check_rules
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ExportError
from tests.runtime.gpu.small_net import small_net

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)


@needs_rtx
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_exported_graph_is_parsed_and_compiled(
    model: Callable[..., bytes], batch_size: int
) -> None:
    result = parse_gate(model(), batch_size=batch_size)
    assert result is not None
    assert result.passed, result.message
    assert result.layers > 10
    assert result.plan_bytes > 1000
    assert result.library.startswith("tensorrt-rtx ")
    assert set(result.to_dict()) >= {"passed", "library", "layers"}


@needs_rtx
def test_a_refusal_is_in_our_words_and_names_the_node(model: Callable[..., bytes]) -> None:
    broken = onnx.load_model_from_string(model())
    node = next(each for each in broken.graph.node if each.op_type == "Transpose")
    cast = next(each for each in broken.graph.node if each.op_type == "Cast")
    # Transposed before they are cast: the order that only the parser refuses.
    node.input[0], cast.input[0] = "pixels", node.output[0]
    cast.output[0], node.output[0] = node.output[0], cast.output[0]
    cast.input[0] = node.output[0]
    broken.graph.node.remove(node)
    broken.graph.node.insert(0, node)
    result = parse_gate(broken.SerializeToString())
    assert result is not None
    assert not result.passed
    assert "refuses the model: node" in result.message
    assert result.plan_bytes == 0


def test_without_tensorrt_rtx_there_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    assert parse_gate(b"") is None


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV while it looked at it"),
        ("os._exit(3)", "ended with exit code 3 while it looked at it"),
    ],
)
def test_a_library_that_crashes_refuses_the_model_and_ends_nobody_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: Callable[..., bytes],
    ending: str,
    said: str,
) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text(f"import os, signal\n{ending}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ExportError, match=said):
        require_tensorrt_form(model(), "fp32")


@needs_rtx
@pytest.mark.parametrize("kind", GraphKind)
def test_every_precision_of_both_graphs_keeps_the_rules_and_passes(
    kind: GraphKind, surface: Callable[..., ByteImage]
) -> None:
    size_hw = (64, 64)
    graph = inspection_graph(small_net(size_hw), kind)
    fp32 = onnx_from_graph(graph, input_size_hw=size_hw, version=kind.version)
    pixels = [surface(size_hw) for _ in range(MIN_INT8_PICTURES)]
    int8 = int8_from_fp32(fp32, pixels).model
    models = {
        "fp32": fp32,
        "fp16": fp16_from_fp32(fp32, pixels[:4]).model,
        "int8": int8,
        "int8 and fp16": fp16_from_fp32(int8, pixels[:4]).model,
    }
    for name, each in models.items():
        assert check_rules(each) == (), name
        for batch_size in (1, 4):
            result = parse_gate(each, batch_size=batch_size)
            assert result is not None
            assert result.passed, (name, result.message)


def test_a_model_that_keeps_the_rules_is_taken(model: Callable[..., bytes]) -> None:
    assert require_tensorrt_form(model(), "fp32")["rules"] == "kept"


def test_a_broken_rule_refuses_a_model_before_any_library_sees_it(
    model: Callable[..., bytes],
) -> None:
    broken = onnx.load_model_from_string(model())
    broken.graph.node[0].op_type = "NonZero"
    with pytest.raises(ExportError, match=r"fp16 is not of a form that TensorRT takes: "):
        require_tensorrt_form(broken.SerializeToString(), "fp16")
