"""The whole chain on sample surfaces: what `ssn-edge demo` does, callable from Python."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.data.samples import draw_sample, list_samples, make_samples
from ssn_edge.data.surfaces import Surface
from ssn_edge.evaluation.of_run import EvaluatedRun, evaluate_package
from ssn_edge.evaluation.report_page import write_report
from ssn_edge.line import run_package
from ssn_edge.line_request import LineRequest
from ssn_edge.model.backbone import CPU_DEFAULT
from ssn_edge.trained import REPORT_NAME, ExportOptions, export_run, open_run
from ssn_edge.training.request import RunRequest
from ssn_edge.training.run import RunResult, train
from ssn_edge.training.settings import TrainingSettings
from ssn_edge.training.watcher import Watcher
from ssn_edge_export import ExportResult
from ssn_edge_runtime.errors import ConfigError, ExportError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.preprocess import Geometry
from ssn_edge_runtime.record import LineKind
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME
from ssn_edge_runtime.summary import LineSummary

NORMAL_TRAIN, DEFECTIVE_TRAIN = 150, 30
NORMAL_TEST, DEFECTIVE_TEST = 40, 40
LINE_NORMAL, LINE_DEFECTIVE = 30, 10
_LINE_PART = 2
"""Samples of the line are neither those of train (0) nor of test (1)."""
INPUT_SIZE_HW = (128, 128)
FINE_INPUT_SIZE_HW = (192, 192)
"""For the woven surface: at 128 pixels its yarns are three pixels wide; defects drown in them."""
EPOCHS = 20
BATCH_SIZE = 16
LEARNING_RATE_SCALE = 4.0
"""Some 200 steps stand for the 18,600 of the published schedule."""
MAX_FALSE_REJECT = 0.05
"""What the few calibration pictures of a demo can carry."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Who looks on.

    Args:
        on_message: A line for people.
        on_progress: A stage, steps done, steps in all, and a note.
        should_stop: Asked between two training steps, and between two stages.
    """

    on_message: Callable[[str], None] = lambda message: None
    on_progress: Callable[[str, int, int, str], None] = lambda stage, done, count, note: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """What the demo did and found; every number is of this run.

    Args:
        folder: All that was written.
        report: The HTML page.
        trained: The training.
        exported: The package.
        evaluated: The package on the test pictures.
        line: The run of the recorded line.
        line_truth: Of the line's parts: rejected and all, defective; rejected and all, good.
        seconds: By stage.
    """

    folder: Path
    report: Path
    trained: RunResult
    exported: ExportResult
    evaluated: EvaluatedRun
    line: LineSummary
    line_truth: tuple[int, int, int, int]
    seconds: Mapping[str, float]


def run_demo(
    folder: Path, *, surface: Surface, seed: int = 0, stages: Stages | None = None
) -> DemoResult | None:
    """Draw surfaces, train, export, evaluate the package, and run it over a recorded line.

    Args:
        folder: Where everything goes; must not be there yet, or be empty.
        surface: Which surface.
        seed: Of pictures and training.
        stages: Who looks on.

    Returns:
        What was found; None if it was stopped.

    Raises:
        ConfigError: The folder holds something, or a seed below 0.
    """
    watch = stages or Stages()
    if seed < 0:
        raise ConfigError(f"--seed {seed}: 0 or more is wanted")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already; name another: --folder, or remove it")
    clock = _Clock()
    data, line = folder / "data" / surface.value, folder / "line"
    watch.on_message(
        f"1/5 drawing {surface.value} surfaces: {NORMAL_TRAIN} good and {DEFECTIVE_TRAIN} "
        f"defective to train, {NORMAL_TEST} and {DEFECTIVE_TEST} to test"
    )
    make_samples(
        data,
        surface=surface,
        normal_train=NORMAL_TRAIN,
        defective_train=DEFECTIVE_TRAIN,
        normal_test=NORMAL_TEST,
        defective_test=DEFECTIVE_TEST,
        seed=seed,
    )
    truth = _record_line(line, surface, seed)
    clock.lap("pictures")
    if watch.should_stop():
        return None

    watch.on_message("2/5 training (real ImageNet weights, frozen backbone, cached features)")
    trained = train(
        RunRequest(
            data,
            backbone=CPU_DEFAULT,
            geometry=Geometry(FINE_INPUT_SIZE_HW if surface is Surface.WOVEN else INPUT_SIZE_HW),
            split_seed=seed,
            settings=TrainingSettings(
                epochs=EPOCHS,
                batch_size=BATCH_SIZE,
                seed=seed,
                learning_rate_scale=LEARNING_RATE_SCALE,
            ),
        ),
        folder / "runs" / "demo",
        Watcher(
            on_message=lambda message: watch.on_message(f"    {message}"),
            on_cache=lambda done, count: watch.on_progress("features", done, count, ""),
            on_step=lambda now: watch.on_progress(
                "train", now.step, now.steps, f"loss {now.loss:.3f}"
            ),
            should_stop=watch.should_stop,
        ),
    )
    clock.lap("training")
    if trained.checkpoint is None or watch.should_stop():
        return None

    watch.on_message("3/5 exporting one package, verified against the checkpoint")
    package = folder / "part.ssn"
    run = open_run(trained.checkpoint)
    exported = export_run(
        run,
        package,
        ExportOptions(max_false_reject=MAX_FALSE_REJECT),
        on_progress=lambda stage, done, count: watch.on_progress(stage, done, count, ""),
    )
    clock.lap("export")
    if watch.should_stop():
        return None

    watch.on_message("4/5 evaluating the package on pictures it has not seen")
    evaluated = evaluate_package(
        run,
        package,
        with_baseline=True,
        commands=[f"ssn-edge demo --surface {surface.value} --seed {seed}"],
        on_progress=lambda done, count: watch.on_progress("evaluate", done, count, ""),
    )
    report = folder / REPORT_NAME
    write_report(evaluated.report, report)
    clock.lap("evaluation")
    if watch.should_stop():
        return None

    watch.on_message(f"5/5 running the package over a recorded line of {len(truth)} parts")
    request = LineRequest(
        device=str(line), package=package, output=folder / "decisions", keep="all"
    )
    summary = run_package(request)
    clock.lap("line")
    return DemoResult(
        folder=folder,
        report=report,
        trained=trained,
        exported=exported,
        evaluated=evaluated,
        line=summary,
        line_truth=_compare(request.output / JOURNAL_NAME, truth),
        seconds=clock.laps,
    )


class _Clock:
    """Seconds of one stage after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = now - self._last
        self._last = now


