"""The rewritten net is the trained net: any grid, both variants, both corner modes."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssn_edge.model.backbone import Normalisation
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.trained import open_run
from ssn_edge_export.deploy_graph import deploy_net
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.errors import ExportError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import preprocess
from tests.end_to_end.chain import Project, shared_project

CHANNELS = (6, 5)
MARK = "Tanh"
"""The last operator of `TwoLayers`, and nobody else's."""
PRODUCTS = {"Conv", "Gemm", "MatMul"}
HEAD_OPERATORS = PRODUCTS | {"Add", "LeakyRelu", "Mul", "Relu", "ReduceMax", "ReduceMean", "Sub"}
MOVES = {"Concat", "Reshape", "Slice", "Transpose"}


class TwoLayers(nn.Module):
    """A backbone of any grids."""

    channels = CHANNELS
    normalisation = Normalisation((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))

    def __init__(self, grids: tuple[tuple[int, int], tuple[int, int]]) -> None:
        super().__init__()
        self.grids = grids
        self.layers = nn.ModuleList(nn.Conv2d(3, count, 3, padding=1) for count in CHANNELS)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [
            F.interpolate(layer(image), size=grid, mode="nearest").tanh()
            for layer, grid in zip(self.layers, self.grids, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Case:
    size_hw: tuple[int, int] = (41, 24)
    grids: tuple[tuple[int, int], tuple[int, int]] = ((5, 3), (3, 2))
    variant: Variant = Variant.JOURNAL
    align_corners: bool = True
    seed: int = 0

    def net(self) -> SuperSimpleNet:
        torch.manual_seed(self.seed)
        architecture = Architecture(
            "two layers", self.size_hw, HeadWidths(7, 4), self.variant, self.align_corners
        )
        net = SuperSimpleNet(architecture, TwoLayers(self.grids)).eval()
        with torch.no_grad():
            net.features.std.normal_().exp_()
            net.features.mean.normal_(std=3).mul_(net.features.std)
            for norm in (net.heads.segmentation.norm, net.heads.classification.norm):
                norm.weight.normal_()
                norm.bias.normal_()
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.3, 3)
        return net

    def image(self, batch: int = 2) -> Tensor:
        return torch.randn((batch, 3, *self.size_hw))


sides = st.integers(1, 9)
grids = st.tuples(sides, sides)
cases = st.builds(
    Case,
    size_hw=st.tuples(st.integers(13, 50), st.integers(13, 50)),
    grids=st.tuples(grids, grids),
    variant=st.sampled_from(Variant),
    align_corners=st.booleans(),
    seed=st.integers(0, 2**31),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return shared_project(tmp_path_factory)


def largest_relative_difference(wanted: Tensor, found: Tensor) -> float:
    return float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1))


@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_the_rewritten_net_is_the_net_in_exact_arithmetic(case: Case) -> None:
    net, image = case.net().double(), case.image().double()
    with torch.inference_mode():
        for wanted, found in zip(net(image), deploy_net(net)(image), strict=True):
            assert found.shape == wanted.shape
            assert found.dtype == torch.float64
            assert largest_relative_difference(wanted, found) < 1e-9


@given(case=cases)
@settings(max_examples=30, deadline=None)
def test_the_rewritten_net_is_the_net_up_to_rounding_in_float32(case: Case) -> None:
    net, image = case.net(), case.image()
    with torch.inference_mode():
        for wanted, found in zip(net(image), deploy_net(net)(image), strict=True):
            assert found.dtype == torch.float32
            assert largest_relative_difference(wanted, found) < 1e-4


@pytest.mark.parametrize("variant", Variant)
def test_a_real_backbone_and_default_options_agree(variant: Variant) -> None:
    torch.manual_seed(3)
    net = SuperSimpleNet(Architecture("resnet18", (72, 40), HeadWidths(16, 8), variant)).eval()
    image = torch.randn(1, 3, 72, 40)
    with torch.inference_mode():
        for wanted, found in zip(net(image), deploy_net(net)(image), strict=True):
            assert largest_relative_difference(wanted, found) < 1e-4


def test_the_heads_of_the_net_are_left_as_they_were() -> None:
    case = Case()
    net = case.net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    deploy_net(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_an_unknown_variant_is_refused_by_name() -> None:
    net = Case().net()
    net.heads.variant = type("Other", (), {"value": "third"})()  # type: ignore[assignment]
    with pytest.raises(ExportError, match="'third'"):
        deploy_net(net)


def exported(net: SuperSimpleNet, kind: GraphKind) -> bytes:
    return onnx_from_graph(
        inspection_graph(net, kind),
        input_size_hw=net.architecture.input_size_hw,
        version=kind.version,
    )


Outputs = dict[str, npt.NDArray[np.generic]]


def judged(model: bytes, pixels: npt.NDArray[np.uint8], threshold: float = 0.0) -> Outputs:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    feeds = {
        base.PIXELS: pixels,
        base.PIXEL_THRESHOLD: np.array([threshold], np.float32),
        base.REGION_MASK: np.ones(pixels.shape[1:3], np.uint8),
    }
    return dict(zip(names, session.run(names, feeds), strict=True))


@given(case=cases)
@example(case=Case(variant=Variant.CONFERENCE, align_corners=False))
@settings(max_examples=4, deadline=None)
def test_the_onnx_models_of_both_graphs_agree_for_any_batch(case: Case) -> None:
    net = case.net()
    reference, deploy = (exported(net, kind) for kind in GraphKind)
    for batch in (1, 3):
        pixels = np.random.default_rng(case.seed).integers(
            0, 256, (batch, *case.size_hw, 3), dtype=np.uint8
        )
        wanted, found = judged(reference, pixels), judged(deploy, pixels)
        for name in (base.CLASSIFICATION_LOGIT, base.MAP_MAX_LOGIT, base.ANOMALY_MAP):
            of_net, of_model = torch.from_numpy(wanted[name]), torch.from_numpy(found[name])
            assert of_model.shape == of_net.shape
            assert largest_relative_difference(of_net, of_model) < 1e-4


def test_a_picture_is_judged_alike_alone_and_in_a_batch() -> None:
    case = Case()
    model = exported(case.net(), GraphKind.DEPLOY)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *case.size_hw, 3), dtype=np.uint8)
    together = judged(model, pixels)
    for index in range(4):
        alone = judged(model, pixels[index : index + 1])
        for name in (base.CLASSIFICATION_LOGIT, base.MAP_MAX_LOGIT, base.ANOMALY_MAP):
            np.testing.assert_allclose(together[name][index], alone[name][0], rtol=0, atol=1e-5)


