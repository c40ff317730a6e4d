"""Train on real pictures in each regime with several seeds, and print what came out.

    python tests/benchmarks/regimes.py --data DATA --output FOLDER [--only full ...] [--seeds 0 1 2]

Each run is one `ssn_edge.training.run.train` and one evaluation of the test part; its numbers and
each picture's logits go to FOLDER/<name>/seed<N>.json, and a run that is there is not repeated.
Beside the last weights, an exponential average of them over the steps is evaluated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssn_edge.data.items import Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.evaluation.evaluate import evaluate
from ssn_edge.evaluation.judges import CheckpointJudge
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.trained import open_run
from ssn_edge.training import run as training_run
from ssn_edge.training.checkpoint import load_checkpoint
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.regime import Regime
from ssn_edge.training.request import RunRequest
from ssn_edge.training.settings import TrainingSettings
from ssn_edge.training.step import StepResult
from ssn_edge.training.trainer import Progress, Trainer
from ssn_edge.training.watcher import Watcher
from ssn_edge_calibrate import Metrics, fit_scoring_rule, image_metrics
from ssn_edge_runtime.decision import ScoringMethod, ScoringRule, Thresholds
from ssn_edge_runtime.preprocess import Geometry

COLUMNS = (
    "I-AUROC cls",
    "AP-det cls",
    "I-AUROC map",
    "AP-det map",
    "P-AUROC",
    "AP-loc",
    "AUPRO",
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One row of the table."""

    data: str
    labels: LabelChoice
    epochs: int
    input_size_hw: tuple[int, int]
    batch_size: int
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


TILE = "magnetic_tile/split.csv"
TILE_COLUMNS = {"label": "defect", "group": "tile_group"}


def tile(labels: LabelChoice, *, epochs: int) -> Experiment:
    """Magnetic tiles: 120 normal and 60 defective training pictures, 128 x 128 pixels."""
    labels = dataclasses.replace(labels, max_normal=120, max_anomalous=60)
    return Experiment(TILE, labels, epochs, (128, 128), 16, TILE_COLUMNS)


def kolektor(labels: LabelChoice, *, epochs: int) -> Experiment:
    """Commutator surfaces: all training pictures, 320 x 128 pixels."""
    return Experiment("kolektorsdd", labels, epochs, (320, 128), 8)


# An epoch of normals is 8 steps of 16 (tiles), of 60 defective pictures with flips 30.
EXPERIMENTS = {
    "tile unsupervised": tile(LabelChoice(regime=Regime.UNSUPERVISED), epochs=90),
    "tile weak": tile(LabelChoice(regime=Regime.WEAK), epochs=24),
    "tile mixed 10 %": tile(LabelChoice(regime=Regime.MIXED, masks=6), epochs=24),
    "tile mixed 20 %": tile(LabelChoice(regime=Regime.MIXED, masks=12), epochs=24),
    "tile full": tile(LabelChoice(regime=Regime.FULL), epochs=24),
    "kolektor unsupervised": kolektor(LabelChoice(regime=Regime.UNSUPERVISED), epochs=144),
    "kolektor full": kolektor(LabelChoice(regime=Regime.FULL), epochs=60),
}


class AveragingTrainer(Trainer):
    """Keeps an exponential average of the heads beside them."""

    decay = 0.99
    latest: AveragingTrainer | None = None

    def _one_step(self) -> StepResult:
        result = super()._one_step()
        state = self._net.heads.state_dict()
        if self.step == 1:
            self.average = {name: value.clone() for name, value in state.items()}
        # A short memory at first, or the average would remember the untrained net.
        decay = min(self.decay, self.step / (self.step + 10))
        for name, value in state.items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
        AveragingTrainer.latest = self
        return result


def numbers(metrics: Metrics) -> list[float | None]:
    """One row in the order of `COLUMNS`."""
    return [
        metrics.classification.i_auroc,
        metrics.classification.ap_det,
        metrics.map_max.i_auroc,
        metrics.map_max.ap_det,
        metrics.pixel.p_auroc,
        metrics.pixel.ap_loc,
        metrics.pixel.aupro,
    ]


def measure(
    net: SuperSimpleNet, geometry: Geometry, rule: MaskRule, test: Sequence[Item]
) -> tuple[list[float | None], list[dict[str, object]]]:
    """Metrics of the test part, and each picture's logits."""
    judge = CheckpointJudge(net, geometry, ScoringRule.MAP_MAX, Thresholds(image=0.0, pixel=0.0))
    found = evaluate(judge, test, mask_rule=rule, geometry=geometry)
    logits = [
        {
            "image": each.item.image.name,
            "label": each.item.label,
            "class": each.item.defect_class,
            "classification": each.decision.classification_logit,
            "map_max": each.decision.map_max_logit,
        }
        for each in found.judged
    ]
    return numbers(found.metrics), logits


