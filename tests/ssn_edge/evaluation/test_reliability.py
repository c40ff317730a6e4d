"""Drift over brightness and order, as numbers, drawings and words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ssn_edge.evaluation.plain_words import plain_words
from ssn_edge.evaluation.reliability import TrendPoint, reliability_of
from ssn_edge.evaluation.report_numbers import report_numbers
from ssn_edge.evaluation.trend_chart import MOST_DOTS, trend_svg
from ssn_edge_runtime.decision import Verdict
from tests.ssn_edge.evaluation.by_hand import (
    Drawn,
    a_day_s_pictures,
    evaluate_by_hand,
    report_by_hand,
)


def test_brightness_is_that_of_the_picture_and_order_that_of_the_names(tmp_path: Path) -> None:
    drawn = [Drawn("part 10", -1.0, 80), Drawn("part 9", -2.0, 120), Drawn("b", 1.0, 50, "pit")]
    found = reliability_of(evaluate_by_hand(tmp_path, drawn))
    by_score = {point.score: point.place for point in found.brightness.points}
    assert by_score == {
        -1.0: pytest.approx(80, abs=1),
        -2.0: pytest.approx(120, abs=1),
        1.0: pytest.approx(50, abs=1),
    }
    assert found.order.points == (
        TrendPoint(1, -2.0, 0, Verdict.PASS),
        TrendPoint(2, -1.0, 0, Verdict.PASS),
    )
    assert found.order.correlation is None  # two good parts


def test_a_drift_with_brightness_is_said_and_one_that_is_not_there_is_not(tmp_path: Path) -> None:
    # Brightness rises with the place, but places are named in another order.
    drawn = [
        Drawn(f"g{(place * 17) % 41}", place / 20 - 3 + (place % 3) / 9, 60 + 3 * place)
        for place in range(41)
    ]
    report = report_by_hand(tmp_path, [*drawn, Drawn("b", 1.0, defect="pit")])
    assert report.reliability is not None
    assert report.reliability.brightness.correlation is not None
    assert report.reliability.brightness.correlation.is_drift
    said = {each.text: each.is_warning for each in plain_words(report)}
    (drift,) = [text for text in said if "drift with brightness" in text]
    assert "brighter ones score higher" in drift
    assert said[drift]
    assert said["The scores of good parts show no drift with time."] is False


def test_a_part_without_a_judgement_is_a_reject_and_no_dot(tmp_path: Path) -> None:
    drawn = [Drawn(f"g{place}", None if place == 3 else -1.0) for place in range(10)]
    trend = reliability_of(evaluate_by_hand(tmp_path, drawn)).order
    assert [(each.rate.hits, each.rate.count) for each in trend.rejects] == [(1, 10)]
    svg = trend_svg(trend, 0.0, name="n", axis="a", unit="logits")
    assert svg.count("h0") == 9
    assert "nan" not in svg


def test_of_very_many_parts_some_are_drawn_and_all_that_were_rejected(tmp_path: Path) -> None:
    trend = reliability_of(evaluate_by_hand(tmp_path, [Drawn("g", -1.0)])).order
    points = [
        TrendPoint(place, 1.0 if high else -1.0, 0, Verdict.FAIL if high else Verdict.PASS)
        for place, high in ((place, place % 900 == 7) for place in range(5000))
    ]
    many = type(trend)(tuple(points), None, ())
    svg = trend_svg(many, 0.0, name="n", axis="a", unit="logits")
    heights = re.findall(r"M[\d.]+ ([\d.]+)h0", svg)
    highest = min(heights, key=float)
    assert heights.count(highest) == 6
    assert len(heights) <= MOST_DOTS + 6
    assert len(svg) < 40_000


def test_an_empty_trend_is_an_empty_frame(tmp_path: Path) -> None:
    found = reliability_of(evaluate_by_hand(tmp_path, [Drawn("b", 1.0, defect="pit")])).order
    svg = trend_svg(found, 0.0, name="n", axis="a", unit="logits")
    assert "h0" not in svg
    assert "nan" not in svg


def test_the_words_say_what_few_pictures_allow_and_which_defect_is_hardest(tmp_path: Path) -> None:
    report = report_by_hand(tmp_path, a_day_s_pictures())
    said = [each.text for each in plain_words(report)]
    assert said[0].startswith("Of 100 defective parts about 75 are found; these 24 pictures allow ")
    assert "53.2 to 90.3" in said[0]
    assert "Of 100 good parts about 10 are rejected" in said[1]
    assert any(text.startswith("The hardest kind of defect is pit: ") for text in said)
    assert any(text.startswith("Of the smallest defects, below 4 pixels") for text in said)


def test_more_rejects_than_promised_are_a_warning(tmp_path: Path) -> None:
    drawn = [Drawn(f"g{place}", 1.0) for place in range(10)]
    said = [each for each in plain_words(report_by_hand(tmp_path, drawn)) if each.is_warning]
    assert any("these pictures show more" in each.text for each in said)
    assert any("there was no picture of one" in each.text for each in said)


def test_the_json_holds_what_the_drawings_show(tmp_path: Path) -> None:
    report = report_by_hand(tmp_path, a_day_s_pictures())
    numbers = json.loads(json.dumps(report_numbers(report), allow_nan=False))
    assert report.uncertainty is not None
    assert report.regions is not None
    assert numbers["uncertainty"]["rejected"]["share"] == report.uncertainty.rejected.share
    assert numbers["uncertainty"]["decided"]["i_auroc"]["low"] < 1
    assert numbers["regions"]["froc"] == [list(point) for point in report.regions.froc]
    assert [each["from_side"] for each in numbers["regions"]["sizes"]] == [0, 4, 8]
    assert len(numbers["reliability"]["brightness"]["points"]) == 65
    assert sum(each["rate"]["count"] for each in numbers["reliability"]["order"]["rejects"]) == 41
    assert len(numbers["map_maxima"]["normal"]) == 40  # one has no judgement
    assert set(numbers["defect_classes"][0]["rate"]["interval"]) == {"low", "high"}
