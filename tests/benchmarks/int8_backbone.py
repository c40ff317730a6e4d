"""Whether heads that are trained on a quantised backbone's features decide better in INT8.

    python tests/benchmarks/int8_backbone.py CHECKPOINT --epochs 3 --seeds 1 2

The trained heads of a run are trained on, equally long on features of the INT8 backbone ("rounded")
and on those of the float one ("control"); both go into deploy graphs, judged in ONNX Runtime on the
test part. The INT8 backbone is that of the INT8 deploy graph, bit for bit: training runs it.

Columns: I-AUROC and AP-det of the classification score, P-AUROC and AP-loc in percent; good parts
rejected and defects passed, at each graph's own threshold from the calibration normals. Then
against the float graph above, or what the line names: shift and deviation (noise) of the changes of
both scores over normal pictures, in deviations of its scores, and flipped verdicts. At the end,
changes of both image metrics in points with a paired 95 % interval over pictures.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from int8 import deploy_model, outputs, part
from torch import Tensor, nn

from ssn_edge.model.backbone import Backbone
from ssn_edge.trained import open_run
from ssn_edge.training.cache import FeatureCache
from ssn_edge.training.checkpoint import load_checkpoint
from ssn_edge.training.regime import Regime, supervision
from ssn_edge.training.request import request_from_dict
from ssn_edge.training.sampling import BalancedSampler
from ssn_edge.training.trainer import Trainer
from ssn_edge_calibrate import image_metrics, pixel_metrics, threshold_by_rank
from ssn_edge_calibrate.int8_layers import BY_CHANNEL, MOVES, Wiring, int8_layers
from ssn_edge_calibrate.int8_model import int8_from_fp32
from ssn_edge_export.gate_limits import spread_of
from ssn_edge_export.gate_metrics import image_changes
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.engines.onnxruntime import import_onnxruntime

PASSED = MOVES | BY_CHANNEL | {"QuantizeLinear", "DequantizeLinear"}
"""Operators between a layer of the backbone and a projection of the heads."""


class RoundedBackbone(nn.Module):
    """The backbone of an INT8 deploy graph in the place of a net's own, to cache features."""

    def __init__(self, backbone: Backbone, model: bytes) -> None:
        super().__init__()
        self.normalisation = backbone.normalisation
        self.layer_shapes = backbone.layer_shapes
        proto = onnx.load_from_string(model)
        self.names = layer_names(proto)
        describe = onnx.helper.make_tensor_value_info
        proto.graph.output.extend(describe(name, 1, None) for name in self.names)  # of float32
        self.session = import_onnxruntime().InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) normalised to both layers; the graph wants the bytes that it was made of."""
        std = torch.tensor(self.normalisation.std).view(1, 3, 1, 1)
        mean = torch.tensor(self.normalisation.mean).view(1, 3, 1, 1)
        values = ((image * std + mean) * 255.0).flip(1).permute(0, 2, 3, 1)  # (B, H, W, 3), BGR
        feeds = {
            base.PIXELS: values.round().to(torch.uint8).numpy(),
            base.PIXEL_THRESHOLD: np.zeros(1, np.float32),
            base.REGION_MASK: np.ones(image.shape[2:], np.uint8),
        }
        layer2, layer3 = (torch.from_numpy(each) for each in self.session.run(self.names, feeds))
        return layer2, layer3


def layer_names(model: onnx.ModelProto) -> list[str]:
    """Tensors of layer2 and layer3: what the segmentation head's projections are made of."""
    wiring = Wiring(model.graph)
    found = []
    for node in wiring.nodes:
        if node.op_type != "Conv" or not node.input[1].startswith("net.segmentation.weights."):
            continue
        tensor = node.input[0]
        while (maker := wiring.maker[tensor]).op_type in PASSED:
            of = [name for name in maker.input if name not in wiring.constants]
            if len(of) != 1:
                break  # a residual addition
            tensor = of[0]
        found.append(str(tensor))
    if len(found) != 2:
        raise SystemExit(f"{len(found)} projections of the segmentation head; 2 are wanted")
    return found


class Row(NamedTuple):
    logits: npt.NDArray[np.float64]  # (pictures, 2)
    fails: npt.NDArray[np.bool_]