def perform(
    experiment: Experiment,
    seed: int,
    folder: Path,
    settings: Mapping[str, object],
    options: argparse.Namespace,
) -> dict[str, object]:
    """Train and evaluate once."""
    request = RunRequest(
        options.data / experiment.data,
        columns=experiment.columns,
        backbone=options.backbone,
        backbone_weights=options.backbone_weights,
        geometry=Geometry(experiment.input_size_hw),
        labels=experiment.labels,
        device="cpu",
        settings=TrainingSettings(
            epochs=experiment.epochs,
            batch_size=experiment.batch_size,
            seed=seed,
            learning_rate_scale=4.0,
        ),
    )
    changed = dict(settings)
    request = dataclasses.replace(
        request,
        settings=dataclasses.replace(request.settings, **changed),  # type: ignore[arg-type]
    )
    last: list[Progress] = []
    training_run.Trainer = AveragingTrainer  # type: ignore[misc]
    result = training_run.train(
        request,
        folder,
        Watcher(
            on_message=lambda line: print("   ", line, flush=True),
            on_step=lambda now: (last.clear(), last.append(now))[0],
            save_every_s=1e9,
        ),
    )
    assert result.checkpoint is not None
    run = open_run(result.checkpoint)
    parts = (*run.split.calibration, *run.split.test)
    row, logits = measure(run.net, run.geometry, run.mask_rule, run.split.test)
    _, calibration = measure(
        run.net,
        run.geometry,
        run.mask_rule,
        [item for item in run.split.calibration if not item.is_anomalous],
    )
    assert AveragingTrainer.latest is not None
    run.net.heads.load_state_dict(AveragingTrainer.latest.average)
    averaged, averaged_logits = measure(run.net, run.geometry, run.mask_rule, run.split.test)
    return {
        "seed": seed,
        "regime": result.regime.value,
        "steps": result.steps[1],
        "seconds": result.seconds,
        "loss": last[0].loss,
        "separation": last[0].separation,
        "numbers": row,
        "averaged": averaged,
        "logits": logits,
        "averaged_logits": averaged_logits,
        "calibration_logits": calibration,
        "pictures": len(parts),
        "settings": dict(settings),
        "training": load_checkpoint(result.checkpoint).header["request"]["settings"],
    }


def show(name: str, results: Sequence[Mapping[str, object]], key: str) -> str:
    """A Markdown row of means and sample deviations."""
    cells = []
    for column in range(len(COLUMNS)):
        values = [float(result[key][column]) for result in results]  # type: ignore[index]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
    return f"| {name} ({len(results)}) | " + " | ".join(cells) + " |"


def show_scores(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown row: I-AUROC and AP-det of each scoring method."""
    cells = []
    for method in ScoringMethod:
        found = []
        for result in results:
            normals = result["calibration_logits"]
            rule = fit_scoring_rule(
                method,
                [each["classification"] for each in normals],
                [each["map_max"] for each in normals],
            )
            scores = [
                rule.score(each["classification"], each["map_max"]) for each in result["logits"]
            ]
            found.append(image_metrics([each["label"] for each in result["logits"]], scores))
        for values in ([m.i_auroc or 0.0 for m in found], [m.ap_det or 0.0 for m in found]):
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
    return f"| {name} ({len(results)}) | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(EXPERIMENTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="training settings, as noise_std=0.25")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a timm name")
    parser.add_argument("--backbone-weights", type=Path, help="file of its pretrained weights")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {name: json.loads(value) for name, value in (s.split("=") for s in options.set)}
    for seed in options.seeds:
        for name in options.only:
            file = options.output / name / f"seed{seed}.json"
            if file.is_file():
                continue
            print(name, "seed", seed, flush=True)
            folder = options.output / name / f"seed{seed}"
            found = perform(EXPERIMENTS[name], seed, folder, settings, options)
            file.write_text(json.dumps(found), encoding="utf-8")
            print("   ", np.round(np.array(found["numbers"], dtype=float), 3), flush=True)
    for key in ("numbers", "averaged"):
        print(f"\n{key}\n| run | " + " | ".join(COLUMNS) + " |")
        print("|---" * (len(COLUMNS) + 1) + "|")
        for name in options.only:
            files = sorted((options.output / name).glob("seed*.json"))
            print(show(name, [json.loads(file.read_text()) for file in files], key))
    print(
        "\n| run | "
        + " | ".join(f"I-AUROC {m.value} | AP-det {m.value}" for m in ScoringMethod)
        + " |"
    )
    print("|---" * 7 + "|")
    for name in options.only:
        files = sorted((options.output / name).glob("seed*.json"))
        print(show_scores(name, [json.loads(file.read_text()) for file in files]))


if __name__ == "__main__":
    sys.exit(main())
