"""What INT8 does to a trained net's decisions, by range method, pictures and layers left in float.

    python tests/benchmarks/int8.py CHECKPOINT --ranges max mse --pictures 32 256
    python tests/benchmarks/int8.py CHECKPOINT --keep features first depthwise projections
    python tests/benchmarks/int8.py CHECKPOINT --sensitivity 6

The deploy graph of the run's net judges the test part in ONNX Runtime, in float and in INT8; the
rest of an INT8 graph stays in float32. Ranges come from normal training pictures; the threshold is
fitted on the calibration part by the float graph. Columns, in percent: I-AUROC and AP-det of the
classification score and of the map's maximum, P-AUROC, AP-loc; then how far both scores moved, in
deviations over normal pictures: the mean, and the 99 % quantile; then flipped verdicts.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ssn_edge.data.items import Item
from ssn_edge.data.loading import load_item
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.trained import TrainedRun, open_run
from ssn_edge_calibrate import image_metrics, pixel_metrics, threshold_by_rank
from ssn_edge_calibrate.int8_layers import Int8Layer
from ssn_edge_calibrate.int8_model import DEFAULT_RANGES, observe_model
from ssn_edge_calibrate.int8_ranges import RangeMethod
from ssn_edge_calibrate.int8_run import outputs_of
from ssn_edge_calibrate.int8_sensitivity import layer_sensitivities
from ssn_edge_export.onnx_model import GraphKind, inspection_graph, onnx_from_graph
from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.preprocess import preprocess, preprocess_mask

OUTPUTS = (base.CLASSIFICATION_LOGIT, base.MAP_MAX_LOGIT, base.ANOMALY_MAP)


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Pictures of one part of the data, with what is true of them."""

    pixels: list[ByteImage]
    labels: list[int]
    masks: list[BoolMask | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """What a graph gave for a part."""

    logits: npt.NDArray[np.float64]  # (pictures, 2)
    maps: list[FloatArray]


class Judged:
    """A trained run and its float graph's outputs, to compare with."""

    def __init__(self, run: TrainedRun, every: int) -> None:
        self.run = run
        self.model = deploy_model(run.net)
        self.normals = part(run, [each for each in run.split.train if not each.is_anomalous])
        self.calibration = part(
            run, [each for each in run.split.calibration if not each.is_anomalous]
        )
        self.test = part(run, run.split.test[::every])
        self.float = outputs(self.model, self.test)
        self.column = 0 if run.scoring is ScoringMethod.CLASSIFICATION else 1
        self.set_threshold(self.model)

    def set_threshold(self, model: bytes) -> None:
        """Fit it on the calibration part by a graph."""
        normal = outputs(model, self.calibration).logits[:, self.column]
        self.threshold = threshold_by_rank(normal).value

    def line(self, name: str, model: bytes) -> None:
        """Print one row of the table."""
        found = self.float if model == self.model else outputs(model, self.test)
        both = [image_metrics(self.test.labels, found.logits[:, column]) for column in (0, 1)]
        known = [index for index, mask in enumerate(self.test.masks) if mask is not None]
        pixels = pixel_metrics(
            [found.maps[index] for index in known], [self.test.masks[index] for index in known]
        )
        changes = np.abs(found.logits - self.float.logits)
        spread = self.float.logits[np.array(self.test.labels) == 0].std(axis=0)
        fails = [each.logits[:, self.column] >= self.threshold for each in (found, self.float)]
        columns = [
            *(f"{100 * value:6.2f}" for each in both for value in (each.i_auroc, each.ap_det)),
            *(f"{100 * value:6.2f}" for value in (pixels.p_auroc, pixels.ap_loc)),
            *(f"{value:6.3f}" for value in changes.mean(axis=0) / spread),
            *(f"{value:6.3f}" for value in np.quantile(changes, 0.99, axis=0) / spread),
            f"{int((fails[0] != fails[1]).sum()):4d}",
        ]
        print(f"{name:48} {' '.join(columns)}", flush=True)


NAMES = (
    *("cls-AU", "cls-AP", "map-AU", "map-AP", "P-AU", "AP-loc"),
    *("dcls", "dmap", "q99cls", "q99map", "flips"),
)
HEADER = f"{'':48} " + " ".join(f"{each:>6}" for each in NAMES)


def part(run: TrainedRun, items: Sequence[Item]) -> Part:
    """Read and preprocess pictures."""
    loaded = [load_item(item, run.mask_rule) for item in items]
    return Part(
        [preprocess(each.image, run.geometry) for each in loaded],
        [item.label for item in items],
        [
            None if each.gt_mask is None else preprocess_mask(each.gt_mask, run.geometry)
            for each in loaded
        ],
    )


def outputs(model: bytes, of: Part) -> Outputs:
    """Both logits and the map of each picture."""
    found = [
        (float(classification[0]), float(map_max[0]), anomaly_map[0].copy())
        for classification, map_max, anomaly_map in outputs_of(model, of.pixels, OUTPUTS)
    ]
    return Outputs(np.array([each[:2] for each in found]), [each[2] for each in found])


def deploy_model(net: SuperSimpleNet) -> bytes:
    """The deploy graph as ONNX."""
    return onnx_from_graph(
        inspection_graph(net, GraphKind.DEPLOY),
        input_size_hw=net.anomaly_map.size_hw,
        version=GraphKind.DEPLOY.version,
    )


def kept_in_float(kind: str, layers: Sequence[Int8Layer]) -> list[str]:
    """Names of layers of a kind."""
    backbone = [each for each in layers if each.kind == "Conv"]
    projections = [each for each in layers if each.kind == "MatMul"]
    of_heads = {name for each in projections for name in each.inputs}
    chosen: Mapping[str, Sequence[Int8Layer]] = {
        "none": [],
        "first": backbone[:1],
        "depthwise": [each for each in backbone if each.is_depthwise],
        "projections": projections,
        "segmentation": [each for each in projections if "segmentation" in each.name],
        "classification": [each for each in projections if "classification" in each.name],
        # Everything that reads what the heads read: the features are never rounded.
        "features": [each for each in layers if not of_heads.isdisjoint(each.inputs)],
        "backbone": backbone,
    }
    return [each.name for each in chosen[kind]]


def evenly(pixels: list[ByteImage], count: int) -> list[ByteImage]:
    """So many of them, evenly out of all."""
    return [pixels[index * len(pixels) // count] for index in range(min(count, len(pixels)))]


def compare(judged: Judged, options: argparse.Namespace) -> None:
    """Ranges by each method and number of pictures, and layers of each kind left in float."""
    for count in options.pictures:
        observed = observe_model(judged.model, evenly(judged.normals.pixels, count))
        for ranges in options.ranges:
            for kinds in options.keep:
                kept = sorted(
                    {
                        name
                        for kind in kinds.split("+")
                        for name in kept_in_float(kind, observed.layers)
                    }
                )
                int8 = observed.quantised(ranges=RangeMethod(ranges), float_layers=kept)
                judged.line(f"{ranges}, {count} pictures, float: {kinds}", int8.model)


def by_sensitivity(judged: Judged, options: argparse.Namespace) -> None:
    """Leave the most harmful layers in float, one more each time."""
    pixels = evenly(judged.normals.pixels, options.pictures[0])
    ranges = RangeMethod(options.ranges[0])
    found = layer_sensitivities(judged.model, pixels, ranges=ranges)
    for each in found[: max(12, options.sensitivity)]:
        print(f"  harm {each.harm:7.4f}  {each.name}")
    observed = observe_model(judged.model, pixels)
    for count in range(options.sensitivity + 1):
        left = [each.name for each in found[:count]]
        model = observed.quantised(ranges=ranges, float_layers=left).model
        judged.line(f"{ranges.value}, {count} most harmful in float", model)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--ranges", nargs="+", default=[DEFAULT_RANGES.value])
    parser.add_argument("--pictures", nargs="+", type=int, default=[128])
    parser.add_argument("--keep", nargs="+", default=["none"])
    parser.add_argument("--sensitivity", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="judge every n-th test picture")
    options = parser.parse_args()
    torch.manual_seed(0)
    judged = Judged(open_run(options.checkpoint), options.every)
    print(HEADER)
    judged.line("float", judged.model)
    if options.sensitivity:
        by_sensitivity(judged, options)
    else:
        compare(judged, options)


if __name__ == "__main__":
    main()
