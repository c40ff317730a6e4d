"""Whether the parts of a data set hold together, and hold enough."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from ssn_edge.data.items import Dataset, Item
from ssn_edge.data.split import split_dataset
from ssn_edge.data_check.findings import Finding, Kind, Severity
from ssn_edge_calibrate.thresholds import threshold_by_rank
from ssn_edge_runtime.errors import DatasetError


def part_findings(dataset: Dataset, max_false_reject: float) -> list[Finding]:
    """Find groups in train and test, and promises that the pictures cannot carry.

    Args:
        dataset: What would be trained on.
        max_false_reject: Share of good parts that may be rejected.
    """
    torn = _torn_groups(dataset)
    if torn:
        return torn  # the split is refused, so there is nothing to count
    try:
        split = split_dataset(dataset)
        split.check_trainable()
    except DatasetError as error:
        return [Finding(Kind.LISTING, Severity.ERROR, str(error))]
    found = []
    normals = sum(not item.is_anomalous for item in split.calibration)
    if not threshold_by_rank(np.arange(normals, dtype=np.float64), max_false_reject).supported:
        wanted = math.ceil(1 / max_false_reject) - 1
        found.append(
            Finding(
                Kind.TOO_FEW,
                Severity.NOTE,
                f"{normals} normal pictures are left to calibrate with: they can promise "
                f"{100 / (normals + 1):.1f} % false rejects, {100 * max_false_reject:g} % needs "
                f"{wanted}",
            )
        )
    for label, name in ((0, "normal"), (1, "defective")):
        if not any(item.label == label for item in split.test):
            text = f"there is no {name} picture to test with, so no metric can be measured"
            found.append(Finding(Kind.TOO_FEW, Severity.NOTE, text))
    return found


def _torn_groups(dataset: Dataset) -> list[Finding]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in dataset.items:
        if item.group is not None and item.split is not None:
            groups[item.group].append(item)
    found = []
    for name, members in groups.items():
        if len({item.split for item in members}) > 1:
            first = {item.split: item.image for item in members}
            text = f"group {name} is in train and in test; pictures of one group must stay together"
            found.append(Finding(Kind.TORN_GROUP, Severity.ERROR, text, tuple(first.values())))
    return found