class Experiment:
    """A trained run, its pictures, and the table."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self.run = open_run(path)
        header: Any = load_checkpoint(path).header
        self.settings = dataclasses.replace(
            request_from_dict(header["request"]).settings,
            epochs=options.epochs,
            learning_rate_scale=options.learning_rate_scale,
        )
        self.noise_std = float(header["noise_std"])
        split = self.run.split
        normals = [each for each in split.train if not each.is_anomalous]
        chosen = np.arange(options.pictures) * len(normals) // options.pictures
        self.pixels = part(self.run, [normals[index] for index in chosen]).pixels
        self.calibration = part(self.run, [each for each in split.calibration if not each.label])
        self.test = part(self.run, split.test[:: options.every])
        self.labels = np.array(self.test.labels, dtype=np.int64)
        self.plan = supervision(Regime(self.run.regime), self.run.net.architecture.variant)
        self.column = 0 if self.run.scoring is ScoringMethod.CLASSIFICATION else 1

    def int8(self, model: bytes, *, heads: bool = True) -> bytes:
        """A deploy graph in INT8, or its backbone alone."""
        layers = int8_layers(Wiring(onnx.load_from_string(model).graph))
        kept = [] if heads else [each.name for each in layers if "backbone" not in each.name]
        return int8_from_fp32(model, self.pixels, float_layers=kept).model

    def cache(self, model: bytes | None) -> FeatureCache:
        """Features of the training part, of an INT8 graph's backbone or of the float one."""
        net = copy.copy(self.run.net)
        if model is not None:
            rounded = RoundedBackbone(self.run.net.backbone, model)
            # The run's net keeps its own: a shallow copy shares this dictionary.
            net._modules = {**net._modules, "backbone": rounded}
        return FeatureCache(
            self.run.split.train,
            net,
            geometry=self.run.geometry,
            mask_rule=self.run.mask_rule,
            flips=self.plan.flips,
            dilate=self.plan.dilate,
            weighted=self.plan.distance_weights,
            device=torch.device("cpu"),
        )

    def tuned(self, cache: FeatureCache, seed: int) -> bytes:
        """The deploy graph of the run's net, its heads trained on."""
        net = copy.deepcopy(self.run.net)
        settings = dataclasses.replace(self.settings, seed=seed)
        sampler = BalancedSampler(cache.normals, cache.anomalous, seed)
        trainer = Trainer(
            net, cache, sampler, settings=settings, plan=self.plan, noise_std=self.noise_std
        )
        trainer.run()
        print(f"  seed {seed}: loss by epoch {np.round(trainer.losses, 4)}, {clock()}")
        return deploy_model(net)

    def row(self, name: str, model: bytes, reference: Row | None = None) -> Row:
        """Judge the test part and print a line."""
        normal = outputs(model, self.calibration).logits[:, self.column]
        found = outputs(model, self.test)
        fails = found.logits[:, self.column] >= threshold_by_rank(normal).value
        known = [place for place, mask in enumerate(self.test.masks) if mask is not None]
        maps, masks = ([of[place] for place in known] for of in (found.maps, self.test.masks))
        pixels = pixel_metrics(maps, masks)
        image = image_metrics(self.labels, found.logits[:, 0])
        shares = (image.i_auroc, image.ap_det, pixels.p_auroc, pixels.ap_loc)
        columns = [f"{100 * (value or 0):6.2f}" for value in shares]
        good = self.labels == 0
        columns += [f"{int((fails & good).sum()):6d}", f"{int((~fails & ~good).sum()):6d}"]
        if reference is not None:
            for column in (0, 1):
                spread = spread_of(reference.logits[good, column].tolist())
                change = (found.logits - reference.logits)[good, column] / spread
                columns += [f"{change.mean():+6.3f}", f"{change.std():6.3f}"]
            columns.append(f"{int((fails != reference.fails).sum()):6d}")
        print(f"{name:44} {' '.join(columns)}", flush=True)
        return Row(found.logits, fails)

    def difference(self, name: str, before: Row, after: Row) -> None:
        """Print how both image metrics change from one graph to another."""
        texts = []
        for each in image_changes(self.labels, before.logits[:, 0], after.logits[:, 0]):
            low, high = (100 * value for value in each.interval or (0.0, 0.0))
            texts.append(f"{each.name} {each.change_points:+.2f} [{low:+.2f}, {high:+.2f}]")
        print(f"  {name:52} {'  '.join(texts)}", flush=True)


NAMES = ("cls-AU", "cls-AP", "P-AU", "AP-loc", "reject", "missed")
CHANGES = ("shcls", "nocls", "shmap", "nomap", "flips")


def clock() -> str:
    return f"{time.process_time():.0f} s of CPU"


def compare(trial: Experiment, seeds: list[int]) -> None:
    """Print the table."""
    plain = deploy_model(trial.run.net)
    rounded = trial.int8(plain)
    print(f"{'':44} {' '.join(f'{each:>6}' for each in NAMES + CHANGES)}")
    first = trial.row("float", plain)
    first_int8 = trial.row("  INT8", rounded, first)
    with trial.cache(None) as on_float, trial.cache(rounded) as on_int8:
        print(f"  both caches, {clock()}")
        for seed in seeds:
            control, tuned = trial.tuned(on_float, seed), trial.tuned(on_int8, seed)
            c = trial.row(f"control {seed}", control)
            c_back = trial.row("  INT8 backbone", trial.int8(control, heads=False), c)
            c_int8 = trial.row("  INT8", trial.int8(control), c)
            t = trial.row(f"rounded {seed}", tuned)
            t_back = trial.row("  INT8 backbone", trial.int8(tuned, heads=False), t)
            t_int8 = trial.row("  INT8", trial.int8(tuned), t)
            trial.row("  INT8, against the INT8 backbone", trial.int8(tuned), t_back)
            for name, before, after in (
                ("INT8: rounded less control", c_int8, t_int8),
                ("INT8 backbone: rounded less control", c_back, t_back),
                ("float: rounded less control", c, t),
                ("control: INT8 less float", c, c_int8),
                ("rounded: INT8 less float", t, t_int8),
                ("INT8 rounded less float control", c, t_int8),
                ("float: control less the run", first, c),
                ("the run: INT8 less float", first, first_int8),
            ):
                trial.difference(name, before, after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate-scale", type=float, default=1.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--pictures", type=int, default=64, help="normal ones, for the ranges")
    parser.add_argument("--every", type=int, default=1, help="judge every n-th test picture")
    options = parser.parse_args()
    torch.manual_seed(0)
    compare(Experiment(options.checkpoint, options), options.seeds)


if __name__ == "__main__":
    main()