def test_no_verdict_of_a_trained_net_turns(project: Project) -> None:
    run = open_run(project.checkpoint)
    pixels = np.stack(
        [
            preprocess(read_picture(path), run.geometry)
            for path in sorted(project.data.rglob("*.png"))
            if "ground_truth" not in path.parts
        ]
    )
    assert len(pixels) == 42
    net = run.net.cpu().eval()
    wanted, found = (judged(exported(net, kind), pixels) for kind in GraphKind)
    assert (
        largest_relative_difference(
            torch.from_numpy(wanted[base.ANOMALY_MAP]), torch.from_numpy(found[base.ANOMALY_MAP])
        )
        < 1e-4
    )
    for name in (base.CLASSIFICATION_LOGIT, base.MAP_MAX_LOGIT):
        scores = np.sort(wanted[name])
        between = (scores[:-1] + scores[1:])[np.diff(scores) > 1e-4] / 2
        assert len(between) > 30
        for threshold in between:
            np.testing.assert_array_equal(found[name] >= threshold, wanted[name] >= threshold)


def test_the_heads_see_channels_around_zero_and_of_one_size() -> None:
    net = Case().net()
    with torch.no_grad():
        net.features.mean.copy_(torch.linspace(-30, 30, sum(CHANNELS)))
        net.features.std.copy_(torch.logspace(-2, 2, sum(CHANNELS)))
    noise = torch.randn((1, sum(CHANNELS), 64, 64), generator=torch.Generator().manual_seed(0))
    feature = net.features.mean[:, None, None] + net.features.std[:, None, None] * noise
    layers = torch.split_with_sizes(feature, CHANNELS, dim=1)
    standardise = deploy_net(net).standardise
    for seen in standardise.channels_first(layers):
        deviation, mean = torch.std_mean(seen, dim=(0, 2, 3))
        assert ((deviation > 0.68) & (deviation < 1.46)).all()  # scales are powers of two
        # What rounding the centre to float16 leaves is in the bias.
        assert (mean.abs() < 0.05 + 30 * 2**-11 / 0.01).all()
    for first, last in zip(
        standardise.channels_first(layers), standardise.channels_last(layers), strict=True
    ):
        assert torch.equal(first.flatten(2).transpose(1, 2), last)


def test_half_precision_changes_neither_centre_nor_scale() -> None:
    net = Case().net()
    with torch.no_grad():
        net.features.mean.copy_(torch.linspace(-30, 30, sum(CHANNELS)))
        net.features.std.copy_(torch.logspace(-6, 6, sum(CHANNELS)))
    image = torch.randn((2, 3, *net.architecture.input_size_hw))
    deployed = deploy_net(net)
    for each in deployed.standardise.parameters():
        assert torch.equal(each, each.half().float())
        assert each.abs().max() < 2**9
    with torch.inference_mode():
        found = deployed(image)
        wanted = net.double()(image.double())  # shares its backbone with the deploy net
    for of_net, of_deployed in zip(wanted, found, strict=True):
        assert largest_relative_difference(of_net, of_deployed.double()) < 1e-4


@pytest.mark.parametrize("variant", Variant)
def test_no_resize_pool_pad_or_batch_norm_is_left_behind_the_backbone(variant: Variant) -> None:
    case = Case(variant=variant)
    model = onnx.load_from_string(exported(case.net(), GraphKind.DEPLOY))
    kinds = {node.op_type for node in behind_backbone(model)}
    assert "MatMul" in kinds
    assert kinds <= HEAD_OPERATORS | MOVES


def test_a_look_behind_the_backbone_sees_what_the_straightforward_net_does() -> None:
    case = Case()
    model = onnx.load_from_string(exported(case.net(), GraphKind.REFERENCE))
    assert {node.op_type for node in behind_backbone(model)} >= {"Resize", "AveragePool", "Pad"}


@pytest.mark.parametrize("kind", GraphKind)
def test_with_a_free_batch_too_bytes_are_only_read_by_a_cast(kind: GraphKind) -> None:
    model = onnx.load_from_string(exported(Case().net(), kind))
    assert "Shape" in {node.op_type for node in model.graph.node}
    readers = [node.op_type for node in model.graph.node if base.PIXELS in node.input]
    assert readers == ["Cast"]


def behind_backbone(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes between the tanh of `TwoLayers` and the two outputs that the net gives."""
    after: set[str] = set()
    nodes = []
    for node in model.graph.node:  # sorted by the exporter, as ONNX demands
        if node.op_type == MARK:
            after |= set(node.output)
        elif after & set(node.input):
            after |= set(node.output)
            nodes.append(node)
    wanted = {base.CLASSIFICATION_LOGIT, base.ANOMALY_MAP}
    found = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found
