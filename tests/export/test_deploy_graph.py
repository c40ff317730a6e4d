"""The rewritten net is the trained net: any grid, both variants, both corner modes."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ssn_edge.model.backbone import Normalisation
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge_export.deploy_graph import deploy_net
from ssn_edge_export.onnx_model import onnx_from_graph
from ssn_edge_export.reference_graph import ReferenceGraph
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.errors import ExportError

CHANNELS = (6, 5)
MARK = "Tanh"
"""The last operator of `TwoLayers`, and nobody else's."""
PRODUCTS = {"Conv", "Gemm", "MatMul"}
HEAD_OPERATORS = PRODUCTS | {"Add", "LeakyRelu", "Relu", "ReduceMax", "ReduceMean"}
MOVES = {"Concat", "Reshape", "Transpose"}


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
            net.features.mean.normal_()
            net.features.std.uniform_(0.5, 2)
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


def exported(net: nn.Module, case: Case, batch: int) -> bytes:
    return onnx_from_graph(ReferenceGraph(net).eval(), input_size_hw=case.size_hw, batch=batch)


@pytest.mark.parametrize(("variant", "batch"), [(Variant.JOURNAL, 1), (Variant.CONFERENCE, 2)])
def test_the_onnx_model_of_it_gives_what_the_net_gives(variant: Variant, batch: int) -> None:
    case = Case(variant=variant)
    net = case.net()
    pixels = np.random.default_rng(1).integers(0, 256, (batch, *case.size_hw, 3), dtype=np.uint8)
    region = np.ones(case.size_hw, np.uint8)
    session = onnxruntime.InferenceSession(exported(deploy_net(net), case, batch))
    names = [each.name for each in session.get_inputs()]
    found = session.run(None, dict(zip(names, (pixels, np.zeros(1, "f4"), region), strict=True)))
    with torch.inference_mode():
        wanted = ReferenceGraph(net).eval()(
            torch.from_numpy(pixels), torch.zeros(1), torch.from_numpy(region)
        )
    for of_net, of_model in zip(wanted[:3], found[:3], strict=True):
        assert largest_relative_difference(of_net, torch.from_numpy(of_model)) < 1e-4


@pytest.mark.parametrize("variant", Variant)
def test_no_resize_pool_pad_or_batch_norm_is_left_behind_the_backbone(variant: Variant) -> None:
    case = Case(variant=variant)
    model = onnx.load_from_string(exported(deploy_net(case.net()), case, 1))
    kinds = {node.op_type for node in behind_backbone(model)}
    assert "MatMul" in kinds
    assert kinds <= HEAD_OPERATORS | MOVES


def test_a_look_behind_the_backbone_sees_what_the_straightforward_net_does() -> None:
    case = Case()
    model = onnx.load_from_string(exported(case.net(), case, 1))
    assert {node.op_type for node in behind_backbone(model)} >= {"Resize", "AveragePool", "Pad"}


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
