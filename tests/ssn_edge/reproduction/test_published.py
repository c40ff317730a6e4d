"""The published numbers, against spot values of the result files and against their own means."""

from __future__ import annotations

import pytest

from ssn_edge.model.variant import Variant
from ssn_edge.reproduction import METRICS, PublishedDataset, protocol_of, published_figures
from ssn_edge.reproduction.figures import mean_of
from ssn_edge.reproduction.published import MEAN, ROUNDING

JOURNAL, CONFERENCE = Variant.JOURNAL, Variant.CONFERENCE
MVTEC, VISA, KSDD2, SENSUM = PublishedDataset


@pytest.mark.parametrize(
    ("variant", "dataset", "masks", "row", "metric", "mean", "std"),
    [
        (JOURNAL, MVTEC, None, "bottle", "AUPRO", 90.35, 0.36),
        (JOURNAL, MVTEC, None, "screw", "map-max I-AUROC", 94.97, 1.64),
        (JOURNAL, MVTEC, None, MEAN, "I-AUROC", 98.33, 0.14),
        (JOURNAL, VISA, None, "macaroni2", "AP-loc", 4.62, 0.67),
        (JOURNAL, VISA, None, MEAN, "map-max AP-det", 95.31, 0.38),
        (JOURNAL, KSDD2, None, "all", "I-AUROC", 79.41, 6.01),
        (JOURNAL, KSDD2, 0, "all", "P-AUROC", 89.07, 2.04),
        (JOURNAL, KSDD2, 16, "all", "AP-loc", 59.07, 1.50),
        (JOURNAL, KSDD2, 53, "all", "AP-det", 97.67, 0.63),
        (JOURNAL, KSDD2, 126, "all", "AUPRO", 98.15, 0.40),
        (JOURNAL, KSDD2, 246, "all", "AP-det", 97.84, 0.18),
        (JOURNAL, SENSUM, None, "softgel", "P-AUROC", 97.90, 0.08),
        (JOURNAL, SENSUM, 0, "softgel", "AUPRO", 89.56, 3.93),
        (JOURNAL, SENSUM, 60, "capsule", "map-max AP-det", 87.08, 0.31),
        (JOURNAL, SENSUM, 100, MEAN, "I-AUROC", 97.98, 0.19),
        (CONFERENCE, MVTEC, None, "leather", "AP-loc", 36.02, 2.51),
        (CONFERENCE, VISA, None, "pcb4", "AUPRO", 87.25, 1.91),
        (CONFERENCE, KSDD2, 246, "all", "AP-loc", 82.11, 0.50),
        (CONFERENCE, SENSUM, 100, "capsule", "AUPRO", 93.98, 1.01),
    ],
)
def test_a_published_number_stands_where_it_belongs(
    variant: Variant,
    dataset: PublishedDataset,
    masks: int | None,
    row: str,
    metric: str,
    mean: float,
    std: float,
) -> None:
    figures = published_figures(dataset, masks, variant)[row]
    at = METRICS.index(metric)
    assert (figures.mean[at], figures.std[at]) == (mean, std)


def experiments() -> list[tuple[Variant, PublishedDataset, int | None]]:
    whole: list[tuple[Variant, PublishedDataset, int | None]] = [
        (JOURNAL, dataset, masks)
        for dataset in PublishedDataset
        for masks in (None, *protocol_of(dataset).masks)
    ]
    whole += [(CONFERENCE, MVTEC, None), (CONFERENCE, VISA, None)]
    return [*whole, (CONFERENCE, KSDD2, 246), (CONFERENCE, SENSUM, 100)]


@pytest.mark.parametrize(("variant", "dataset", "masks"), experiments())
def test_each_experiment_has_a_row_for_each_group_and_their_mean(
    variant: Variant, dataset: PublishedDataset, masks: int | None
) -> None:
    rows = published_figures(dataset, masks, variant)
    groups = protocol_of(dataset).groups
    assert set(rows) == ({*groups, MEAN} if len(groups) > 1 else set(groups))
    for figures in rows.values():
        assert all(mean is not None and 0 < mean <= 100 for mean in figures.mean)
        assert all(std is not None and 0 <= std < 10 for std in figures.std)


@pytest.mark.parametrize(
    ("variant", "dataset", "masks"),
    [each for each in experiments() if len(protocol_of(each[1]).groups) > 1],
)
def test_the_mean_row_is_the_mean_of_its_groups_to_rounding(
    variant: Variant, dataset: PublishedDataset, masks: int | None
) -> None:
    rows = published_figures(dataset, masks, variant)
    groups = protocol_of(dataset).groups
    found = mean_of([rows[group].mean for group in groups])
    # Each group is rounded, and so is the mean.
    wanted = [pytest.approx(mean, abs=2 * ROUNDING + 1e-9) for mean in rows[MEAN].mean]
    assert list(found) == wanted


def test_what_was_not_published_has_no_rows() -> None:
    assert published_figures(KSDD2, 16, CONFERENCE) == {}
    assert published_figures(MVTEC, 16, JOURNAL) == {}
