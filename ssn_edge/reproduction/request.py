"""What a reproduction is asked for, and the training runs that this means."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssn_edge.model.backbone import GPU_DEFAULT
from ssn_edge.model.variant import Variant
from ssn_edge.project import RUNS as RUNS_FOLDER
from ssn_edge.reproduction.protocols import (
    BATCH_SIZE,
    EPOCHS,
    RUNS,
    Part,
    Protocol,
    PublishedDataset,
    protocol_of,
)
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.regime import Regime
from ssn_edge.training.request import RunRequest
from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.preprocess import Geometry, Interpolation


@dataclass(frozen=True, slots=True)
class ReproductionRequest:
    """One published experiment; the defaults are the published settings.

    Args:
        dataset: Which data set.
        root: Where it lies.
        masks: Choice of training masks as the data set's split files count them, 0 for weak
            supervision; None for unsupervised. `choose_masks` finds it.
        variant: Whose paper.
        groups: Categories or products; empty for all.
        seeds: One run a part for each.
        epochs: Passes over the training part.
        backbone: timm name.
        backbone_weights: File of its weights, or None.
        input_size_hw: Network input; None for the published size of each part.
        batch_size: Pictures a step.
        learning_rate_scale: Factor on the learning rates.
        device: "auto", "cpu" or "cuda".
    """

    dataset: PublishedDataset
    root: Path
    masks: int | None = None
    variant: Variant = Variant.JOURNAL
    groups: tuple[str, ...] = ()
    seeds: tuple[int, ...] = tuple(range(RUNS))
    epochs: int = EPOCHS
    backbone: str = GPU_DEFAULT
    backbone_weights: Path | None = None
    input_size_hw: tuple[int, int] | None = None
    batch_size: int = BATCH_SIZE
    learning_rate_scale: float = 1.0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what is not one of the experiments."""
        protocol = self.protocol
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds {list(self.seeds)}: one or more are wanted, each once")
        for group in self.groups:
            if len(protocol.groups) == 1:
                raise ConfigError(f"{protocol.title} has no {protocol.kind}; leave {group!r} out")
            if group not in protocol.groups:
                near = difflib.get_close_matches(group, protocol.groups, n=1, cutoff=0.0)[0]
                raise ConfigError(
                    f"{group!r} is none of the {len(protocol.groups)} {protocol.kind} of "
                    f"{protocol.title}; did you mean {near!r}?"
                )
        choose_masks(self.dataset, None, self.masks)
        # The numbers of training are checked here, not by the first run.
        for _ in planned_runs(self, Path()):
            break

    @property
    def protocol(self) -> Protocol:
        """Of the data set."""
        return protocol_of(self.dataset)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Those that are asked for."""
        wanted = self.groups or self.protocol.groups
        return tuple(part for part in self.protocol.parts if part.group in wanted)

    @property
    def regime(self) -> Regime:
        """What the choice of masks makes."""
        if self.masks is None:
            return Regime.UNSUPERVISED
        if self.masks == 0:
            return Regime.WEAK
        return Regime.FULL if self.masks == self.protocol.masks[-1] else Regime.MIXED

    def describe_labels(self) -> str:
        """Regime and masks in words, such as "mixed (53 masks)"."""
        if self.masks is None:
            return self.regime.value
        return f"{self.regime.value} ({self.masks} {self.protocol.mask_unit})"


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training run of a reproduction."""

    part: Part
    seed: int
    folder: Path
    request: RunRequest

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.part.name}, seed {self.seed}"


def planned_runs(request: ReproductionRequest, output: Path) -> Iterator[PlannedRun]:
    """All runs, in the order of a first whole table: every part with the first seed, and so on."""
    for seed in request.seeds:
        for part in request.parts:
            yield PlannedRun(
                part, seed, output / part.name / f"seed-{seed}", _run_request(request, part, seed)
            )


def choose_masks(dataset: PublishedDataset, regime: Regime | None, masks: int | None) -> int | None:
    """The choice of masks that a regime and a number mean together.

    Args:
        dataset: Which data set.
        regime: None for what the number means; without one, the data set's headline result.
        masks: As the split files count; None for what the regime means.

    Returns:
        Number for `ReproductionRequest.masks`; None for unsupervised.

    Raises:
        ConfigError: The two contradict each other, or the data set has no such regime.
    """
    protocol = protocol_of(dataset)
    if not protocol.masks:
        if regime not in (None, Regime.UNSUPERVISED) or masks is not None:
            raise ConfigError(
                f"{protocol.title} has no defective training pictures; its results are "
                "unsupervised: leave regime and masks out"
            )
        return None
    least, most = protocol.masks[0], protocol.masks[-1]
    if masks is not None and masks not in protocol.masks:
        raise ConfigError(
            f"masks {masks}: results on {protocol.title} are published for "
            f"{', '.join(map(str, protocol.masks))} ({protocol.mask_unit})"
        )
    implied = {
        Regime.UNSUPERVISED: None,
        Regime.WEAK: least,
        Regime.MIXED: masks,
        Regime.FULL: most,
        None: most if masks is None else masks,
    }[regime]
    if regime is Regime.MIXED and masks in (None, least, most):
        raise ConfigError(
            f"regime mixed needs a choice of masks: {', '.join(map(str, protocol.masks[1:-1]))} "
            f"({protocol.mask_unit})"
        )
    if masks not in (None, implied):
        raise ConfigError(
            f"regime {regime.value if regime else ''} and masks {masks} contradict each other; "
            "leave one of them out"
        )
    return implied


def default_output(request: ReproductionRequest) -> Path:
    """A folder that the same request finds again."""
    words = ["reproduce", request.dataset.value, request.regime.value]
    if request.regime is Regime.MIXED:
        words.append(str(request.masks))
    if request.variant is not Variant.JOURNAL:
        words.append(request.variant.value)
    return Path(RUNS_FOLDER) / "-".join(words)


def _run_request(request: ReproductionRequest, part: Part, seed: int) -> RunRequest:
    unsupervised = request.masks is None
    protocol = request.protocol
    # The published splits leave all masks to unsupervised runs: they only drop the pictures.
    masks = protocol.masks[-1] if unsupervised and protocol.masks else request.masks
    return RunRequest(
        data=request.root / part.folder,
        fold=part.fold,
        mask_split=masks,
        backbone=request.backbone,
        backbone_weights=request.backbone_weights,
        geometry=Geometry(request.input_size_hw or part.input_size_hw, None, Interpolation.LINEAR),
        variant=request.variant,
        labels=LabelChoice(regime=Regime.UNSUPERVISED if unsupervised else None),
        calibration_share=0.0,
        device=request.device,
        settings=TrainingSettings(
            epochs=request.epochs,
            batch_size=request.batch_size,
            seed=seed,
            perlin_threshold=protocol.perlin_threshold if unsupervised else None,
            learning_rate_scale=request.learning_rate_scale,
        ),
    )
