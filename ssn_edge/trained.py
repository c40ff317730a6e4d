"""A finished run, ready to be evaluated or exported: its net, its data, what it decides by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.layouts import read_dataset
from ssn_edge.data.loading import load_item
from ssn_edge.data.masks import MaskRule
from ssn_edge.data.split import Split
from ssn_edge.evaluation.gate_page import write_gate_page
from ssn_edge.model.supersimplenet import SuperSimpleNet
from ssn_edge.training.checkpoint import load_checkpoint
from ssn_edge.training.listing import holds_any_of, is_all_of, listing_root, unchanged_parts
from ssn_edge.training.request import geometry_from_dict
from ssn_edge_export import (
    ExportRequest,
    ExportResult,
    GateLimits,
    GraphKind,
    LabelledPicture,
    export_package,
)
from ssn_edge_runtime.arrays import BoolMask
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.errors import CheckpointError, DatasetError
from ssn_edge_runtime.preprocess import Geometry, preprocess_mask

REPORT_NAME = "report.html"
"""Beside a checkpoint, where `evaluate` writes it and `export` finds it."""
GATE_PAGE_SUFFIX = ".gate.html"
"""Beside a package: what the export gate measured."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRun:
    """What a checkpoint says, with its data where they are now.

    Args:
        checkpoint: The file.
        net: In evaluation mode, on the CPU.
        geometry: From camera to network pixels.
        scoring: How both logits become the image's score.
        regime: Supervision that training had.
        data_root: Folder that names of pictures are relative to.
        split: The three parts.
        mask_rule: How mask values are read.
        training_data: Fingerprint of the data.
        tools: Versions of what trained it.
        is_imported: Whether it was trained elsewhere, on pictures that nobody here knows.
    """

    checkpoint: Path
    net: SuperSimpleNet
    geometry: Geometry
    scoring: ScoringMethod
    regime: str
    data_root: Path
    split: Split
    mask_rule: MaskRule
    training_data: str
    tools: dict[str, str]
    is_imported: bool = False


def open_run(
    checkpoint: Path, data: Path | None = None, *, may_be_other: bool = False
) -> TrainedRun:
    """Read a checkpoint and find its pictures.

    Args:
        checkpoint: The file.
        data: Where the data set is now, if it moved since training.
        may_be_other: Whether `data` may be another data set. Its test part, or all of it where it
            names none, then takes the place of the run's.

    Raises:
        CheckpointError: Damaged, or its header lacks something.
        DatasetError: A picture is not there any more, or changed.
    """
    loaded = load_checkpoint(checkpoint)
    header = loaded.header
    try:
        root, split, mask_rule = _parts(header, data, may_be_other)
        return TrainedRun(
            checkpoint=checkpoint,
            net=loaded.net,
            geometry=geometry_from_dict(header["request"]),
            scoring=ScoringMethod(header["scoring_rule"]),
            regime=str(header["regime"]),
            data_root=root,
            split=split,
            mask_rule=mask_rule,
            training_data=str(header["training_data"]),
            tools={name: str(version) for name, version in header["tools"].items()},
            is_imported="imported_from" in header,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint}: its header lacks or misstates {error}") from error


def _parts(
    header: Mapping[str, Any], data: Path | None, may_be_other: bool
) -> tuple[Path, Split, MaskRule]:
    """Root, parts and mask rule, from where the run's data are now or from another data set."""
    if data is None:
        return _own_parts(header, listing_root(header["listing"]))
    listing, columns = header["listing"], header["request"]["columns"] or None
    listed = read_dataset(data, columns=columns) if data.is_file() and may_be_other else None
    if listed is not None and not is_all_of(listing, listed):
        other = listed
        test = _test_part(other)
        seen = any(holds_any_of(listing, other, part) for part in ("train", "calibration"))
        if seen and not test:
            raise DatasetError(
                f"{data}: names pictures that training or calibration saw, and no test part; leave "
                "them out, or name the run's own list"
            )
    else:
        try:
            return _own_parts(header, data.parent if data.is_file() else data)
        except DatasetError:
            if not may_be_other:
                raise
            other = read_dataset(data, columns=columns)
            test = _test_part(other)
            # Without a test part of its own, all is judged: not if training saw some of it.
            if not test and holds_any_of(listing, other):
                raise
    _, own, _ = _own_parts(header, listing_root(header["listing"]))
    return other.root, replace(own, test=test or other.items), other.mask_rule


def _test_part(dataset: Dataset) -> tuple[Item, ...]:
    """What the data set itself names so; empty where it names none."""
    return tuple(item for item in dataset.items if item.split == "test")


def _own_parts(header: Mapping[str, Any], root: Path) -> tuple[Path, Split, MaskRule]:
    """The run's own parts, unchanged since training."""
    return (root, *unchanged_parts(header, root))


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a user chooses of an export.

    Args:
        max_false_reject: Share of good parts that may be rejected, for both thresholds.
        confidence: That it holds for these very calibration pictures; None for on average.
        precisions: Beside FP32, which is always in the package: ``fp16``, ``int8``.
        graph: Which graph goes into the package.
        limits: Of the gate.
        keeps_going: Write the package without a precision that was refused, instead of nothing.
    """

    max_false_reject: float
    precisions: tuple[str, ...] = ()
    graph: GraphKind = GraphKind.DEPLOY
    limits: GateLimits = field(default_factory=GateLimits)
    keeps_going: bool = False
    confidence: float | None = None


def export_run(
    run: TrainedRun,
    output: Path,
    options: ExportOptions,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> ExportResult:
    """Write a run's net as one model package; see `ssn_edge_export.export_package`.

    A report that `evaluate` left beside the checkpoint goes into the package. What the gate
    measured is written beside the package as a page for people, also when it refuses.
    """
    report = run.checkpoint.parent / REPORT_NAME
    request = ExportRequest(
        output=output,
        name=output.stem,
        geometry=run.geometry,
        scoring=run.scoring,
        variant=run.net.architecture.variant.value,
        regime=run.regime,
        backbone=run.net.architecture.backbone,
        training_data=run.training_data,
        training_normals=[item.image for item in run.split.train if not item.is_anomalous],
        calibration=[LabelledPicture(item.image, item.label) for item in run.split.calibration],
        test=[LabelledPicture(item.image, item.label) for item in run.split.test],
        read_truth=_truth_reader(run),
        max_false_reject=options.max_false_reject,
        confidence=options.confidence,
        graph=options.graph,
        precisions=options.precisions,
        limits=options.limits,
        keeps_going=options.keeps_going,
        tools=run.tools,
        report_html=report.read_bytes() if report.is_file() else None,
    )
    page = output.with_name(f"{output.stem}{GATE_PAGE_SUFFIX}")
    return export_package(
        run.net, request, on_progress=on_progress, on_gate=lambda gate: write_gate_page(gate, page)
    )


def _truth_reader(run: TrainedRun) -> Callable[[Path], BoolMask | None]:
    items = {item.image: item for _, part in run.split.parts() for item in part}

    def read_truth(path: Path) -> BoolMask | None:
        truth = load_item(items[path], run.mask_rule).gt_mask
        return None if truth is None else preprocess_mask(truth, run.geometry)

    return read_truth
