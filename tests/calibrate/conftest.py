"""A small true net with what INT8 has to cope with: residuals, a downsample, depthwise, ReLU6."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from ssn_edge.model.backbone import Normalisation
from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_runtime.arrays import ByteImage, FloatArray

SIDE = 32


class SmallBackbone(nn.Module):
    """Stem, a block with a downsampled skip, a depthwise convolution and a block without."""

    channels = (8, 12)
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.first = nn.Conv2d(6, 8, 3, 2, 1)
        self.second = nn.Conv2d(8, 8, 3, 1, 1)
        self.downsample = nn.Conv2d(6, 8, 1, 2)
        self.depthwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.third = nn.Conv2d(12, 12, 3, 1, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        stem = F.relu(self.stem(image))
        inner = self.second(F.relu(self.first(stem)))
        layer2 = F.relu(inner + self.downsample(stem))
        linear = self.pointwise(F.relu6(self.depthwise(layer2)))
        return [layer2, F.relu(self.third(linear) + linear)]


def small_net(seed: int = 0) -> SuperSimpleNet:
    torch.manual_seed(seed)
    architecture = Architecture("small", (SIDE, SIDE), HeadWidths(6, 4))
    net = SuperSimpleNet(architecture, SmallBackbone()).eval()
    with torch.no_grad():
        for layer in net.backbone.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.normal_(layer.bias, std=0.1)
        nn.init.normal_(net.heads.segmentation.output.weight)
        nn.init.normal_(net.heads.classification.output.weight)
    return net


def graph_of(net: SuperSimpleNet, kind: GraphKind = GraphKind.DEPLOY) -> bytes:
    graph = inspection_graph(net, kind)
    return onnx_from_graph(graph, input_size_hw=(SIDE, SIDE), version=kind.version)


def pictures_of(count: int, seed: int) -> list[ByteImage]:
    """Dark, smooth surfaces, each with one spot."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        picture = rng.normal((90, 120, 150), 6, size=(SIDE, SIDE, 3))
        y, x = (int(rng.integers(2, SIDE - 10)) for _ in range(2))
        picture[y : y + 8, x : x + 8] += rng.uniform(-40, 40, 3)
        found.append(np.clip(picture, 0, 255).astype(np.uint8))
    return found


@pytest.fixture(scope="session")
def make_net() -> Callable[..., SuperSimpleNet]:
    """Make a net: `make_net()`, `make_net(seed=1)`."""
    return small_net


@pytest.fixture(scope="session")
def model_of() -> Callable[[GraphKind], bytes]:
    """`make_net()` exported, once each: `model_of(GraphKind.REFERENCE)`."""
    return functools.cache(lambda kind: graph_of(small_net(), kind))


@pytest.fixture(scope="session")
def deploy_model(model_of: Callable[[GraphKind], bytes]) -> bytes:
    """The deploy graph of `make_net()`."""
    return model_of(GraphKind.DEPLOY)


@pytest.fixture(scope="session")
def edited(deploy_model: bytes) -> Callable[..., bytes]:
    """The deploy graph with other weights: `edited(first_bias=lambda values: ...)`."""

    def edit(**changes: Callable[[FloatArray], FloatArray]) -> bytes:
        model = onnx.load_from_string(deploy_model)
        for each in model.graph.initializer:
            layer = each.name.removeprefix("net.backbone.").replace(".", "_")
            if layer in changes:
                values = changes.pop(layer)(numpy_helper.to_array(each).copy())
                each.CopyFrom(numpy_helper.from_array(values.astype(np.float32), each.name))
        assert not changes
        return bytes(model.SerializeToString())

    return edit


@pytest.fixture(scope="session")
def pictures() -> list[ByteImage]:
    """As many as INT8 wants, and a few more."""
    return pictures_of(40, seed=3)


@pytest.fixture(scope="session")
def other_pictures() -> list[ByteImage]:
    """Of the same kind, to be judged."""
    return pictures_of(12, seed=4)


@pytest.fixture(scope="session")
def noise_pictures() -> list[ByteImage]:
    """Of no camera."""
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(40)]
