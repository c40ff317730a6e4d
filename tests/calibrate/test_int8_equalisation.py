"""Equalised channels: the same function, nearer to one size, and nothing of a picture clipped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from ssn_edge_calibrate.int8_equalisation import channel_sizes, equalised, extreme_pictures
from ssn_edge_calibrate.int8_layers import Wiring, int8_layers
from ssn_edge_calibrate.int8_model import observe_model
from ssn_edge_calibrate.int8_ranges import RangeMethod
from ssn_edge_calibrate.int8_run import logits_of, outputs_of
from ssn_edge_export.onnx_model import GraphKind
from ssn_edge_runtime.arrays import ByteImage, FloatArray


def scaled_channels(model: bytes, seed: int) -> bytes:
    """The same graph with weights whose output channels are of very different size."""
    rng = np.random.default_rng(seed)
    proto = onnx.load_from_string(model)
    for each in proto.graph.initializer:
        if each.name.startswith("net.backbone.") and each.name.endswith("weight"):
            values = numpy_helper.to_array(each)
            factors = np.exp(rng.normal(0, 1.5, len(values)))
            shaped = factors.reshape(-1, *[1] * (values.ndim - 1))
            each.CopyFrom(numpy_helper.from_array((values * shaped).astype(np.float32), each.name))
    return bytes(proto.SerializeToString())


def equalised_bytes(model: bytes, pictures: list[ByteImage]) -> tuple[bytes, tuple[str, ...]]:
    proto = onnx.load_from_string(model)
    layers = int8_layers(Wiring(proto.graph))
    result, tensors = equalised(proto, layers, channel_sizes(proto, layers, pictures))
    onnx.checker.check_model(result, full_check=True)
    assert {each.name for each in int8_layers(Wiring(result.graph))} == {
        each.name for each in layers
    }
    return bytes(result.SerializeToString()), tensors


@pytest.mark.parametrize("kind", GraphKind)
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_function_stays_the_same(
    model_of: Callable[[GraphKind], bytes],
    pictures: list[ByteImage],
    other_pictures: list[ByteImage],
    kind: GraphKind,
    seed: int,
) -> None:
    model = scaled_channels(model_of(kind), seed)
    result, tensors = equalised_bytes(model, pictures[:8])
    assert tensors
    wanted, found = (logits_of(each, other_pictures[:4]) for each in (model, result))
    assert np.abs(found - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())


def spread_of_sizes(model: bytes, tensor: str, pictures: list[ByteImage]) -> float:
    proto = onnx.load_from_string(model)
    sizes = channel_sizes(proto, int8_layers(Wiring(proto.graph)), pictures)[tensor]
    alive = sizes[sizes > 0]
    return float(alive.max() / alive.min())


def test_channels_come_nearer_to_one_size(deploy_model: bytes, pictures: list[ByteImage]) -> None:
    model = scaled_channels(deploy_model, 1)
    result, tensors = equalised_bytes(model, pictures)
    before, after = (
        [spread_of_sizes(each, name, pictures) for name in tensors] for each in (model, result)
    )
    assert max(before) > 8
    assert all(new <= old * 1.001 for old, new in zip(before, after, strict=True))
    assert np.mean(np.log(after)) < 0.75 * np.mean(np.log(before))


def test_what_a_clip_at_six_bounds_stays_as_it_is(
    deploy_model: bytes, pictures: list[ByteImage]
) -> None:
    _, tensors = equalised_bytes(deploy_model, pictures)
    graph = onnx.load_from_string(deploy_model).graph
    (clip,) = (node for node in graph.node if node.op_type == "Clip")
    assert not {clip.input[0], clip.output[0]} & set(tensors)
    assert len(tensors) > 4


def test_int8_of_unequal_channels_is_nearer_to_the_net_once_they_are_equalised(
    deploy_model: bytes, pictures: list[ByteImage], other_pictures: list[ByteImage]
) -> None:
    errors: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(4):
        model = scaled_channels(deploy_model, seed)
        wanted = logits_of(model, other_pictures)
        for equalise, found in errors.items():
            int8 = observe_model(model, pictures, equalise=equalise).quantised()
            assert bool(int8.report.equalised) == equalise
            change = logits_of(int8.model, other_pictures) - wanted
            found.append(float((change.std(axis=0) / wanted.std(axis=0)).mean()))
    assert np.mean(errors[True]) < 0.9 * np.mean(errors[False])


@pytest.mark.parametrize("kind", GraphKind)
def test_no_picture_is_clipped_in_front_of_the_first_layer(
    model_of: Callable[[GraphKind], bytes],
    pictures: list[ByteImage],
    kind: GraphKind,
) -> None:
    observed = observe_model(model_of(kind), pictures)
    report = observed.quantised(ranges=RangeMethod.RETURN_LEVEL).report
    depth = Wiring(onnx.load_from_string(observed.model).graph).weight_depth
    names = [name for name in report.tensors if not depth[name]]
    assert names
    watched = onnx.load_from_string(observed.model)
    for name in names:
        watched.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    rng = np.random.default_rng(0)
    colours = [np.full_like(pictures[0], rng.integers(0, 256, 3)) for _ in range(8)]
    wild = [*extreme_pictures(pictures[0]), *colours]
    for values in outputs_of(bytes(watched.SerializeToString()), wild, names):
        for name, each in zip(names, values, strict=True):
            chosen, _ = report.tensors[name]
            assert largest(each) <= chosen * (1 + 1e-6)


def largest(values: FloatArray) -> float:
    return float(np.abs(values).max())


def test_a_graph_of_another_function_is_not_taken(
    deploy_model: bytes, pictures: list[ByteImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssn_edge_calibrate import int8_model

    def broken(model: onnx.ModelProto, *rest: object) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for each in copy.graph.initializer:
            if each.name == "net.backbone.stem.weight":
                values = 3 * numpy_helper.to_array(each)
                each.CopyFrom(numpy_helper.from_array(values, each.name))
        return copy, ("stem",)

    monkeypatch.setattr(int8_model, "equalised", broken)
    observed = observe_model(deploy_model, pictures)
    assert observed.equalised == ()
    assert np.array_equal(
        logits_of(observed.model, pictures[:2]), logits_of(deploy_model, pictures[:2])
    )
