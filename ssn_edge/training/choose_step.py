"""Which of the two equal training steps a run computes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.training.cache import Batch
from ssn_edge.training.processes import ALONE, Processes
from ssn_edge.training.regime import Supervision
from ssn_edge.training.settings import TrainingSettings
from ssn_edge.training.split_step import split_training_step
from ssn_edge.training.step import StepResult, training_step


class StepFunction(Protocol):
    """`training_step`, or what equals it."""

    def __call__(
        self,
        net: SuperSimpleNet,
        batch: Batch,
        *,
        plan: Supervision,
        noise_std: float,
        keys: Tensor,
        processes: Processes = ALONE,
    ) -> StepResult:
        """Loss of one batch on doubled, perturbed samples."""
        ...


def step_function(settings: TrainingSettings, device: torch.device) -> StepFunction:
    """The step to train with: both give the same loss and gradients up to rounding."""
    if settings.step == "auto":
        # Nobody has measured on a GPU whether gathering noisy pixels pays there.
        splits = device.type == "cpu" and settings.precision == "fp32"
    else:
        splits = settings.step == "split"
    return split_training_step if splits else training_step
