"""The same by formula: torch layers whose weights and inputs are rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge_calibrate.int8_model import BIAS_PICTURES, observe_model
from ssn_edge_calibrate.int8_pictures import checked_pictures
from ssn_edge_calibrate.int8_ranges import RangeMethod
from ssn_edge_calibrate.int8_run import logits_of
from ssn_edge_export.onnx_model import onnx_from_graph
from ssn_edge_export.reference_graph import ReferenceGraph
from ssn_edge_runtime.arrays import ByteImage

SIZE = (32, 32)
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]


class Projected(nn.Module):
    """A backbone, a projection of its last layer, and a map of its first: small heads of our own.

    The map takes layer2 as it is; the convolution behind layer2 takes it rounded.
    """

    def __init__(self, backbone: nn.Module, *, round_features: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mean, self.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        self.backbone = backbone
        generator = torch.Generator().manual_seed(2)
        self.projection = nn.Parameter(torch.randn(12, 5, generator=generator))
        self.round_features = round_features

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        layer2, layer3 = self.backbone(image)
        pixels = self.round_features(layer3).flatten(2).transpose(1, 2)  # (B, y * x, C)
        logits = F.relu(pixels @ self.projection).amax(dim=1).sum(dim=1)
        return F.interpolate(layer2.mean(dim=1, keepdim=True), size=SIZE)[:, 0], logits


def rounded(values: Tensor, largest: float) -> Tensor:
    step = float(np.float32(largest / 127))
    return torch.clamp(torch.round(values / step), -128, 127) * step


def rounded_weight(weight: Tensor, axis: int) -> Tensor:
    others = [each for each in range(weight.ndim) if each != axis]
    step = weight.abs().amax(dim=others, keepdim=True) / 127
    return torch.round(weight / step) * step


class Formula:
    """Ranges, bias shifts and rounding, worked out layer by layer."""

    def __init__(self, backbone: nn.Module, pictures: list[ByteImage]) -> None:
        self.layers = dict(backbone.named_children())
        self.largest: dict[str, float] = {}
        self.net = Projected(backbone, round_features=self._see_features)
        self.graph = ReferenceGraph(self.net).eval()
        with self._hooks(self._see):
            for each in pictures:
                self.run(each)
        self.net.round_features = lambda features: features
        self.errors = {name: torch.zeros(1) for name in self.layers}
        with self._hooks(self._compare):
            for each in pictures[:BIAS_PICTURES]:
                self.run(each)
        self._round(min(BIAS_PICTURES, len(pictures)))

    def run(self, pixels: ByteImage) -> tuple[float, float]:
        with torch.no_grad():
            classification, map_max, _, _ = self.graph(
                torch.from_numpy(pixels)[None], torch.zeros(1), torch.ones(SIZE, dtype=torch.uint8)
            )
        return float(classification), float(map_max)

    @contextmanager
    def _hooks(self, hook_of: Callable[[str], Hook]) -> Iterator[None]:
        handles = [
            layer.register_forward_hook(hook_of(name)) for name, layer in self.layers.items()
        ]
        yield
        for handle in handles:
            handle.remove()

    def _grow(self, name: str, values: Tensor) -> None:
        self.largest[name] = max(self.largest.get(name, 0.0), float(values.abs().max()))

    def _see_features(self, features: Tensor) -> Tensor:
        self._grow("features", features)
        return features

    def _see(self, name: str) -> Hook:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._grow(name, inputs[0])
            self._grow(f"{name} output", output)

        return hook

    def _compare(self, name: str) -> Hook:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, nn.Conv2d)
            twin = F.conv2d(
                rounded(inputs[0], self.largest[name]),
                rounded_weight(layer.weight, 0),
                layer.bias,
                layer.stride,
                layer.padding,
                groups=layer.groups,
            )
            self.errors[name] = self.errors[name] + (twin - output).mean(dim=(0, 2, 3))

        return hook

    def _round(self, pictures: int) -> None:
        with torch.no_grad():
            for name, layer in self.layers.items():
                layer.weight.copy_(rounded_weight(layer.weight, 0))
                layer.bias.sub_(self.errors[name] / pictures)
                layer.register_forward_pre_hook(
                    lambda layer, inputs, name=name: (rounded(inputs[0], self.largest[name]),)
                )
            self.net.projection.copy_(rounded_weight(self.net.projection, 1))
        # The skips: downsampled in the first block; in the second what `third` takes as well.
        self._round_output("downsample", "downsample output")
        self._round_skip_of_third()
        self.net.round_features = lambda values: rounded(values, self.largest["features"])

    def _round_output(self, name: str, range_name: str) -> None:
        self.layers[name].register_forward_hook(
            lambda layer, inputs, output: rounded(output, self.largest[range_name])
        )

    def _round_skip_of_third(self) -> None:
        self._round_output("pointwise", "third")


@pytest.fixture(scope="module")
def formula_model(make_net: Callable[..., SuperSimpleNet]) -> bytes:
    net = Projected(make_net().backbone, round_features=lambda features: features)
    return onnx_from_graph(ReferenceGraph(net).eval(), input_size_hw=SIZE, version="test-1")


def test_the_graph_computes_what_rounding_by_formula_computes(
    make_net: Callable[..., SuperSimpleNet],
    formula_model: bytes,
    pictures: list[ByteImage],
    other_pictures: list[ByteImage],
) -> None:
    formula = Formula(make_net().backbone, list(checked_pictures(pictures, size_hw=SIZE).pixels))
    wanted = np.array([formula.run(each) for each in other_pictures])
    observed = observe_model(formula_model, pictures, equalise=False)
    assert len(observed.layers) == 8
    found = logits_of(observed.quantised(ranges=RangeMethod.MAX).model, other_pictures)
    of_float = logits_of(formula_model, other_pictures)
    rounding = np.abs(found - of_float).mean(axis=0)
    assert (rounding > 1e-4).all()
    # A value on the edge between two steps may fall to either side: hardly ever, and by one step.
    assert (np.abs(found - wanted).mean(axis=0) < 0.1 * rounding).all()
