"""The loop over steps, and its state: a run that was interrupted goes on as if it had not been."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ssn_edge.model.anomaly_generator import sample_keys
from ssn_edge.model.batch_norm import BatchNorm
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.training.cache import FeatureCache
from ssn_edge.training.choose_step import step_function
from ssn_edge.training.processes import ALONE, Processes
from ssn_edge.training.regime import Supervision
from ssn_edge.training.sampling import IndexArray
from ssn_edge.training.settings import TrainingSettings
from ssn_edge.training.step import StepResult
from ssn_edge_calibrate.metrics import auroc
from ssn_edge_runtime.errors import CheckpointError, ScoreError

_RECENT_STEPS = 20


class Sampler(Protocol):
    """Says which cache rows an epoch visits; a function of seed and epoch."""

    @property
    def epoch_length(self) -> int:
        """Samples in an epoch."""
        ...

    def epoch(self, number: int) -> IndexArray:
        """Cache rows of an epoch, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands after a step.

    Args:
        step: Steps done.
        steps: Steps in all.
        epoch: Epochs begun, from 1.
        loss: Mean over the last 20 steps.
        terms: The loss's summands by name, of this step.
        learning_rate: Of the heads, in this step.
        separation: AUROC of the map maximum on the training samples of the last 20 steps, synthetic
            defects included; None while all are of one kind.
        seconds_left: At the pace so far.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    terms: Mapping[str, float]
    learning_rate: float
    separation: float | None
    seconds_left: float


