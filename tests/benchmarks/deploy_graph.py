"""Time of the reference graph and of the deploy graph in ONNX Runtime on a CPU.

    python tests/benchmarks/deploy_graph.py --backbone resnet18 --size 256 --threads 2

Both graphs have the same random weights and are run in turn; the backbone alone is run with them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from ssn_edge.model.backbone import GPU_DEFAULT, Backbone
from ssn_edge.model.heads import HeadWidths, default_widths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge_export.deploy_graph import deploy_net
from ssn_edge_export.onnx_model import onnx_from_graph
from ssn_edge_export.reference_graph import InspectionNet, ReferenceGraph
from ssn_edge_runtime.engines import base


class BackboneAlone(nn.Module):
    """A net that gives hardly more than its backbone: a lower bound for any heads."""

    def __init__(self, net: SuperSimpleNet) -> None:
        super().__init__()
        self.mean, self.std = net.mean, net.std
        self.backbone = net.backbone

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to a map and a logit that need all of both layers."""
        layer2, layer3 = self.backbone(image)
        logits = layer2.mean(dim=(1, 2, 3)) + layer3.mean(dim=(1, 2, 3))
        return image.mean(dim=1), logits


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default=GPU_DEFAULT)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--widths", type=int, nargs=2, help="hidden channels of the heads")
    options = parser.parse_args()
    torch.manual_seed(0)
    size_hw = (options.size, options.size)
    backbone = Backbone(options.backbone)
    widths = default_widths(sum(backbone.channels))
    if options.widths:
        widths = HeadWidths(*options.widths)
    net = SuperSimpleNet(Architecture(options.backbone, size_hw, widths), backbone).eval()
    nets: dict[str, InspectionNet] = {
        "reference": net,
        "deploy": deploy_net(net),
        "backbone alone": BackboneAlone(net).eval(),
    }
    times = _times({name: _session(each, options) for name, each in nets.items()}, options)

    print(f"{options.backbone}, {options.size} x {options.size}, float32, batch 1, {widths}")
    print(
        f"onnxruntime {onnxruntime.__version__}, {options.threads} threads, {platform.machine()}, "
        f"median of {options.repeats}, in turn"
    )
    for name, each in times.items():
        of_turn = [first / own for first, own in zip(times["reference"], each, strict=True)]
        print(
            f"{name:20} {statistics.median(each):8.1f} ms, least {min(each):8.1f} ms, "
            f"reference / this {statistics.median(of_turn):5.2f}"
        )


def _session(net: InspectionNet, options: argparse.Namespace) -> onnxruntime.InferenceSession:
    model = onnx_from_graph(ReferenceGraph(net).eval(), input_size_hw=(options.size,) * 2)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    # Sessions that wait must not take a core from the one that runs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def _times(
    sessions: dict[str, onnxruntime.InferenceSession], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Milliseconds of each turn, after one that is not counted."""
    rng = np.random.default_rng(0)
    feeds = {
        base.PIXELS: rng.integers(0, 256, (1, options.size, options.size, 3), dtype=np.uint8),
        base.PIXEL_THRESHOLD: np.zeros(1, np.float32),
        base.REGION_MASK: np.ones((options.size, options.size), np.uint8),
    }
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(options.repeats + 1):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(None, feeds)
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: each[1:] for name, each in times.items()}


if __name__ == "__main__":
    main()
