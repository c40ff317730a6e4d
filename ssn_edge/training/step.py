"""One training step: noise, heads, losses. The reference implementation of the method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssn_edge.model.anomaly_generator import Anomalies, generate_anomalies
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.training.cache import Batch
from ssn_edge.training.losses import classification_loss, segmentation_loss_terms
from ssn_edge.training.processes import ALONE, Processes
from ssn_edge.training.regime import Supervision


@dataclass(frozen=True, slots=True)
class StepResult:
    """Loss of a step, and what its progress is judged by.

    Args:
        loss: Scalar with gradient.
        terms: Its summands by name, scalars without gradient.
        label: (2B,) bool, real or synthetic anomaly.
        map_max: (2B,) float32, largest logit of each map.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    label: Tensor
    map_max: Tensor


def training_step(
    net: SuperSimpleNet,
    batch: Batch,
    *,
    plan: Supervision,
    noise_std: float,
    keys: Tensor,
    processes: Processes = ALONE,
) -> StepResult:
    """Loss of one batch on doubled, perturbed samples.

    Args:
        net: In training mode.
        batch: B samples.
        plan: The regime's settings.
        noise_std: Deviation of the noise.
        keys: (2B,) int64 of `sample_keys`, on the batch's device: what the random numbers follow
            from.
        processes: Who has the other parts of the batch, if it has any.
    """
    with torch.no_grad():
        feature = net.features(batch.layer2, batch.layer3)  # (B, C, h, w)
    anomalies = generate_anomalies(
        batch.mask,
        batch.label,
        keys=keys,
        channels=feature.shape[1],
        noise_std=noise_std,
        perlin_threshold=plan.perlin_threshold,
    )
    noise = anomalies.dense_noise()
    # The adaptor acts before the noise: one pass serves both copies.
    adapted = net.heads.adaptor(feature).repeat(2, 1, 1, 1) + noise
    perturbed = feature.repeat(2, 1, 1, 1) + noise  # the same noise
    map_logits, score_logits = net.heads.judge(perturbed, adapted, detach_map=plan.detach_map)
    return step_result(map_logits[:, 0], score_logits, anomalies, batch, plan, processes)


def step_result(
    map_logits: Tensor,
    score_logits: Tensor,
    anomalies: Anomalies,
    batch: Batch,
    plan: Supervision,
    processes: Processes = ALONE,
) -> StepResult:
    """Losses of a doubled batch's logits.

    Args:
        map_logits: (2B, h, w).
        score_logits: (2B,).
        anomalies: What was drawn for them.
        batch: The B samples.
        plan: The regime's settings.
        processes: Who has the other parts of the batch; the result is this one's share.
    """
    map_logits, score_logits = _full_precision(map_logits), _full_precision(score_logits)
    segmentation = segmentation_loss_terms(
        map_logits,
        anomalies.mask,
        known=batch.known.repeat(2),
        weight=batch.weight.repeat(2, 1, 1) if plan.distance_weights else None,
        total=processes.sum,
    )
    classification = classification_loss(score_logits, anomalies.label, total=processes.sum)
    terms = {
        "l1_normal": segmentation.l1_normal,
        "l1_anomalous": segmentation.l1_anomalous,
        "focal": segmentation.focal,
        "classification": classification,
    }
    return StepResult(
        loss=segmentation.total + classification,
        terms={name: term.detach() for name, term in terms.items()},
        label=anomalies.label,
        map_max=map_logits.detach().amax(dim=(1, 2)),
    )


def _full_precision(logits: Tensor) -> Tensor:
    """Losses are taken in full precision, whatever the heads computed in."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
