"""The published numbers: mean and deviation of five runs, in per cent.

`published.csv` holds them as the authors' result files do, rounded to two digits; an empty `masks`
is unsupervised, `all` the only part of a data set, `mean` the mean of its groups.

Source:
    supersimplenet.md sections 5.3 and 5.4: blaz-r/SuperSimpleNet, paper_results/icpr and
    paper_results/jims, results_avg_std.json.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from ssn_edge.model.variant import Variant
from ssn_edge.reproduction.figures import Figures
from ssn_edge.reproduction.protocols import PublishedDataset

METRICS = (
    "I-AUROC",
    "AP-det",
    "P-AUROC",
    "AP-loc",
    "AUPRO",
    "map-max I-AUROC",
    "map-max AP-det",
)
"""Columns of every table; the first two are of the classification head's score."""
COLUMNS = (
    "i_auroc",
    "ap_det",
    "p_auroc",
    "ap_loc",
    "aupro",
    "map_max_i_auroc",
    "map_max_ap_det",
)
"""The same in files."""

MEAN = "mean"
"""Name of the row that holds the mean of all groups."""
ROUNDING = 0.005
"""Half a unit of the last published digit: what a published deviation of 0.00 may stand for."""


def published_figures(
    dataset: PublishedDataset, masks: int | None, variant: Variant
) -> dict[str, Figures]:
    """The published rows of one experiment, by group, and `mean`; empty if it was not published.

    Args:
        dataset: Which data set.
        masks: Choice of masks as the data set counts them; None for unsupervised.
        variant: Whose paper.
    """
    return _table().get((variant, dataset, masks), {})


@cache
def _table() -> dict[tuple[Variant, PublishedDataset, int | None], dict[str, Figures]]:
    table: dict[tuple[Variant, PublishedDataset, int | None], dict[str, Figures]] = {}
    text = files("ssn_edge.reproduction").joinpath("published.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        key = (
            Variant(row["variant"]),
            PublishedDataset(row["dataset"]),
            int(row["masks"]) if row["masks"] else None,
        )
        table.setdefault(key, {})[row["part"]] = Figures(
            tuple(float(row[name]) for name in COLUMNS),
            tuple(float(row[f"{name}_std"]) for name in COLUMNS),
        )
    return table
