"""What training can be told; defaults are the published ones."""

from __future__ import annotations

from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError

PRECISIONS = ("fp32", "bf16", "fp16")
STEPS = ("auto", "split", "reference")
PUBLISHED_NOISE_STD = 0.015
"""For wide_resnet50_2.tv_in1k alone, whose features are not standardised."""
RELATIVE_NOISE_STD = 0.5
"""For standardised features, in deviations of each channel."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Numbers of a training run.

    Args:
        epochs: Passes over the training part; the last one counts, none is chosen.
        batch_size: Pictures a step, before doubling.
        seed: Of initialisation, order, masks and noise.
        noise_std: Deviation of the synthetic noise: absolute for the published backbone, in
            deviations of each feature channel for others. None for the default of each.
        perlin_threshold: None for the regime's.
        adaptor_lr: Learning rate of the adaptor.
        heads_lr: Learning rate of both heads.
        adaptor_weight_decay: Of the adaptor.
        heads_weight_decay: Of both heads.
        lr_factor: Learning rates are multiplied by it at 80 % and at 90 % of the epochs.
        precision: Of the heads' arithmetic: fp32, or bf16 or fp16 (autocast, with weights, batch
            norms and losses in full precision).
        step: How a step is computed: "split" takes the frozen part of its arithmetic out,
            "reference" is straightforward; both give the same loss and gradients. "auto" splits in
            full precision on a CPU, where it was measured.
        learning_rate_scale: Factor on both learning rates; above 1 for schedules much shorter than
            the published one.

    Source:
        supersimplenet.md section 4.1.
    """

    epochs: int = 300
    batch_size: int = 32
    seed: int = 0
    noise_std: float | None = None
    perlin_threshold: float | None = None
    adaptor_lr: float = 1e-4
    heads_lr: float = 2e-4
    adaptor_weight_decay: float = 0.01
    heads_weight_decay: float = 1e-5
    lr_factor: float = 0.4
    learning_rate_scale: float = 1.0
    precision: str = "fp32"
    step: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(
                f"epochs ({self.epochs}) and batch size ({self.batch_size}) must be at least 1"
            )
        if self.seed < 0:
            raise ConfigError(f"the seed is {self.seed}; it must be 0 or more")
        if not 0 < self.learning_rate_scale < float("inf"):
            raise ConfigError(
                f"the learning rate scale is {self.learning_rate_scale}; it must be above 0"
            )
        for name, value, known in (
            ("precision", self.precision, PRECISIONS),
            ("step", self.step, STEPS),
        ):
            if value not in known:
                raise ConfigError(f"{name} {value!r} is unknown; one of {', '.join(known)} fits")
        if self.step == "split" and self.precision != "fp32":
            raise ConfigError(
                f"the split step computes in fp32, {self.precision} was asked for; drop one of them"
            )
        if self.noise_std is not None and not self.noise_std > 0:
            raise ConfigError(f"the noise deviation is {self.noise_std}; it must be above 0")

    def lr_scale(self, epoch: int) -> float:
        """Factor on the published learning rates in an epoch, counted from 0."""
        # Rounded: the authors' comparison of floats never fires where 0.8 E is not whole.
        milestones = (round(0.8 * self.epochs), round(0.9 * self.epochs))
        drops = sum(epoch >= milestone for milestone in milestones)
        return self.learning_rate_scale * self.lr_factor**drops
