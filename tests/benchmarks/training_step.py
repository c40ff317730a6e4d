"""Time, memory and agreement of a training step, straightforward and rewritten.

    python tests/benchmarks/training_step.py --threads 2

Three ways to do the same step, in turn in one run: the published schedule (backbone and
straightforward step), the straightforward step on cached features, and the split step on cached
features. Weights and pictures are random, masks and noise those of training.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ssn_edge.model.anomaly_generator import generate_anomalies, sample_keys
from ssn_edge.model.backbone import Backbone
from ssn_edge.model.heads import HeadWidths, default_widths
from ssn_edge.model.supersimplenet import Architecture, SuperSimpleNet
from ssn_edge.model.variant import Variant
from ssn_edge.training.cache import Batch
from ssn_edge.training.regime import Regime, Supervision, supervision
from ssn_edge.training.split_step import split_training_step
from ssn_edge.training.step import StepResult, training_step

NOISE_STD = 0.5  # of features that are standardised
ZERO_GRADIENTS = ("hidden.bias", "adaptor.projection.bias")
"""Their true gradient is zero or, in the conference variant's adaptor, the border's alone."""


class Bench:
    """A net, a batch, and the three ways."""

    def __init__(self, options: argparse.Namespace, threshold: float) -> None:
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)
        size_hw = (options.size, options.size)
        backbone = Backbone(options.backbone)
        widths = default_widths(sum(backbone.channels))
        if options.widths:
            widths = HeadWidths(*options.widths)
        variant = Variant(options.variant)
        self.net = SuperSimpleNet(
            Architecture(options.backbone, size_hw, widths, variant), backbone
        )
        self.net.to(self.device).train()
        self.image = torch.randn((options.batch_size, 3, *size_hw), device=self.device)
        with torch.no_grad():
            layers = backbone(self.image)
            feature = self.net.features.pooled(*layers)
            self.net.features.standardise_by(
                feature.mean(dim=(0, 2, 3)), feature.std(dim=(0, 2, 3))
            )
        self.cached = [layer.half() for layer in layers]  # as the cache keeps them
        self.plan: Supervision = dataclasses.replace(
            supervision(Regime.UNSUPERVISED, variant),
            perlin_threshold=threshold,
            detach_map=options.detach_map,
        )
        self.optimiser = torch.optim.AdamW(self.net.heads.parameters(), lr=1e-6)
        self.ways: dict[str, Callable[[int], StepResult]] = {
            "straightforward": self.straightforward,
            "cached": self.cached_features,
            "split": self.split,
        }

    def keys(self, number: int) -> Tensor:
        return sample_keys(0, number, torch.arange(len(self.image), device=self.device))

    def batch(self, layers: Sequence[Tensor]) -> Batch:
        """Normal pictures."""
        count, grid_hw = len(self.image), [2 * side for side in layers[0].shape[2:]]
        device = self.device
        return Batch(
            layer2=layers[0].float(),
            layer3=layers[1].float(),
            mask=torch.zeros((count, *grid_hw), dtype=torch.bool, device=device),
            weight=torch.ones((count, *grid_hw), device=device),
            known=torch.ones(count, dtype=torch.bool, device=device),
            label=torch.zeros(count, dtype=torch.bool, device=device),
        )

    def straightforward(self, number: int) -> StepResult:
        with torch.no_grad():
            layers = self.net.backbone(self.image)
        return self.step(training_step, self.batch(layers), number)

    def cached_features(self, number: int) -> StepResult:
        return self.step(training_step, self.batch(self.cached), number)

    def split(self, number: int) -> StepResult:
        return self.step(split_training_step, self.batch(self.cached), number)

    def step(self, step: Callable[..., StepResult], batch: Batch, number: int) -> StepResult:
        self.optimiser.zero_grad(set_to_none=True)
        result = step(self.net, batch, plan=self.plan, noise_std=NOISE_STD, keys=self.keys(number))
        result.loss.backward()  # type: ignore[no-untyped-call]
        return result

    def seconds(self, work: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def coverage(self, repeats: int) -> float:
        batch = self.batch(self.cached)
        drawn = [
            generate_anomalies(
                batch.mask,
                batch.label,
                keys=self.keys(number),
                channels=1,
                noise_std=NOISE_STD,
                perlin_threshold=self.plan.perlin_threshold,
            ).synthetic
            for number in range(repeats)
        ]
        return float(torch.stack(drawn).float().mean())

    def gradients(self) -> dict[str, Tensor]:
        return {
            name: parameter.grad.double()
            for name, parameter in self.net.heads.named_parameters()
            if parameter.grad is not None and not name.endswith(ZERO_GRADIENTS)
        }

    def answer(self, way: str, *, double: bool = False) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients of step 0; in double precision from the same single-precision data."""
        if not double:
            loss = float(self.ways[way](0).loss.detach())
            return loss, self.gradients()
        bench = copy.copy(self)
        bench.net = copy.deepcopy(self.net).double()
        batch = self.batch(self.cached)
        batch = dataclasses.replace(
            batch, layer2=batch.layer2.double(), layer3=batch.layer3.double()
        )
        loss = float(bench.step(training_step, batch, 0).loss.detach())
        return loss, bench.gradients()


