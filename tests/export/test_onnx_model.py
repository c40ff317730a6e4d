import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_export.reference_graph import ReferenceGraph
from ssn_edge_runtime.errors import ConfigError, ExportError

SIZES = [(64, 64), (96, 64)]


def export(net):
    return written(net, net.input_size_hw)


def written(net, input_size_hw=(64, 64), **options):
    graph = inspection_graph(net, GraphKind.REFERENCE)
    return onnx_from_graph(graph, input_size_hw=input_size_hw, version="test-7", **options)


def run(model, pixels, threshold, region):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feed = {
        "pixels": pixels[None],
        "pixel_threshold": np.array([threshold], np.float32),
        "region_mask": region,
    }
    return session.run(None, feed)


@pytest.mark.parametrize("size", SIZES)
def test_onnx_runtime_computes_what_torch_computes(small_net, model, surface, rng, size):
    net, pixels = small_net(size), surface(size, spots=2)
    region = rng.integers(0, 2, size, dtype=np.uint8)
    with torch.inference_mode():
        wanted = ReferenceGraph(net).eval()(
            torch.from_numpy(pixels[None]), torch.tensor([0.05]), torch.from_numpy(region)
        )
    found = run(model(size), pixels, 0.05, region)
    for want, have in zip(wanted[:3], found[:3], strict=True):
        np.testing.assert_allclose(have, want.numpy(), atol=2e-5)
    np.testing.assert_array_equal(found[3], (found[2] >= np.float32(0.05)) & (region != 0))


def test_the_pixel_threshold_and_the_region_are_inputs(model, surface):
    pixels = surface(spots=1)
    everywhere = np.ones((64, 64), np.uint8)
    left = everywhere.copy()
    left[:, 32:] = 0
    _, _, anomaly_map, low = run(model(), pixels, -1e3, everywhere)
    assert low.all()
    assert not run(model(), pixels, 1e3, everywhere)[3].any()
    _, map_max, _, mask = run(model(), pixels, -1e3, left)
    np.testing.assert_array_equal(mask[0], left)
    assert map_max[0] == anomaly_map[0, :, :32].max()


def test_names_types_and_shapes_are_the_contract(model):
    graph = onnx.load_from_string(model((96, 64))).graph
    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    described = {
        each.name: (
            each.type.tensor_type.elem_type,
            tuple(size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim),
        )
        for each in (*graph.input, *graph.output)
    }
    assert described == {
        "pixels": (uint8, ("B", 96, 64, 3)),
        "pixel_threshold": (float32, (1,)),
        "region_mask": (uint8, (96, 64)),
        "classification_logit": (float32, ("B",)),
        "map_max_logit": (float32, ("B",)),
        "anomaly_map": (float32, ("B", 96, 64)),
        "defect_mask": (uint8, ("B", 96, 64)),
    }


def test_bytes_are_only_read_and_written_by_a_cast(model):
    nodes = onnx.load_from_string(model()).graph.node
    for name in ("pixels", "region_mask"):
        readers = [node for node in nodes if name in node.input]
        assert [node.op_type for node in readers] == ["Cast"]
        assert readers[0].attribute[0].i == onnx.TensorProto.FLOAT
    writer = next(node for node in nodes if "defect_mask" in node.output)
    assert writer.op_type == "Cast"


def test_the_model_holds_no_path_and_no_trace_of_its_making(model):
    data = model()
    proto = onnx.load_from_string(data)
    assert {each.key: each.value for each in proto.metadata_props} == {
        "producer": "ssn-edge",
        "graph": "reference-2",
    }
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 18)]
    assert not proto.functions
    assert not re.search(rb"\.py\b|/(home|work|tmp|usr|opt)/|Traceback|File \"", data)


@pytest.mark.parametrize("kind", GraphKind)
def test_the_graph_s_version_is_written_into_the_file(small_net, kind):
    graph = inspection_graph(small_net(), GraphKind.REFERENCE)
    proto = onnx.load_from_string(
        onnx_from_graph(graph, input_size_hw=(64, 64), version=kind.version)
    )
    assert kind.version.startswith(f"{kind.value}-")
    assert proto.producer_version == kind.version
    assert {each.key: each.value for each in proto.metadata_props}["graph"] == kind.version


def test_a_net_of_another_form_has_no_deploy_graph(small_net):
    with pytest.raises(ExportError, match=r"a SmallNet; .* backbone, .* reference graph"):
        inspection_graph(small_net(), GraphKind.DEPLOY)


def test_a_batch_is_judged_picture_by_picture(model, surface):
    pixels = [surface(spots=count) for count in range(3)]
    region = np.ones((64, 64), np.uint8)
    session = onnxruntime.InferenceSession(model(), providers=["CPUExecutionProvider"])
    together = session.run(
        None,
        {
            "pixels": np.stack(pixels),
            "pixel_threshold": np.zeros(1, np.float32),
            "region_mask": region,
        },
    )
    for index, each in enumerate(pixels):
        for of_batch, alone in zip(together, run(model(), each, 0.0, region), strict=True):
            np.testing.assert_allclose(of_batch[index], alone[0], atol=1e-5)


def test_the_same_net_gives_the_same_bytes(small_net, model):
    assert export(small_net()) == export(small_net())
    assert model(seed=1) != model()


class Sized(nn.Module):
    """Gives a map of its own size."""

    mean = std = (0.5, 0.5, 0.5)

    def forward(self, image):
        return image[:, 0, ::2, ::2], image.mean((1, 2, 3))


class Branching(Sized):
    def forward(self, image):
        return (image[:, 0], image.mean((1, 2, 3))) if image.mean() > 0 else (image[:, 1], image)


@pytest.mark.parametrize("net", [Sized(), Branching()])
def test_a_net_that_does_not_fit_is_refused_with_what_is_wanted(net):
    with pytest.raises(ExportError, match=r"\(B, H, W\)") as refused:
        written(net)
    assert refused.value.exit_code == 4
    assert refused.value.__cause__ is not None


class WholeSized(Sized):
    """Gives a logit of the wrong shape, and nothing else is wrong."""

    def forward(self, image):
        return image[:, 0], image.mean((2, 3))


def test_a_logit_of_another_shape_is_refused():
    with pytest.raises(ExportError, match=r"logit of float B x 3 where .* of float B is"):
        written(WholeSized().eval())


class ReadsBytes(nn.Module):
    def forward(self, pixels, pixel_threshold, region_mask):
        image = pixels[..., 0].to(torch.float32)
        mask = (image >= pixel_threshold) & (region_mask > 0)
        return image.mean((1, 2)), image.amax((1, 2)), image, mask.to(torch.uint8)


def test_a_graph_that_moves_bytes_about_is_refused():
    with pytest.raises(ExportError, match="pixels without a Cast to float"):
        onnx_from_graph(ReadsBytes().eval(), input_size_hw=(64, 64), version="test-7")


def test_an_opset_that_is_not_written_is_refused(small_net):
    with pytest.raises(ConfigError, match="opset 17"):
        written(small_net(), opset=17)
