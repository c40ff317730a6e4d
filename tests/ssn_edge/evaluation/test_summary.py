"""Of many pictures, those worth a look: the worst mistakes first."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data.items import Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.evaluation.evaluate import Evaluation, evaluate
from ssn_edge.evaluation.report import Report
from ssn_edge.evaluation.summary import MOST_CLEAR, MOST_MISTAKES, report_of
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    Reason,
    ScoringRule,
    Thresholds,
    Verdict,
    decide,
    unknown,
)
from ssn_edge_runtime.preprocess import Geometry

GEOMETRY = Geometry((32, 32), roi_xywh=(4, 2, 40, 36))
THRESHOLDS = Thresholds(0.0, 0.0)
RULE = MaskRule(127, "for the test")


class ScoreOfLevel:
    """A judge for which a picture's level is its score: 128 is the threshold, 0 is `unknown`."""

    def inspect(self, frame: ByteImage) -> Decision:
        if frame[0, 0] == 0:
            return unknown(Reason.BAD_EXPOSURE, "too dark")
        score = (float(frame[0, 0]) - 128) / 16
        anomaly_map = np.full(GEOMETRY.input_size_hw, score, np.float32)
        judgement = Judgement(score, score, anomaly_map, (anomaly_map >= 0).astype(np.uint8))
        return decide(
            judgement,
            thresholds=THRESHOLDS,
            rule=ScoringRule.MAP_MAX,
            geometry=GEOMETRY,
            frame_size_hw=(frame.shape[0], frame.shape[1]),
        )


def report(folder: Path, normal: list[int], anomalous: list[int]) -> Report:
    """Of pictures with these levels; a defect's kind is `odd` or `even`, as its level is."""
    items = []
    for label, levels in ((0, normal), (1, anomalous)):
        for level in levels:
            image = folder / f"{'nd'[label]}{level}.png"
            cv2.imwrite(str(image), np.full((40, 48), level, np.uint8))
            kind = None if label == 0 else ("even", "odd")[level % 2]
            items.append(Item(image, label, defect_class=kind))
    evaluation: Evaluation = evaluate(ScoreOfLevel(), items, mask_rule=RULE, geometry=GEOMETRY)
    return report_of(
        evaluation,
        title="by hand",
        facts={},
        root=folder,
        mask_rule=RULE,
        geometry=GEOMETRY,
        rule=ScoringRule.MAP_MAX,
        thresholds=THRESHOLDS,
        risk=None,
    )


def test_the_worst_misses_come_first_then_the_worst_false_rejects_then_the_unknown(
    tmp_path: Path,
) -> None:
    found = report(tmp_path, normal=[50, 140, 200, 0], anomalous=[100, 20, 60, 250])
    assert [each.name for each in found.examples] == [
        "d20.png", "d60.png", "d100.png",  # passed, the lowest score first
        "n200.png", "n140.png",  # rejected, the highest score first
        "n0.png",  # not judged
        "d250.png", "n50.png",  # right
    ]  # fmt: skip


def test_of_many_mistakes_the_worst_are_shown(tmp_path: Path) -> None:
    found = report(tmp_path, normal=[200], anomalous=list(range(20, 60)))
    misses = [each.name for each in found.examples if each.label == 1]
    assert misses == [f"d{level}.png" for level in range(20, 20 + MOST_MISTAKES)]


def test_of_many_right_verdicts_a_spread_is_shown(tmp_path: Path) -> None:
    found = report(tmp_path, normal=list(range(20, 60)), anomalous=list(range(160, 220)))
    rights = [each for each in found.examples if each.label == 1]
    assert len(rights) == MOST_CLEAR
    assert (rights[0].name, rights[-1].name) == ("d219.png", "d160.png")
    goods = [each.name for each in found.examples if each.label == 0]
    assert (goods[0], goods[-1], len(goods)) == ("n20.png", "n59.png", MOST_CLEAR // 2)


def test_counts_hold_all_pictures_and_scores_those_that_have_one(tmp_path: Path) -> None:
    found = report(tmp_path, normal=[50, 140, 0], anomalous=[100, 250])
    assert (found.normal.passed, found.normal.failed, found.normal.unknown) == (1, 1, 1)
    assert (found.anomalous.passed, found.anomalous.failed, found.anomalous.unknown) == (1, 1, 0)
    assert found.normal_scores == (pytest.approx(-4.875), pytest.approx(0.75))
    assert len(found.anomalous_scores) == 2


def test_each_kind_of_defect_says_how_many_were_found(tmp_path: Path) -> None:
    found = report(tmp_path, normal=[50], anomalous=[20, 22, 250, 201])
    assert [(each.name, each.pictures, each.found) for each in found.defect_classes] == [
        ("even", 3, 1),
        ("odd", 1, 1),
    ]


def test_an_example_shows_the_region_that_was_judged(tmp_path: Path) -> None:
    found = report(tmp_path, normal=[50], anomalous=[0])
    assert all(each.picture.shape == (36, 40) for each in found.examples)
    not_judged = next(each for each in found.examples if each.verdict is Verdict.UNKNOWN)
    assert not_judged.score is None
    assert not_judged.anomaly_map is None
