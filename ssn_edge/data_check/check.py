"""A look at a data set before training: what is wrong with it, all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssn_edge.data.items import Dataset
from ssn_edge.data.layouts import read_dataset
from ssn_edge.data.masks import detect_mask_rule
from ssn_edge.data_check.copies import copy_findings
from ssn_edge.data_check.exposure import exposure_findings
from ssn_edge.data_check.findings import DataReport, Finding, Kind, Severity, sorted_findings
from ssn_edge.data_check.mask_faults import mask_findings
from ssn_edge.data_check.measure import Progress, fault_of, look_at_all
from ssn_edge.data_check.parts import part_findings
from ssn_edge.data_check.picture_faults import (
    colour_findings,
    size_findings,
    unreadable,
    unreadable_findings,
)
from ssn_edge_runtime.errors import DatasetError, PictureError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES, read_picture

MAX_FALSE_REJECT = 0.01


def check_data(
    dataset: Dataset,
    *,
    max_false_reject: float = MAX_FALSE_REJECT,
    on_progress: Progress = lambda done, count: None,
) -> DataReport:
    """Look at every picture and mask once and tell what is wrong.

    Args:
        dataset: What was listed.
        max_false_reject: Share of good parts that may be rejected; more pictures for a smaller one.
        on_progress: Called with pictures done and in all.
    """
    looked = look_at_all(dataset.items, dataset.mask_rule, on_progress)
    findings = [
        *unreadable_findings(looked),
        *copy_findings(looked),
        *mask_findings(looked, dataset.mask_rule),
        *size_findings(looked),
        *colour_findings(looked),
        *exposure_findings(looked),
        *part_findings(dataset, max_false_reject),
    ]
    return DataReport(
        root=dataset.root,
        summary=dataset.describe(),
        findings=sorted_findings(findings),
        items={item.image: item for item in dataset.items},
        mask_above=dataset.mask_rule.above,
    )


def check_data_at(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    mask_above: int | None = None,
    max_false_reject: float = MAX_FALSE_REJECT,
    on_progress: Progress = lambda done, count: None,
) -> DataReport:
    """Check the data set at a path, as far as it can be listed.

    Where it cannot be, that is the first finding, and every picture file below is tried.

    Args:
        path: A folder in one of the layouts, or a CSV file; see `read_dataset`.
        columns: For a CSV list, our column name to theirs.
        mask_above: Mask values above this one mean a defect; None detects it.
        max_false_reject: Share of good parts that may be rejected.
        on_progress: Called with pictures done and in all.

    Raises:
        ConfigError: `columns` or `mask_above` cannot be.
        DatasetError: There is nothing at the path.
    """

    def read(above: int | None) -> Dataset:
        return read_dataset(path, columns=columns, mask_above=above)

    if not path.exists():
        read(mask_above)  # which says so
    try:
        dataset = _read_in_spite_of_masks(read, mask_above)
    except DatasetError as error:
        root = path.parent if path.is_file() else path
        listing = Finding(Kind.LISTING, Severity.ERROR, str(error).replace(f"{root}/", ""))
        findings = [listing, *_unreadable_below(root, on_progress)]
        summary = "could not be listed; every picture file below was tried"
        return DataReport(root, summary, sorted_findings(findings))
    return check_data(dataset, max_false_reject=max_false_reject, on_progress=on_progress)


def _read_in_spite_of_masks(
    read: Callable[[int | None], Dataset], mask_above: int | None
) -> Dataset:
    """List a data set; masks that cannot be read do not count for the rule of mask values."""
    try:
        return read(mask_above)
    except PictureError:
        if mask_above is not None:
            raise
    # A given rule needs no look at the masks, unless labels come from them.
    dataset = read(0)
    masks = [item.mask for item in dataset.anomalous if item.mask and not _fault(item.mask)]
    return dataclasses.replace(dataset, mask_rule=detect_mask_rule(masks))


def _unreadable_below(root: Path, on_progress: Progress) -> Sequence[Finding]:
    files = sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in PICTURE_SUFFIXES and file.name[0] != "." and file.is_file()
    )
    found = []
    for done, file in enumerate(files, start=1):
        if fault := _fault(file):
            found.append(unreadable(file, fault))
        on_progress(done, len(files))
    return found


def _fault(file: Path) -> str:
    """Why a picture cannot be read; empty if it can."""
    try:
        read_picture(file)
    except PictureError as error:
        return fault_of(file, error)
    return ""
