"""A checkpoint of someone else to a run's folder: what `evaluate` and `export` take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge.data.layouts import read_dataset
from ssn_edge.data.loading import check_dataset
from ssn_edge.data.split import Split, fingerprint, split_dataset
from ssn_edge.imports.foreign_file import read_foreign_file
from ssn_edge.imports.foreign_net import ImportedNet, NetChoice, import_net
from ssn_edge.project import CHECKPOINT_NAME, UNFINISHED_NAME
from ssn_edge.training.checkpoint import save_checkpoint, tensors_digest
from ssn_edge.training.labels import LabelChoice
from ssn_edge.training.listing import listing_from_split
from ssn_edge.training.regime import default_scoring
from ssn_edge.training.request import DEFAULT_INPUT_SIZE_HW, RunRequest, request_to_dict
from ssn_edge.training.run import tool_versions
from ssn_edge_export.scoring import to_pixels
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is imported, and the data that it shall be judged on.

    Args:
        file: The checkpoint from elsewhere.
        data: Data set: a folder or a CSV file. Its calibration part gives the thresholds, its test
            part the evaluation, the normal pictures of its training part the input statistics.
        columns: Other names of the CSV's columns, ours to theirs.
        mask_above: Mask values above this are defects; None to find out.
        choice: What the file does not tell.
        scoring: Which logit is the image's score; None for the regime's default.
        input_size_hw: Height and width of the network input that it was trained with.
        roi_xywh: Region of interest in camera pixels, or None for the whole frame.
    """

    file: Path
    data: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    mask_above: int | None = None
    choice: NetChoice = field(default_factory=NetChoice)
    scoring: ScoringMethod | None = None
    input_size_hw: tuple[int, int] = DEFAULT_INPUT_SIZE_HW
    roi_xywh: tuple[int, int, int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImportResult:
    """What was written."""

    checkpoint: Path
    imported: ImportedNet
    scoring_rule: ScoringMethod
    file_sha256: str


def import_run(
    request: ImportRequest, folder: Path, on_message: Callable[[str], None] = lambda message: None
) -> ImportResult:
    """Write a run's folder, as training does, with the net of someone else's checkpoint.

    Args:
        request: See there.
        folder: Of the new run; written when all else has succeeded.
        on_message: Takes lines for people.

    Raises:
        CheckpointError: The file is not one that can be imported.
        ConfigError: What the file does not tell was not said; or the folder holds a run.
        DatasetError: The data cannot be used.
    """
    if any((folder / name).exists() for name in (CHECKPOINT_NAME, UNFINISHED_NAME)):
        raise ConfigError(f"{folder} holds a run already; name another folder: --output FOLDER")
    # What cannot be is refused before minutes of reading.
    geometry = Geometry(request.input_size_hw, request.roi_xywh)
    file = read_foreign_file(request.file)
    imported = import_net(file, request.choice, request.input_size_hw)
    architecture = imported.net.architecture
    on_message(
        f"{imported.origin.value}, {architecture.variant.value}: backbone {architecture.backbone}, "
        f"weights from {imported.backbone_weights}"
    )
    dataset = read_dataset(
        request.data, columns=dict(request.columns) or None, mask_above=request.mask_above
    )
    split = split_dataset(dataset)
    split.check_trainable()
    check_dataset(dataset)
    for _, part in split.parts():
        for item in part[:1]:  # the region fits, or it does not
            to_pixels(read_picture(item.image), geometry, item.image)
    on_message(f"{dataset.describe()}; {split.describe()}")
    on_message(_warning(split))
    rule = request.scoring or default_scoring(imported.regime)
    header = {
        "request": _request_document(request, imported),
        "regime": imported.regime.value,
        "scoring_rule": rule.value,
        "training_data": fingerprint(dataset, split),
        "backbone_weights": imported.backbone_weights,
        "backbone_sha256": tensors_digest(imported.net.backbone.state_dict()),
        "listing": listing_from_split(dataset, split),
        "tools": tool_versions(),
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "imported_from": {
            "origin": imported.origin.value,
            "file": request.file.name,
            "sha256": file.sha256,
        },
    }
    path = folder / CHECKPOINT_NAME
    save_checkpoint(path, imported.net, header)
    return ImportResult(path, imported, rule, file.sha256)


def _warning(split: Split) -> str:
    normals = sum(not item.is_anomalous for item in split.calibration)
    return (
        f"thresholds will come from {normals} normal calibration pictures. ssn-edge cannot know "
        "which pictures that training saw: if these were among them, the thresholds are too low "
        "and good parts will be rejected; then import with pictures that it did not see"
    )


def _request_document(request: ImportRequest, imported: ImportedNet) -> dict[str, object]:
    """The request of a training run that would have the same net; its schedule is not known."""
    architecture = imported.net.architecture
    document = request_to_dict(
        RunRequest(
            data=request.data,
            columns=request.columns,
            mask_above=request.mask_above,
            backbone=architecture.backbone,
            backbone_weights=request.choice.backbone_weights,
            geometry=Geometry(request.input_size_hw, request.roi_xywh, imported.interpolation),
            variant=architecture.variant,
            widths=architecture.widths,
            labels=LabelChoice(regime=imported.regime),
            scoring=request.scoring,
        )
    )
    del document["settings"]
    return document
