"""An ONNX file that needs more than itself is found without onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ssn_edge_runtime import onnx_scan
from ssn_edge_runtime.errors import PackageError
from ssn_edge_runtime.onnx_scan import check_onnx

Build = Callable[..., onnx.ModelProto]


def external_tensor() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return tensor


def in_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(external_tensor())


def in_attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=external_tensor()))


def in_attribute_list(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.type = "list", onnx.AttributeProto.TENSORS
    attribute.tensors.append(external_tensor())


def in_subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [], initializer=[external_tensor()])
    outer = helper.make_graph(
        [helper.make_node("If", ["x"], ["y"], then_branch=inner)], "outer", [], []
    )
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=outer))


def in_subgraph_list(model: onnx.ModelProto) -> None:
    attribute = model.graph.node[0].attribute.add()
    attribute.graphs.append(helper.make_graph([], "inner", [], [], initializer=[external_tensor()]))


def in_sparse_initialiser(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(external_tensor())


def in_sparse_indices(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().indices.CopyFrom(external_tensor())


def in_sparse_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add().sparse_tensor.values.CopyFrom(external_tensor())


def in_sparse_attribute_list(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add().sparse_tensors.add().values.CopyFrom(external_tensor())


@pytest.mark.parametrize(
    "place",
    [
        in_initialiser,
        in_attribute,
        in_attribute_list,
        in_subgraph,
        in_subgraph_list,
        in_sparse_initialiser,
        in_sparse_indices,
        in_sparse_attribute,
        in_sparse_attribute_list,
    ],
)
def test_weights_in_another_file_are_refused_wherever_they_are(
    place: Callable[[onnx.ModelProto], None], tiny_model: Build
) -> None:
    model = tiny_model()
    place(model)
    with pytest.raises(PackageError, match=r"^models/x\.onnx keeps weights in another file;"):
        check_onnx(model.SerializeToString(), "models/x.onnx")


@pytest.mark.parametrize("part", ["data_location", "external_data"])
def test_one_half_of_an_external_tensor_is_enough(part: str, tiny_model: Build) -> None:
    model = tiny_model()
    tensor = external_tensor()
    tensor.ClearField(part)
    model.graph.initializer.append(tensor)
    with pytest.raises(PackageError, match="another file"):
        check_onnx(model.SerializeToString(), "x")


def test_a_location_that_a_reader_cuts_to_external_is_refused(tiny_model: Build) -> None:
    tensor = b"\x70" + b"\x81\x80\x80\x80\x10"  # data_location = 2 ** 32 + 1
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    sneaky = tiny_model().SerializeToString() + b"\x3a" + bytes([len(graph)]) + graph
    assert onnx.load_model_from_string(sneaky).graph.initializer[-1].data_location == 1
    with pytest.raises(PackageError, match="another file"):
        check_onnx(sneaky, "x")


def test_a_model_that_keeps_to_itself_is_taken(tiny_model: Build) -> None:
    model = tiny_model()
    check_onnx(model.SerializeToString(), "x")
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    check_onnx(model.SerializeToString(), "x")


def test_a_model_saved_with_external_data_is_refused(tiny_model: Build, tmp_path: Path) -> None:
    model = tiny_model()
    weights = np.zeros(2000, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    check_onnx(model.SerializeToString(), "x")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    with pytest.raises(PackageError, match="another file"):
        check_onnx((tmp_path / "m.onnx").read_bytes(), "x")


def test_operators_of_another_library_are_refused(tiny_model: Build) -> None:
    imported, used = tiny_model(), tiny_model()
    imported.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    used.graph.node[3].domain = "com.microsoft"
    for model in (imported, used):
        with pytest.raises(PackageError, match=r"operator domain 'com\.microsoft'"):
            check_onnx(model.SerializeToString(), "x")


def test_functions_and_training_graphs_are_refused(tiny_model: Build) -> None:
    model = tiny_model()
    model.functions.append(
        helper.make_function("", "f", ["x"], ["y"], [], [helper.make_opsetid("", 18)])
    )
    with pytest.raises(PackageError, match="functions of its own"):
        check_onnx(model.SerializeToString(), "x")
    model = tiny_model()
    model.training_info.add().algorithm.name = "adam"
    with pytest.raises(PackageError, match="training graph"):
        check_onnx(model.SerializeToString(), "x")


def test_graphs_nested_without_end_are_refused(tiny_model: Build) -> None:
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(30):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
    model = tiny_model()
    model.graph.CopyFrom(graph)
    with pytest.raises(PackageError, match="nested too deeply"):
        check_onnx(model.SerializeToString(), "x")


def test_too_many_fields_are_refused(tiny_model: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_scan, "MAX_FIELDS", 10)
    with pytest.raises(PackageError, match="too many fields"):
        check_onnx(tiny_model().SerializeToString(), "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no graph"),
        (b"\x08\x07", "holds no graph"),
        (b"\x08", "is cut short"),
        (b"\x3a\x05\x00", "is cut short"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "is cut short"),
        (b"\x08" + b"\xff" * 11, "not well-formed"),
        (b"\x0b\x0c", "not well-formed"),
        (b"\x00\x00", "not well-formed"),
        (b"\x38\x01", "not well-formed protobuf of ONNX"),
        (b"\xb8\x80\x80\x80\x80\x01\x00", "not well-formed"),
        (b"\x12\x0f\x00\x00ORTM" + bytes(9), "ONNX Runtime's own format"),
    ],
)
def test_what_is_no_onnx_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        check_onnx(data, "x")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_refused_or_harmless_but_never_another_error(
    data: st.DataObject, tiny_model: Build
) -> None:
    model = bytearray(tiny_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_onnx(bytes(model), "x")
    except PackageError as error:
        assert "\n" not in str(error)  # noqa: PT017