def profile(bench: Bench, repeats: int) -> None:
    """Where a step's time goes: medians of its parts."""
    channels = sum(bench.net.backbone.channels)
    batch = bench.batch(bench.cached)

    def draw(number: int) -> object:
        return generate_anomalies(
            batch.mask,
            batch.label,
            keys=bench.keys(number),
            channels=channels,
            noise_std=NOISE_STD,
            perlin_threshold=bench.plan.perlin_threshold,
        )

    def look() -> object:
        with torch.no_grad():
            return bench.net.backbone(bench.image)

    parts: dict[str, list[float]] = {}
    for number in range(repeats):
        parts.setdefault("backbone", []).append(bench.seconds(look))
        parts.setdefault("masks and noise", []).append(
            bench.seconds(lambda number=number: draw(number))
        )
        for name, step in (("straightforward", training_step), ("split", split_training_step)):
            bench.optimiser.zero_grad(set_to_none=True)
            bench.wait()
            started = time.perf_counter()
            keys = bench.keys(number)
            result = step(bench.net, batch, plan=bench.plan, noise_std=NOISE_STD, keys=keys)
            bench.wait()
            between = time.perf_counter()
            result.loss.backward()  # type: ignore[no-untyped-call]
            bench.wait()
            parts.setdefault(f"{name}, forward", []).append(between - started)
            parts.setdefault(f"{name}, backward", []).append(time.perf_counter() - between)
        parts.setdefault("optimiser", []).append(bench.seconds(bench.optimiser.step))
    for name, seconds in parts.items():
        print(f"  {name:26} {statistics.median(seconds):8.3f} s")


def difference(
    found: tuple[float, dict[str, Tensor]], wanted: tuple[float, dict[str, Tensor]]
) -> str:
    """Relative, of the loss and of the worst gradient."""
    loss = abs(found[0] / wanted[0] - 1)
    gradients = {
        name: float((found[1][name] - gradient).norm() / gradient.norm())
        for name, gradient in wanted[1].items()
        if float(gradient.norm()) > 0
    }
    worst = max(gradients, key=lambda name: gradients[name])
    return f"loss {loss:.1e}, largest of a gradient {gradients[worst]:.1e} ({worst})"


def peak_bytes(way: str, threshold: float, options: argparse.Namespace) -> int:
    """Above what net and data take; in a process of its own, on a CPU."""
    if options.device.startswith("cuda"):
        bench = Bench(options, threshold)
        bench.ways[way](0)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        bench.ways[way](0)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    words = [arg for arg in sys.argv[1:] if arg != "--memory"]
    command = [sys.executable, __file__, *words, "--only-memory-of", way, str(threshold)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(json.loads(answer.splitlines()[-1]))


def print_own_peak(way: str, threshold: float, options: argparse.Namespace) -> None:
    bench = Bench(options, threshold)
    status = Path("/proc/self/status").read_text()
    before = next(int(line.split()[1]) for line in status.splitlines() if line[:6] == "VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    bench.ways[way](0)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line[:6] == "VmHWM:")
    print(json.dumps(1024 * (peak - before)))


def measure(threshold: float, options: argparse.Namespace) -> None:
    bench = Bench(options, threshold)
    for way in bench.ways.values():  # warm
        way(0)
    if options.profile:
        print(
            f"\nParts of a step, Perlin threshold {threshold}; forward draws masks and noise, too"
        )
        profile(bench, options.repeats)
    times: dict[str, list[float]] = {name: [] for name in bench.ways}
    optimiser = []
    for number in range(options.repeats):
        for name, way in bench.ways.items():
            times[name].append(bench.seconds(partial(way, number)))
        optimiser.append(bench.seconds(bench.optimiser.step))
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    steps = math.ceil(options.pictures / options.batch_size)
    update = statistics.median(optimiser)
    print(
        f"\nPerlin threshold {threshold}: {bench.coverage(options.repeats):.1%} of the pixels "
        f"carry noise; medians of {options.repeats}, optimiser {update:.3f} s a step"
    )
    for name, seconds in median.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))
            for other in median
        ]
        memory = ""
        if options.memory:
            memory = f", peak {peak_bytes(name, threshold, options) / 1e6:.0f} MB"
        print(
            f"  {name:16} {seconds:8.3f} s a step (least {min(times[name]):.3f}), "
            f"{steps * (seconds + update):7.1f} s for {options.pictures} pictures; takes "
            + ", ".join(
                f"{ratio:.2f} x {other}"
                for ratio, other in zip(ratios, median, strict=True)
                if other != name
            )
            + memory
        )
    cached, split = bench.answer("cached"), bench.answer("split")
    print(f"  split against cached, relative: {difference(split, cached)}")
    if options.truth:
        truth = bench.answer("cached", double=True)
        print(f"  cached against double precision: {difference(cached, truth)}")
        print(f"  split against double precision:  {difference(split, truth)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="wide_resnet50_2", help="a timm name")
    parser.add_argument("--widths", type=int, nargs=2, help="of the heads; in proportion if absent")
    parser.add_argument("--variant", choices=[v.value for v in Variant], default="journal")
    parser.add_argument("--detach-map", action="store_true", help="as without real defects")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.2, 0.6])
    parser.add_argument("--size", type=int, default=256, help="of the square input, in pixels")
    parser.add_argument("--batch-size", type=int, default=4, help="pictures, before doubling")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--pictures", type=int, default=240, help="of an epoch")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="peak of each, too")
    parser.add_argument("--profile", action="store_true", help="where the time goes, too")
    parser.add_argument("--truth", action="store_true", help="compare with double precision, too")
    parser.add_argument("--only-memory-of", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.only_memory_of:
        way, threshold = options.only_memory_of
        print_own_peak(way, float(threshold), options)
        return
    bench = Bench(options, 0.2)
    widths = bench.net.architecture.widths
    print(
        f"{options.backbone} {bench.net.backbone.channels}, widths {widths.segmentation} and "
        f"{widths.classification}, {options.variant}, {options.size}x{options.size}, "
        f"{options.batch_size} pictures doubled, float32, {options.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}"
    )
    for threshold in options.thresholds:
        measure(threshold, options)


if __name__ == "__main__":
    main()
