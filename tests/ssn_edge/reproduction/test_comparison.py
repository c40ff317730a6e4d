"""How runs become rows: the published aggregation, and what the heading must say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge.model.variant import Variant
from ssn_edge.reproduction import (
    ComparedRow,
    Figures,
    PublishedDataset,
    ReproductionRequest,
    RunFigures,
    compare,
    published_figures,
)
from ssn_edge.reproduction.figures import Values
from ssn_edge.reproduction.table import markdown, table_lines

MVTEC, VISA, KSDD2, SENSUM = PublishedDataset
ROOT = Path("data")


def result(
    part: str, seed: int, values: float | Values, regime: str = "unsupervised"
) -> RunFigures:
    return RunFigures(
        part=part,
        seed=seed,
        values=(values,) * 7 if isinstance(values, float) else values,
        regime=regime,
        test_pictures=10,
        test_anomalous=4,
        backbone_weights="timm",
        training_data="0" * 64,
        device="cpu",
        tools={"ssn-edge": "0", "torch": "2"},
        seconds=1.0,
    )


def whole(request: ReproductionRequest, value: float = 90.0) -> list[RunFigures]:
    return [
        result(part.name, seed, value + seed, request.regime.value)
        for part in request.parts
        for seed in request.seeds
    ]


def test_a_group_has_the_mean_and_the_sample_deviation_of_its_seeds() -> None:
    request = ReproductionRequest(MVTEC, ROOT, groups=("bottle",), seeds=(0, 1, 2))
    values = {0: 90.0, 1: 92.0, 2: 97.0}
    row = compare(request, [result("bottle", seed, each) for seed, each in values.items()]).rows[0]
    assert (row.name, row.runs) == ("bottle", 3)
    assert row.ours is not None
    assert row.ours.mean == pytest.approx((93.0,) * 7)
    assert row.ours.std == pytest.approx((13.0**0.5,) * 7)  # ((-3)^2 + (-1)^2 + 4^2) / 2


def test_the_deviation_of_a_mean_is_that_of_the_per_run_means() -> None:
    """Groups that rise and fall against each other have a mean that does not move."""
    request = ReproductionRequest(MVTEC, ROOT, groups=("bottle", "cable"), seeds=(0, 1))
    runs = [("bottle", 0, 90.0), ("bottle", 1, 94.0), ("cable", 0, 84.0), ("cable", 1, 80.0)]
    mean = compare(request, [result(*run) for run in runs]).rows[-1]
    assert mean.ours is not None
    assert mean.ours.mean == pytest.approx((87.0,) * 7)
    assert mean.ours.std == pytest.approx((0.0,) * 7)


def test_a_product_is_the_mean_of_its_folds_and_the_whole_that_of_its_products() -> None:
    request = ReproductionRequest(SENSUM, ROOT, 100, seeds=(0,))
    runs = [result(f"capsule-fold{fold}", 0, 90.0 + 3 * fold, "full") for fold in range(3)]
    runs += [result(f"softgel-fold{fold}", 0, 80.0, "full") for fold in range(3)]
    rows = {row.name: row for row in compare(request, runs).rows}
    assert list(rows) == ["capsule", "softgel", "mean"]
    means = {name: row.ours.mean[0] for name, row in rows.items() if row.ours is not None}
    assert means == pytest.approx({"capsule": 93.0, "softgel": 80.0, "mean": 86.5})
    assert rows["mean"].published == published_figures(SENSUM, 100, Variant.JOURNAL)["mean"]


def test_a_product_without_one_of_its_folds_has_no_number_for_that_seed() -> None:
    request = ReproductionRequest(SENSUM, ROOT, 100, seeds=(0, 1))
    runs = [each for each in whole(request) if (each.part, each.seed) != ("capsule-fold1", 1)]
    comparison = compare(request, runs)
    assert [(row.name, row.runs) for row in comparison.rows] == [
        ("capsule", 1),
        ("softgel", 2),
        ("mean", 1),
    ]
    assert "11 of 12 runs finished" in comparison.departures


def test_a_mean_over_fewer_groups_is_compared_with_the_same_groups() -> None:
    request = ReproductionRequest(MVTEC, ROOT, groups=("bottle", "cable"))
    row = compare(request, whole(request)).rows[-1]
    assert row.name == "mean of 2 of 15"
    assert row.published is not None
    assert row.published.mean[0] == pytest.approx((100.00 + 97.51) / 2)
    assert row.published.std == (None,) * 7
    assert row.differences[0] == pytest.approx(92.0 - 98.755)
    assert row.deviations == (None,) * 7


def test_a_group_that_failed_is_left_out_of_the_mean_which_says_so() -> None:
    request = ReproductionRequest(MVTEC, ROOT)
    runs = [each for each in whole(request) if each.part != "cable"]
    comparison = compare(request, runs, ["cable, seed 0: no pictures"])
    rows = {row.name: row for row in comparison.rows}
    assert rows["cable"].ours is None
    assert rows["cable"].runs == 0
    assert rows["mean of 14 of 15"].runs == 5
    text = "\n".join(table_lines(comparison))
    assert "NOT THE PUBLISHED PROTOCOL: 70 of 75 runs finished" in text
    assert "FAILED: cable, seed 0: no pictures" in text


def test_a_difference_is_told_in_pooled_deviations() -> None:
    row = ComparedRow("x", 5, Figures((90.0,), (3.0,)), Figures((94.0,), (4.0,)))
    assert row.differences == (-4.0,)
    assert row.deviations == pytest.approx((-4.0 / 12.5**0.5,))


def test_a_single_run_is_measured_in_published_deviations() -> None:
    row = ComparedRow("x", 1, Figures((95.0,), (None,)), Figures((94.0,), (4.0,)))
    assert row.deviations == pytest.approx((0.25,))


def test_a_published_deviation_of_nothing_stands_for_half_a_digit() -> None:
    row = ComparedRow("x", 5, Figures((99.99,), (0.0,)), Figures((100.0,), (0.0,)))
    assert row.deviations == pytest.approx((-2.0,))


def test_a_difference_beyond_all_deviations_is_cut_in_print() -> None:
    request = ReproductionRequest(KSDD2, ROOT, 246)
    page = markdown(compare(request, [result("all", seed, 0.0, "full") for seed in range(5)]))
    assert "| -99.66 (under -99) |" in page


def test_a_metric_without_meaning_stays_empty() -> None:
    request = ReproductionRequest(KSDD2, ROOT, 246)
    values: Values = (90.0, 90.0, None, None, None, 90.0, 90.0)
    comparison = compare(request, [result("all", seed, values, "full") for seed in range(5)])
    row = comparison.rows[0]
    assert row.ours is not None
    assert row.ours.mean[2:5] == (None,) * 3
    assert row.differences[2:5] == row.deviations[2:5] == (None,) * 3
    assert "| all (5 runs) | ours | 90.00 ± 0.00 | 90.00 ± 0.00 | - | - | - |" in markdown(
        comparison
    )


def test_the_whole_published_protocol_is_called_so() -> None:
    request = ReproductionRequest(KSDD2, ROOT, 53)
    comparison = compare(request, whole(request))
    assert comparison.departures == ()
    assert comparison.to_dict()["is_published_protocol"] is True
    lines = table_lines(comparison)
    assert lines[0] == "SuperSimpleNet (journal variant) on KolektorSDD2, mixed (53 masks)"
    assert lines[1] == "By the published protocol."
    assert "NOT" not in markdown(comparison)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 30}, "epochs: 30 instead of 300"),
        ({"backbone": "resnet18"}, "backbone: resnet18 instead of wide_resnet50_2.tv_in1k"),
        ({"input_size_hw": (64, 32)}, "network input: 64x32 instead of 144x144 and 320x192"),
        ({"batch_size": 8}, "batch size: 8 instead of 32"),
        ({"learning_rate_scale": 4.0}, "learning rates x 4"),
        ({"groups": ("softgel",)}, "1 of 2 products"),
        ({"seeds": (0, 1)}, "seeds: 2 instead of 5"),
    ],
)
def test_each_departure_from_the_protocol_stands_above_the_numbers(
    options: dict[str, object], words: str
) -> None:
    request = ReproductionRequest(SENSUM, ROOT, 100, **options)  # type: ignore[arg-type]
    comparison = compare(request, whole(request))
    assert comparison.departures == (words,)
    assert table_lines(comparison)[1] == f"NOT THE PUBLISHED PROTOCOL: {words}."
    page = markdown(comparison)
    assert page.index(words) < page.index("I-AUROC")


def test_labels_that_made_another_regime_are_told() -> None:
    request = ReproductionRequest(KSDD2, ROOT, 246)
    runs = [result("all", seed, 90.0, "full" if seed else "mixed") for seed in range(5)]
    assert compare(request, runs).departures == ("the labels made it mixed in some runs",)


@pytest.mark.parametrize("dataset", [KSDD2, SENSUM])
def test_unknown_settings_of_the_authors_are_told(dataset: PublishedDataset) -> None:
    unsupervised = compare(ReproductionRequest(dataset, ROOT), [])
    assert any("were not found" in note for note in unsupervised.notes)
    labelled = compare(ReproductionRequest(dataset, ROOT, 0), [])
    assert not any("were not found" in note for note in labelled.notes)


def test_what_was_never_published_is_told() -> None:
    request = ReproductionRequest(KSDD2, ROOT, 16, variant=Variant.CONFERENCE)
    comparison = compare(request, whole(request))
    assert comparison.rows[0].published is None
    assert "Nothing was published for this variant with these labels." in comparison.notes


def test_no_results_at_all_make_an_empty_table() -> None:
    text = "\n".join(table_lines(compare(ReproductionRequest(MVTEC, ROOT), [])))
    assert "0 of 75 runs finished" in text
    assert "mean of 0 of 15 (0 runs)" in text


def test_columns_of_the_terminals_table_line_up() -> None:
    request = ReproductionRequest(MVTEC, ROOT)
    lines = table_lines(compare(request, whole(request)))
    head = next(line for line in lines if "I-AUROC" in line)
    for line in lines:
        if line.startswith("  published"):
            assert len(line) == len(head)
