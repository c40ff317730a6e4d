"""What a training run is asked for, in code and in the files of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssn_edge.model.heads import HeadWidths
from ssn_edge.model.variant import Variant
from ssn_edge.settings import DataSettings, TrainSettings
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.regime import Regime
from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import CheckpointError, ConfigError
from ssn_edge_runtime.preprocess import Geometry, Interpolation

DEFAULT_INPUT_SIZE_HW = (256, 256)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a training run is asked for; kept whole in its files, so that it can be repeated.

    Args:
        data: Data set: a folder or a CSV file.
        columns: Other names of the CSV's columns, ours to theirs.
        mask_above: Mask values above this are defects; None to find out.
        fold: Which published fold of SensumSODF, from 0; None for data sets without.
        mask_split: Which published choice of training masks of KolektorSDD2 or SensumSODF.
        backbone: timm name, or "auto": the published one on a GPU, a small one on a CPU.
        backbone_weights: File of pretrained weights, or None.
        geometry: Region of interest, network input size, interpolation.
        variant: Journal or conference.
        widths: Hidden channels of the heads; None for the default of the backbone.
        labels: How many of the training part's pictures and masks are used, and as what regime.
        scoring: How both logits become the image's score; None for what suits the regime.
        calibration_share: Share of the training part that is held out for thresholds; 0 to train on
            all of it, as published results do.
        split_seed: Decides which pictures are held out; the same for runs that are compared.
        device: "auto", "cpu" or "cuda".
        settings: Numbers of the training.
    """

    data: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    mask_above: int | None = None
    fold: int | None = None
    mask_split: int | None = None
    backbone: str = "auto"
    backbone_weights: Path | None = None
    geometry: Geometry = field(default_factory=lambda: Geometry(DEFAULT_INPUT_SIZE_HW))
    variant: Variant = Variant.JOURNAL
    widths: HeadWidths | None = None
    labels: LabelChoice = field(default_factory=LabelChoice)
    scoring: ScoringMethod | None = None
    calibration_share: float = 0.2
    split_seed: int = 0
    device: str = "auto"
    settings: TrainingSettings = field(default_factory=TrainingSettings)


def request_from_settings(
    data: DataSettings,
    train: TrainSettings,
    *,
    masks: int | None = None,
    max_normal: int | None = None,
    max_anomalous: int | None = None,
) -> RunRequest:
    """A request from the project's settings.

    Raises:
        ConfigError: A setting that cannot be, alone or together with another.
    """
    for name, value, kinds in (
        ("variant", train.variant, Variant),
        ("interpolation", train.interpolation, Interpolation),
        ("regime", train.regime, Regime),
        ("scoring", train.scoring, ScoringMethod),
    ):
        if name in ("regime", "scoring") and value == "auto":
            continue
        if value not in (names := [each.value for each in kinds]):
            raise ConfigError(f"{name} {value!r} is unknown; one of {', '.join(names)} fits")
    if bool(train.segmentation_width) != bool(train.classification_width):
        raise ConfigError(
            "only one of segmentation_width and classification_width is set; set both or none"
        )
    limits = (("--max-normal", max_normal), ("--max-anomalous", max_anomalous), ("--masks", masks))
    for name, most in limits:
        if most is not None and most < 0:
            raise ConfigError(f"{name} {most}: 0 or more is wanted")
    return RunRequest(
        data=Path(data.path),
        columns=data.columns,
        mask_above=None if data.mask_above < 0 else data.mask_above,
        fold=None if data.fold < 0 else data.fold,
        mask_split=None if data.mask_split < 0 else data.mask_split,
        backbone=train.backbone,
        backbone_weights=Path(train.backbone_weights) if train.backbone_weights else None,
        geometry=Geometry(
            _pair(train.input_size), _roi(train.roi), Interpolation(train.interpolation)
        ),
        variant=Variant(train.variant),
        widths=(
            HeadWidths(train.segmentation_width, train.classification_width)
            if train.segmentation_width
            else None
        ),
        labels=LabelChoice(
            regime=None if train.regime == "auto" else Regime(train.regime),
            masks=masks,
            max_normal=max_normal,
            max_anomalous=max_anomalous,
        ),
        scoring=None if train.scoring == "auto" else ScoringMethod(train.scoring),
        split_seed=train.split_seed,
        device=train.device,
        settings=TrainingSettings(
            epochs=train.epochs,
            batch_size=train.batch_size,
            seed=train.seed,
            learning_rate_scale=train.learning_rate_scale,
            precision=train.precision,
            step=train.step,
            noise_std=train.noise_std or None,
        ),
    )


def _pair(numbers: list[int]) -> tuple[int, int]:
    if len(numbers) != 2:
        raise ConfigError(f"input_size = {numbers}: height and width are wanted, as [256, 256]")
    return numbers[0], numbers[1]


def _roi(numbers: list[int]) -> tuple[int, int, int, int] | None:
    if not numbers:
        return None
    if len(numbers) != 4:
        raise ConfigError(f"roi = {numbers}: x, y, width and height are wanted, or [] for all")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def request_to_dict(request: RunRequest) -> dict[str, object]:
    """A request as JSON holds it."""
    geometry = request.geometry
    return {
        "data": str(request.data.resolve()),
        "columns": dict(request.columns),
        "mask_above": request.mask_above,
        "fold": request.fold,
        "mask_split": request.mask_split,
        "backbone": request.backbone,
        "backbone_weights": (
            None if request.backbone_weights is None else str(request.backbone_weights.resolve())
        ),
        "input_size_hw": list(geometry.input_size_hw),
        "roi_xywh": None if geometry.roi_xywh is None else list(geometry.roi_xywh),
        "interpolation": geometry.interpolation.value,
        "variant": request.variant.value,
        "widths": None if request.widths is None else dataclasses.asdict(request.widths),
        "labels": {
            **dataclasses.asdict(request.labels),
            "regime": None if request.labels.regime is None else request.labels.regime.value,
        },
        "scoring": None if request.scoring is None else request.scoring.value,
        "calibration_share": request.calibration_share,
        "split_seed": request.split_seed,
        "device": request.device,
        "settings": dataclasses.asdict(request.settings),
    }


def request_from_dict(document: Mapping[str, Any]) -> RunRequest:
    """A request from JSON.

    Raises:
        CheckpointError: A field is missing or of the wrong kind.
    """
    try:
        widths, labels, scoring, weights = (
            document[key] for key in ("widths", "labels", "scoring", "backbone_weights")
        )
        regime = labels["regime"]
        return RunRequest(
            data=Path(document["data"]),
            columns=document["columns"],
            mask_above=document["mask_above"],
            fold=document["fold"],
            mask_split=document["mask_split"],
            backbone=document["backbone"],
            backbone_weights=None if weights is None else Path(weights),
            geometry=geometry_from_dict(document),
            variant=Variant(document["variant"]),
            widths=None if widths is None else HeadWidths(**widths),
            labels=LabelChoice(**{**labels, "regime": None if regime is None else Regime(regime)}),
            scoring=None if scoring is None else ScoringMethod(scoring),
            calibration_share=document["calibration_share"],
            split_seed=document["split_seed"],
            device=document["device"],
            settings=TrainingSettings(**document["settings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the saved request lacks or misstates {error}") from error


def geometry_from_dict(document: Mapping[str, Any]) -> Geometry:
    """The geometry of a request."""
    height, width = document["input_size_hw"]
    roi = document["roi_xywh"]
    return Geometry(
        (int(height), int(width)),
        None if roi is None else (int(roi[0]), int(roi[1]), int(roi[2]), int(roi[3])),
        Interpolation(document["interpolation"]),
    )
