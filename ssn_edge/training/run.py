"""A training run: from a data set to a checkpoint in a folder of its own."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import ssn_edge
from ssn_edge.data.layouts import read_dataset
from ssn_edge.data.loading import check_dataset
from ssn_edge.data.split import fingerprint, split_dataset
from ssn_edge.training.build import build_net, find_device, set_noise_scale
from ssn_edge.training.cache import FeatureCache
from ssn_edge.training.checkpoint import (
    CHECKPOINT_NAME,
    STATE_NAME,
    load_tensors,
    save_checkpoint,
    save_tensors,
    tensors_digest,
)
from ssn_edge.training.labels import choose_labels
from ssn_edge.training.listing import listing_from_split
from ssn_edge.training.log import TrainingLog
from ssn_edge.training.processes import Processes, joined_processes, shared_folder
from ssn_edge.training.regime import Regime, default_scoring, supervision
from ssn_edge.training.request import RunRequest, request_from_dict, request_to_dict
from ssn_edge.training.sampling import BalancedSampler, EveryNormalOnce
from ssn_edge.training.trainer import Progress, Trainer
from ssn_edge.training.watcher import Alarm, Watcher
from ssn_edge_runtime.errors import CheckpointError, ConfigError, DatasetError

_STATE_KEYS = (
    "request",
    "training_data",
    "backbone_weights",
    "backbone_sha256",
    "tools",
    "counters",
)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Args:
        folder: The run's folder.
        checkpoint: The trained net, or None if it was stopped before the end.
        regime: What the labels allowed.
        steps: Steps done, of steps in all.
        final_loss: Mean loss of the last whole epoch; None before there is one.
        seconds: Time this call took.
    """

    folder: Path
    checkpoint: Path | None
    regime: Regime
    steps: tuple[int, int]
    final_loss: float | None
    seconds: float


def train(request: RunRequest, folder: Path, watcher: Watcher | None = None) -> RunResult:
    """Train a net and write its checkpoint into a new folder.

    Raises:
        DatasetError: The data cannot be used.
        ConfigError: Settings that do not go together, or a folder that holds a run already.
        CheckpointError: No pretrained weights.
    """
    with joined_processes() as processes:
        # A name with the time in it would differ between processes.
        folder = processes.agree(folder)
        if processes.is_first:
            _check_new(folder)
        return _train(request, folder, watcher or Watcher(), processes, state=None)


def resume(folder: Path, watcher: Watcher | None = None) -> RunResult:
    """Go on with an interrupted run; the result is the run that would have been.

    Raises:
        CheckpointError: Nothing to go on with.
        DatasetError: The data changed since.
    """
    if (folder / CHECKPOINT_NAME).is_file() and not (folder / STATE_NAME).is_file():
        raise CheckpointError(f"{folder} is finished: {CHECKPOINT_NAME} is there")
    path = folder / STATE_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no unfinished run: there is no {STATE_NAME}")
    tensors, header = load_tensors(path)
    if missing := [key for key in _STATE_KEYS if key not in header]:
        raise CheckpointError(f"{path} is not the state of a run: it lacks {', '.join(missing)}")
    request = request_from_dict(header["request"])
    with joined_processes() as processes:
        return _train(request, folder, watcher or Watcher(), processes, state=(tensors, header))


def _check_new(folder: Path) -> None:
    if (folder / STATE_NAME).exists():
        raise ConfigError(
            f"{folder} holds an unfinished run; go on with it: ssn-edge train --resume {folder}, "
            "or name another folder"
        )
    if (folder / CHECKPOINT_NAME).exists():
        raise ConfigError(f"{folder} holds a finished run already; name another folder")


