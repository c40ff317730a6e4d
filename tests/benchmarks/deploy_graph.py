"""Time of the reference graph and of the deploy graph on a CPU.

    python tests/benchmarks/deploy_graph.py --backbone resnet18 --size 256 --threads 2
    python tests/benchmarks/deploy_graph.py --engine openvino --inference-precision bf16

Both graphs have the same random weights and are run in turn; the backbone alone is run with them, a
lower bound for any heads. Ratios are of the two runs of one turn. On a machine with other work the
processor time of one thread says more than the time on the wall: both are given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssn_edge.model.backbone import GPU_DEFAULT, Backbone
from ssn_edge.model.heads import HeadWidths, default_widths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_export.reference_graph import ReferenceGraph
from ssn_edge_runtime.device_info import describe_device
from ssn_edge_runtime.engines import base

REFERENCE, DEPLOY, BACKBONE = "reference", "deploy", "backbone alone"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class BackboneAlone(nn.Module):
    """A net that gives hardly more than its backbone."""

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
    """Print a table, and write it as JSON where that is wanted."""
    options = _options()
    net = _net(options)
    graphs = {
        REFERENCE: inspection_graph(net, GraphKind.REFERENCE),
        DEPLOY: inspection_graph(net, GraphKind.DEPLOY),
        BACKBONE: ReferenceGraph(BackboneAlone(net)).eval(),
    }
    load = {"onnxruntime": _onnxruntime, "openvino": _openvino}[options.engine]
    runs = {
        name: load(
            onnx_from_graph(graph, input_size_hw=(options.size,) * 2, version="benchmark"), options
        )
        for name, graph in graphs.items()
    }
    times = _times(runs, _feeds(options.size), options.repeats)
    result = {
        "backbone": options.backbone,
        "widths": [net.architecture.widths.segmentation, net.architecture.widths.classification],
        "input": [options.size, options.size],
        "batch": 1,
        "engine": options.engine,
        "inference_precision": options.inference_precision,
        "threads": options.threads,
        "repeats": options.repeats,
        "load_average_after": os.getloadavg()[0],
        "milliseconds": {clock: _summary(of_clock) for clock, of_clock in times.items()},
        "python": platform.python_version(),
        "device": describe_device().to_dict(),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(
        f"{options.backbone} {result['widths']}, {options.size} x {options.size}, batch 1, "
        f"{options.engine} {options.inference_precision}, {options.threads} threads, "
        f"median of {options.repeats} in turn, load {result['load_average_after']:.1f}"
    )
    for clock, of_clock in result["milliseconds"].items():
        for name, each in of_clock.items():
            print(
                f"{clock:10} {name:15} {each['median']:8.1f} ms, least {each['least']:8.1f} ms, "
                f"reference / this {each['reference_over_this']:5.2f}"
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default=GPU_DEFAULT)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--widths", type=int, nargs=2, help="hidden channels of the heads")
    parser.add_argument("--engine", choices=("onnxruntime", "openvino"), default="onnxruntime")
    parser.add_argument("--inference-precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    if options.engine == "onnxruntime" and options.inference_precision != "f32":
        parser.error("ONNX Runtime computes in the file's precision; bf16 needs --engine openvino")
    return options


def _net(options: argparse.Namespace) -> SuperSimpleNet:
    torch.manual_seed(0)
    backbone = Backbone(options.backbone)
    widths = default_widths(sum(backbone.channels))
    if options.widths:
        widths = HeadWidths(*options.widths)
    size_hw = (options.size, options.size)
    net = SuperSimpleNet(Architecture(options.backbone, size_hw, widths), backbone).eval()
    with torch.no_grad():
        net.features.mean.uniform_(0, 1)
        net.features.std.uniform_(0.5, 2)
    return net


Feeds = dict[str, np.ndarray]


def _onnxruntime(model: bytes, options: argparse.Namespace) -> Callable[[Feeds], object]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.add_free_dimension_override_by_name(base.BATCH, 1)
    # Sessions that wait must not take a core from the one that runs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def _openvino(model: bytes, options: argparse.Namespace) -> Callable[[Feeds], object]:
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({base.PIXELS: [1, options.size, options.size, 3]})
    request = core.compile_model(
        network,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": options.inference_precision,
            "INFERENCE_NUM_THREADS": options.threads,
            "PERFORMANCE_HINT": "LATENCY",
        },
    ).create_infer_request()
    return lambda feeds: request.infer(feeds)


def _feeds(size: int) -> Feeds:
    rng = np.random.default_rng(0)
    return {
        base.PIXELS: rng.integers(0, 256, (1, size, size, 3), dtype=np.uint8),
        base.PIXEL_THRESHOLD: np.zeros(1, np.float32),
        base.REGION_MASK: np.ones((size, size), np.uint8),
    }


def _times(
    runs: dict[str, Callable[[Feeds], object]], feeds: Feeds, repeats: int
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each turn by clock and graph, after one turn that is not counted."""
    times: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name in runs} for clock in CLOCKS
    }
    for turn in range(repeats + 1):
        for name, run in runs.items():
            started = {clock: now() for clock, now in CLOCKS.items()}
            run(feeds)
            for clock, now in CLOCKS.items():
                if turn:
                    times[clock][name].append(1000 * (now() - started[clock]))
    return times


def _summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median": statistics.median(each),
            "least": min(each),
            "reference_over_this": statistics.median(
                first / own for first, own in zip(times[REFERENCE], each, strict=True)
            ),
        }
        for name, each in times.items()
    }


if __name__ == "__main__":
    main()