def _record_line(folder: Path, surface: Surface, seed: int) -> dict[str, bool]:
    """Draw the frames of a line; whether each part is defective, by file name."""
    samples = list(
        list_samples(
            surface, normal=LINE_NORMAL, defective=LINE_DEFECTIVE, seed=seed, part=_LINE_PART
        )
    )
    truth = {}
    # Defects come in between, not all at the end: step through the list by a number prime to it.
    for number in range(len(samples)):
        defect, sample_seed = samples[number * 7 % len(samples)]
        name = f"{number:04d}.png"
        picture = draw_sample(surface, defect, seed=sample_seed).image
        write_whole(folder / name, encode_png(picture))
        truth[name] = defect is not None
    return truth


def _compare(journal: Path, truth: Mapping[str, bool]) -> tuple[int, int, int, int]:
    rejected = {}
    for text in journal.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        if record["kind"] != LineKind.VERDICT:
            continue
        rejected[record["part_id"]] = record["verdict"] != "pass"
    if set(rejected) != set(truth):
        raise ExportError(
            f"the line has {len(truth)} parts and {len(rejected)} of them got a record; "
            "each must get exactly one"
        )
    bad = [rejected[name] for name, is_defective in truth.items() if is_defective]
    good = [rejected[name] for name, is_defective in truth.items() if not is_defective]
    return sum(bad), len(bad), sum(good), len(good)