def _train(
    request: RunRequest,
    folder: Path,
    watcher: Watcher,
    processes: Processes,
    state: tuple[dict[str, torch.Tensor], dict[str, Any]] | None,
) -> RunResult:
    started = time.monotonic()
    dataset = read_dataset(
        request.data,
        columns=dict(request.columns) or None,
        mask_above=request.mask_above,
        fold=request.fold,
        mask_split=request.mask_split,
    )
    whole = split_dataset(
        dataset, calibration_share=request.calibration_share, seed=request.split_seed
    )
    labels = choose_labels(whole.train, dataset, request.labels)
    split = dataclasses.replace(whole, train=labels.items)
    split.check_trainable(calibrated=request.calibration_share > 0)
    check_dataset(dataset)
    regime = labels.regime
    watcher.on_message(dataset.describe())
    if any(item.mask is not None for item in dataset.items):
        rule = dataset.mask_rule
        watcher.on_message(f"mask values above {rule.above} mean a defect: {rule.reason}")
    watcher.on_message(f"{labels.describe()}; {split.describe()}")
    data_fingerprint = fingerprint(dataset, split)
    if state is not None and state[1]["training_data"] != data_fingerprint:
        raise DatasetError(
            f"{dataset.root}: pictures, masks or labels changed since the run began; restore them, "
            "or start a new run"
        )
    plan = supervision(regime, request.variant)
    if request.settings.perlin_threshold is not None:
        plan = dataclasses.replace(plan, perlin_threshold=request.settings.perlin_threshold)
    device = find_device(request.device, processes)
    net, weights_from = build_net(request, device)
    watcher.on_message(
        f"backbone {net.architecture.backbone}, weights from {weights_from}, on {device}"
        + (f", {processes.count} processes" if processes.count > 1 else "")
    )
    header = {
        "request": request_to_dict(request),
        "regime": regime.value,
        "scoring_rule": (request.scoring or default_scoring(regime)).value,
        "training_data": data_fingerprint,
        "backbone_weights": weights_from,
        "backbone_sha256": tensors_digest(net.backbone.state_dict()),
        "listing": listing_from_split(dataset, split),
        "tools": tool_versions(),
    }
    if state is not None:
        _check_same_net(state[1], header, watcher)
    with (
        shared_folder(processes) as shared,
        FeatureCache(
            split.train,
            net,
            geometry=request.geometry,
            mask_rule=dataset.mask_rule,
            flips=plan.flips,
            dilate=plan.dilate,
            weighted=plan.distance_weights,
            device=device,
            processes=processes,
            shared=shared,
            on_progress=watcher.on_cache,
        ) as cache,
    ):
        watcher.on_message(cache.describe())
        noise_std = set_noise_scale(net, cache, request.settings, device)
        sampler = (
            EveryNormalOnce(cache.normals, request.settings.seed)
            if regime is Regime.UNSUPERVISED
            else BalancedSampler(cache.normals, cache.anomalous, request.settings.seed)
        )
        trainer = Trainer(
            net,
            cache,
            sampler,
            settings=request.settings,
            plan=plan,
            noise_std=noise_std,
            processes=processes,
        )
        if state is not None:
            trainer.restore(state[0], state[1]["counters"])
        _run(trainer, folder, header, watcher, processes)
    path = folder / CHECKPOINT_NAME
    result = RunResult(
        folder=folder,
        checkpoint=path if trainer.is_finished else None,
        regime=regime,
        steps=(trainer.step, trainer.steps),
        final_loss=trainer.losses[-1] if trainer.losses else None,
        seconds=time.monotonic() - started,
    )
    if not trainer.is_finished:
        return result
    finished = {
        **header,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "losses": trainer.losses,
        "steps": trainer.steps,
        "noise_std": noise_std,
    }
    if processes.is_first:
        save_checkpoint(path, net, finished)
        (folder / STATE_NAME).unlink(missing_ok=True)
    return result


def _check_same_net(before: Mapping[str, Any], now: Mapping[str, Any], watcher: Watcher) -> None:
    """Refuse another backbone than the run began with; tell of other versions."""
    if before["backbone_sha256"] != now["backbone_sha256"]:
        raise CheckpointError(
            f"the backbone is not the one that the run began with (weights then from "
            f"{before['backbone_weights']}, now from {now['backbone_weights']}); bring it "
            "back, or start a new run"
        )
    if before["tools"] != now["tools"]:
        watcher.on_message(
            f"the run began with {before['tools']}, now it is {now['tools']}: the last digits may "
            "differ from an uninterrupted run"
        )


def _run(
    trainer: Trainer,
    folder: Path,
    header: Mapping[str, object],
    watcher: Watcher,
    processes: Processes,
) -> None:
    def save() -> None:
        if not processes.is_first:
            return
        save_tensors(
            folder / STATE_NAME, trainer.state(), {**header, "counters": trainer.counters()}
        )

    clock = Alarm(watcher.save_every_s)
    # A folder with a state from its first second: whatever ends the run, it can go on.
    save()
    with ExitStack() as stack:
        log: TrainingLog | None = None
        if processes.is_first:
            log = stack.enter_context(
                TrainingLog(folder, start_step=trainer.step, tensorboard=watcher.tensorboard)
            )

        def on_step(progress: Progress) -> None:
            if log is not None:
                log.add(progress)
            watcher.on_step(progress)
            if clock.is_due():
                save()

        trainer.run(should_stop=watcher.should_stop, on_step=on_step)
    if not trainer.is_finished:
        save()


def tool_versions() -> dict[str, str]:
    """Versions of what computes, for checkpoint and package."""
    import timm

    return {
        "ssn-edge": ssn_edge.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": timm.__version__,
    }