class Trainer:
    """Trains adaptor and heads on cached features.

    Random numbers of a step depend on the seed and the step alone, so a resumed run is the run
    that would have been.

    Args:
        net: On the training device.
        cache: Training samples.
        sampler: Order of the samples.
        settings: Numbers of the run.
        plan: The regime's settings.
        noise_std: Deviation of the synthetic noise.
        processes: Those that train together; each takes its part of every batch.
    """

    def __init__(
        self,
        net: SuperSimpleNet,
        cache: FeatureCache,
        sampler: Sampler,
        *,
        settings: TrainingSettings,
        plan: Supervision,
        noise_std: float,
        processes: Processes = ALONE,
    ) -> None:
        self._net = net
        self._cache = cache
        self._sampler = sampler
        self._settings = settings
        self._plan = plan
        self._noise_std = noise_std
        self._processes = processes
        if processes.count > 1:
            for module in net.heads.modules():
                if isinstance(module, BatchNorm):
                    module.sum_over_processes = processes.sum
        self._device = next(net.heads.parameters()).device
        self._steps_per_epoch = -(-sampler.epoch_length // settings.batch_size)
        self._step_function = step_function(settings, self._device)
        self._optimiser = _optimiser(net, settings)
        # Half precision underflows without it; with the other two it does nothing.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=settings.precision == "fp16")
        self.step = 0
        self.losses: list[float] = []
        """Mean loss of each finished epoch."""
        self._epoch_loss = 0.0

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self._steps_per_epoch * self._settings.epochs

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.steps

    def run(
        self,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[Progress], None] | None = None,
    ) -> None:
        """Train until the end, or until asked to stop between two steps.

        Raises:
            ScoreError: The loss or the weights became NaN or infinite.
        """
        self._net.train()
        recent: deque[StepResult] = deque(maxlen=_RECENT_STEPS)
        started, first = time.monotonic(), self.step
        with _repeatable_convolutions():
            while not self.is_finished and not self._processes.any(should_stop()):
                recent.append(self._one_step())
                if on_step is not None:
                    pace = (time.monotonic() - started) / (self.step - first)
                    on_step(self._progress(recent, pace))
        self._net.eval()
        # The loss is looked at before a step: what the last one did shows in the weights alone.
        if not all(bool(value.isfinite().all()) for value in self._net.heads.state_dict().values()):
            raise ScoreError(
                f"the weights became NaN or infinite after {self.step} steps; lower the learning "
                "rates or the noise"
            )

    def state(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs: heads, standardisation, optimiser."""
        tensors = {f"heads/{name}": value for name, value in self._net.heads.state_dict().items()}
        for name, parameter in self._net.heads.named_parameters():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{name}/{key}"] = value
        for name, value in self._net.features.state_dict().items():
            tensors[f"features/{name}"] = value
        return tensors

    def counters(self) -> dict[str, object]:
        """The numbers that go with `state`."""
        return {
            "step": self.step,
            "losses": self.losses,
            "epoch_loss": self._epoch_loss,
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, object]) -> None:
        """Go back to a saved state.

        Raises:
            CheckpointError: It belongs to another net.
        """
        try:
            self._net.heads.load_state_dict(_below(tensors, "heads/"), strict=True)
            self._net.features.load_state_dict(_below(tensors, "features/"), strict=True)
            for name, parameter in self._net.heads.named_parameters():
                kept = _below(tensors, f"optimiser/{name}/")
                if kept:
                    self._optimiser.state[parameter] = {
                        key: value.to(self._device) for key, value in kept.items()
                    }
            self.step = int(str(counters["step"]))
            self.losses = [float(loss) for loss in _list(counters["losses"])]
            self._epoch_loss = float(str(counters["epoch_loss"]))
            self._scaler.load_state_dict(_mapping(counters["scaler"]))
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"the saved state does not fit this run: {error}") from error

    def _one_step(self) -> StepResult:
        epoch, within = divmod(self.step, self._steps_per_epoch)
        size = self._settings.batch_size
        rows = self._sampler.epoch(epoch)[within * size : (within + 1) * size]
        mine = self._processes.share(len(rows))
        scale = self._settings.lr_scale(epoch)
        for group in self._optimiser.param_groups:
            group["lr"] = group["base_lr"] * scale
        places = torch.arange(mine.start, mine.stop, device=self._device)
        with self._autocast():
            result = self._step_function(
                self._net,
                self._cache.batch(rows[mine], self._device),
                plan=self._plan,
                noise_std=self._noise_std,
                keys=sample_keys(self._settings.seed, self.step, places),
                processes=self._processes,
            )
        loss = float(self._processes.sum(result.loss.detach()))
        if not np.isfinite(loss):
            raise ScoreError(
                f"the loss is {loss} after {self.step} steps; lower the learning rates or the noise"
            )
        self._optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(result.loss).backward()  # type: ignore[no-untyped-call]
        parameters = list(self._net.heads.parameters())
        self._processes.sum_gradients(parameters)
        self._scaler.unscale_(self._optimiser)
        if self._plan.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self._plan.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self.step += 1
        self._epoch_loss += loss
        if self.step % self._steps_per_epoch == 0:
            self.losses.append(self._epoch_loss / self._steps_per_epoch)
            self._epoch_loss = 0.0
        total = result.loss.new_tensor(loss)
        terms = {name: self._processes.sum(term) for name, term in result.terms.items()}
        return replace(result, loss=total, terms=terms)

    def _autocast(self) -> torch.autocast:
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        kind = kinds[self._settings.precision]
        return torch.autocast(self._device.type, kind, enabled=kind is not torch.float32)

    def _progress(self, recent: deque[StepResult], pace: float) -> Progress:
        labels = torch.cat([result.label for result in recent]).cpu().numpy()
        scores = torch.cat([result.map_max for result in recent]).cpu().numpy()
        return Progress(
            step=self.step,
            steps=self.steps,
            epoch=(self.step - 1) // self._steps_per_epoch + 1,
            loss=float(torch.stack([result.loss for result in recent]).mean()),
            terms={name: float(term) for name, term in recent[-1].terms.items()},
            learning_rate=float(self._optimiser.param_groups[-1]["lr"]),
            separation=auroc(labels.astype(np.int64), scores),
            seconds_left=pace * (self.steps - self.step),
        )


def _optimiser(net: SuperSimpleNet, settings: TrainingSettings) -> torch.optim.AdamW:
    heads = net.heads
    groups = [
        (heads.adaptor, settings.adaptor_lr, settings.adaptor_weight_decay),
        (heads.segmentation, settings.heads_lr, settings.heads_weight_decay),
        (heads.classification, settings.heads_lr, settings.heads_weight_decay),
    ]
    return torch.optim.AdamW(
        [
            {
                "params": list(module.parameters()),
                "lr": lr,
                "base_lr": lr,
                "weight_decay": weight_decay,
            }
            for module, lr, weight_decay in groups
        ],
        fused=True,
    )


@contextmanager
def _repeatable_convolutions() -> Iterator[None]:
    """Let a GPU choose the same, deterministic kernels each time, or a resumed run would differ."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the scaler's state is not a dictionary")
    return value


def _list(value: object) -> list[float]:
    if not isinstance(value, list):
        raise ValueError("losses are not a list")
    return value
