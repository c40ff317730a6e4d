"""Intervals, classes and regions of an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge.evaluation.uncertainty import classes_of, regions_of, uncertainty_of
from ssn_edge_calibrate import Interval
from ssn_edge_calibrate.exact_interval import exact_interval
from tests.ssn_edge.evaluation.by_hand import Drawn, evaluate_by_hand


def test_rates_have_exact_intervals_and_unknown_counts_as_rejected(tmp_path: Path) -> None:
    good = [Drawn(f"g{place}", -1.0) for place in range(8)]
    good += [Drawn("rejected", 1.0), Drawn("unjudged", None)]
    bad = [Drawn(f"b{place}", 1.0 - 2 * (place == 0), defect="pit") for place in range(5)]
    found = uncertainty_of(evaluate_by_hand(tmp_path, good + bad))
    assert found.rejected.interval == Interval(*exact_interval(2, 10))
    assert found.found.interval == Interval(*exact_interval(4, 5))
    assert found.groups is None
    assert found.decided.i_auroc is not None
    assert found.decided.i_auroc.low < found.decided.i_auroc.high


def test_six_pictures_of_one_part_count_once_where_they_agree(tmp_path: Path) -> None:
    drawn = [
        Drawn(f"{part}_{shot}", 1.0 if part == 3 else -1.0, group=f"part {part}")
        for part in range(10)
        for shot in range(6)
    ]
    found = uncertainty_of(evaluate_by_hand(tmp_path, drawn))
    assert found.groups == 10
    assert (found.rejected.hits, found.rejected.count) == (6, 60)
    assert found.rejected.interval == Interval(*exact_interval(1, 10))
    assert found.decided.i_auroc is None


def test_each_class_is_held_against_all_good_parts(tmp_path: Path) -> None:
    drawn = [Drawn(f"g{place}", place / 4 - 2) for place in range(8)]
    drawn += [Drawn("p1", 2.0, defect="pit"), Drawn("p2", 3.0, defect="pit")]
    drawn += [Drawn("s1", -3.0, defect="scratch"), Drawn("s2", None, defect="scratch")]
    pit, scratch = classes_of(evaluate_by_hand(tmp_path, drawn))
    assert (pit.name, pit.found, pit.pictures, pit.i_auroc) == ("pit", 2, 2, 1.0)
    assert (scratch.name, scratch.found, scratch.pictures, scratch.i_auroc) == ("scratch", 0, 2, 0)
    assert scratch.rate is not None
    assert scratch.rate.interval == Interval(*exact_interval(0, 2))
    numbers = scratch.to_dict()
    assert isinstance(numbers["i_auroc_interval"], dict)


def test_defects_are_counted_by_size_and_false_regions_beside_them(tmp_path: Path) -> None:
    drawn = [
        Drawn("good", -1.0),
        Drawn("rejected", 1.0),  # one pixel of the map, and no truth
        Drawn("small", 1.0, defect="pit", side=3),
        Drawn("small too", 1.0, defect="pit", side=2, seen=False),  # elsewhere: a false region
        Drawn("large", 1.0, defect="pit", side=12),
        Drawn("nobody drew it", 1.0, defect="pit"),
    ]
    found = regions_of(evaluate_by_hand(tmp_path, drawn), pixel_threshold=0.0)
    assert found is not None
    assert [(each.from_side, each.found.hits, each.found.count) for each in found.sizes] == [
        (0, 1, 2),
        (8, 1, 1),
    ]
    assert found.false_regions == pytest.approx(2 / 5)
    assert found.pictures == 5
    assert found.froc[-1][1] > 0
    assert found.to_dict()["false_regions_a_picture"] == pytest.approx(2 / 5)


def test_without_a_drawn_defect_there_are_no_region_findings(tmp_path: Path) -> None:
    assert regions_of(evaluate_by_hand(tmp_path, [Drawn("g", -1.0)]), 0.0) is None
