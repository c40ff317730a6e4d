"""One run of a reproduction: begun, gone on with, or only evaluated, as far as it had come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ssn_edge.evaluation.evaluate import evaluate
from ssn_edge.evaluation.judges import CheckpointJudge
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.reproduction.request import PlannedRun
from ssn_edge.reproduction.result import RunFigures, read_result, values_of, write_result
from ssn_edge.trained import open_run
from ssn_edge.training.build import find_device
from ssn_edge.training.checkpoint import CHECKPOINT_NAME, STATE_NAME, load_tensors
from ssn_edge.training.run import resume, train
from ssn_edge.training.trainer import Progress
from ssn_edge.training.watcher import Watcher
from ssn_edge_export.verify import NetJudge
from ssn_edge_runtime.decision import LARGEST_LOGIT, ScoringRule, Thresholds
from ssn_edge_runtime.errors import ScoreError
from ssn_edge_runtime.preprocess import Geometry


class Stopped(Exception):
    """The observer asked to stop; what is done so far is kept."""


@dataclass(frozen=True, slots=True)
class Observer:
    """Who looks on.

    Args:
        on_message: A line for people.
        on_progress: A stage, steps done, steps in all, and a note.
        should_stop: Asked between two training steps, two pictures and two runs.
    """

    on_message: Callable[[str], None] = lambda message: None
    on_progress: Callable[[str, int, int, str], None] = lambda stage, done, count, note: None
    should_stop: Callable[[], bool] = lambda: False

    def stage(self, name: str) -> Callable[[int, int], None]:
        """A callback that shows one stage, and ends it when asked to stop."""

        def show(done: int, count: int) -> None:
            self.on_progress(name, done, count, "")
            if self.should_stop():
                raise Stopped

        return show


def finish_run(run: PlannedRun, observer: Observer) -> RunFigures:
    """Train and evaluate, or what of it is left to do, and write the result.

    Raises:
        Stopped: The observer asked to; the same call goes on later.
        SsnEdgeError: Data, weights or settings that cannot be used.
    """
    if (known := read_result(run.folder)) is not None:
        return known
    started = time.monotonic()
    _train(run, observer)
    checkpoint = run.folder / CHECKPOINT_NAME
    trained = open_run(checkpoint)
    _, header = load_tensors(checkpoint)
    device = find_device(run.request.device)
    evaluation = evaluate(
        _DeviceJudge(trained.net, trained.geometry, device),
        trained.split.test,
        mask_rule=trained.mask_rule,
        geometry=trained.geometry,
        on_progress=observer.stage("evaluate"),
    )
    lost = [each for each in evaluation.judged if each.decision.raw_score is None]
    if lost:
        raise ScoreError(
            f"{lost[0].item.image}: could not be judged ({lost[0].decision.detail}), nor could "
            f"{len(lost) - 1} other test pictures; numbers without them are not the published ones"
        )
    result = RunFigures(
        part=run.part.name,
        seed=run.seed,
        values=values_of(evaluation.metrics),
        regime=trained.regime,
        test_pictures=len(trained.split.test),
        test_anomalous=sum(item.is_anomalous for item in trained.split.test),
        backbone_weights=str(header["backbone_weights"]),
        training_data=trained.training_data,
        device=_device_name(device),
        tools=trained.tools,
        seconds=round(time.monotonic() - started, 1),
    )
    write_result(run.folder, result)
    return result


def _train(run: PlannedRun, observer: Observer) -> None:
    """Bring the checkpoint about."""
    if (run.folder / CHECKPOINT_NAME).is_file() and not (run.folder / STATE_NAME).is_file():
        return

    def on_step(now: Progress) -> None:
        observer.on_progress("train", now.step, now.steps, f"loss {now.loss:.3f}")

    watcher = Watcher(
        on_cache=observer.stage("features"), on_step=on_step, should_stop=observer.should_stop
    )
    unfinished = (run.folder / STATE_NAME).is_file()
    outcome = resume(run.folder, watcher) if unfinished else train(run.request, run.folder, watcher)
    if outcome.checkpoint is None:
        raise Stopped


class _DeviceJudge(CheckpointJudge):
    """Judges on any device, with thresholds that nothing reaches: metrics use none."""

    def __init__(self, net: SuperSimpleNet, geometry: Geometry, device: torch.device) -> None:
        nothing = Thresholds(LARGEST_LOGIT, LARGEST_LOGIT)
        super().__init__(net, geometry, ScoringRule.MAP_MAX, nothing)
        self._judge = NetJudge(_NetOnDevice(net, device))


class _NetOnDevice:
    """A net that takes and gives tensors on the CPU, wherever it computes."""

    def __init__(self, net: SuperSimpleNet, device: torch.device) -> None:
        self._net = net.to(device)
        self._device = device
        self.mean = net.mean
        self.std = net.std

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps, logits = self._net(image.to(self._device))
        return maps.cpu(), logits.cpu()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
