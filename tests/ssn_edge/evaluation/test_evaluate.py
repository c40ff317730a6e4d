"""Judging a part of a data set: what counts where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data.items import Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.evaluation.evaluate import Evaluation, evaluate
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
from ssn_edge_runtime.errors import DatasetError, PictureError
from ssn_edge_runtime.preprocess import Geometry

SIZE_HW = (40, 48)
GEOMETRY = Geometry((32, 32))
RULE = MaskRule(127, "for the test")
MARK = slice(10, 20)


class ByHand:
    """A judge that says a score for each frame in turn, and sees a square where the truth is.

    Args:
        scores: A classification logit and a map maximum; None for `unknown`.
    """

    def __init__(self, scores: Sequence[tuple[float, float] | None]) -> None:
        self._scores = list(scores)
        self.frames: list[ByteImage] = []

    def inspect(self, frame: ByteImage) -> Decision:
        self.frames.append(frame)
        scores = self._scores[len(self.frames) - 1]
        if scores is None:
            return unknown(Reason.BAD_EXPOSURE, "the lamp is out")
        anomaly_map = np.full(GEOMETRY.input_size_hw, min(scores[1], -3.0), np.float32)
        anomaly_map[8:16, 7:13] = scores[1]
        judgement = Judgement(*scores, anomaly_map, (anomaly_map >= 0).astype(np.uint8))
        return decide(
            judgement,
            thresholds=Thresholds(0.0, 0.0),
            rule=ScoringRule.CLASSIFICATION,
            geometry=GEOMETRY,
            frame_size_hw=(frame.shape[0], frame.shape[1]),
        )


def make_items(folder: Path, labels: str) -> list[Item]:
    """One picture for each letter: g is good, d defective with a mask, n without one."""
    items = []
    for number, kind in enumerate(labels):
        image = folder / f"{number}.png"
        cv2.imwrite(str(image), np.full(SIZE_HW, 100 + number, np.uint8))
        mask = None
        if kind == "d":
            mask = folder / f"{number}_mask.png"
            truth = np.zeros(SIZE_HW, np.uint8)
            truth[MARK, MARK] = 255
            cv2.imwrite(str(mask), truth)
        items.append(Item(image, int(kind != "g"), mask, defect_class=None if kind == "g" else "x"))
    return items


def judge_by_hand(
    folder: Path, labels: str, scores: Sequence[tuple[float, float] | None]
) -> Evaluation:
    return evaluate(ByHand(scores), make_items(folder, labels), mask_rule=RULE, geometry=GEOMETRY)


def test_each_label_and_verdict_is_counted(tmp_path: Path) -> None:
    scores = [(-2.0, -2.0), (1.0, -1.0), None, (2.0, 2.0), (-1.0, -1.0), None, None]
    found = judge_by_hand(tmp_path, "gggdddd", scores)
    assert [found.count(0, verdict) for verdict in Verdict] == [1, 1, 1]
    assert [found.count(1, verdict) for verdict in Verdict] == [1, 1, 2]
    assert len(found.judged) == 7
    assert len(found.scored) == 4


def test_what_could_not_be_judged_is_in_no_metric(tmp_path: Path) -> None:
    with_unknown = judge_by_hand(tmp_path, "gdgd", [(-1.0, -1.0), None, None, (1.0, 1.0)]).metrics
    assert (with_unknown.classification.normal, with_unknown.classification.anomalous) == (1, 1)
    assert with_unknown.pixel.pictures == 2
    assert with_unknown == judge_by_hand(tmp_path, "gd", [(-1.0, -1.0), (1.0, 1.0)]).metrics


def test_when_nothing_could_be_judged_there_are_verdicts_and_no_metrics(tmp_path: Path) -> None:
    found = judge_by_hand(tmp_path, "gd", [None, None])
    assert found.count(1, Verdict.UNKNOWN) == 1
    assert found.metrics.classification.i_auroc is None
    assert found.metrics.map_max.ap_det is None
    assert found.metrics.pixel.aupro is None
    assert found.metrics.pixel.pictures == 0


def test_each_score_has_metrics_of_its_own(tmp_path: Path) -> None:
    found = judge_by_hand(tmp_path, "gd", [(-1.0, 2.0), (1.0, 1.0)])
    assert found.metrics.classification.i_auroc == 1.0
    assert found.metrics.map_max.i_auroc == 0.0


def test_a_defect_without_a_mask_counts_for_the_picture_and_not_for_its_pixels(
    tmp_path: Path,
) -> None:
    found = judge_by_hand(tmp_path, "gdn", [(-1.0, -1.0), (1.0, 1.0), (1.0, 1.0)])
    assert found.metrics.classification.anomalous == 2
    assert found.metrics.pixel.pictures == 2
    assert [each.gt_mask is None for each in found.judged] == [False, False, True]


def test_truth_is_brought_to_the_network_s_size_as_the_frame_is(tmp_path: Path) -> None:
    found = judge_by_hand(tmp_path, "d", [(1.0, 1.0)])
    truth = found.judged[0].gt_mask
    assert truth is not None
    assert truth.shape == GEOMETRY.input_size_hw
    rows, columns = np.nonzero(truth)
    assert (rows.min(), rows.max()) == (8, 15)
    assert (columns.min(), columns.max()) == (7, 13)


def test_the_judge_is_given_the_frames_as_they_are_in_the_files(tmp_path: Path) -> None:
    judge = ByHand([(0.0, 0.0)] * 2)
    evaluate(judge, make_items(tmp_path, "gg"), mask_rule=RULE, geometry=GEOMETRY)
    assert [frame.shape for frame in judge.frames] == [SIZE_HW, SIZE_HW]
    assert [int(frame[0, 0]) for frame in judge.frames] == [100, 101]


def test_progress_is_told_after_each_picture(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    evaluate(
        ByHand([None] * 3),
        make_items(tmp_path, "ggg"),
        mask_rule=RULE,
        geometry=GEOMETRY,
        on_progress=lambda done, count: told.append((done, count)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_an_empty_test_part_is_refused() -> None:
    with pytest.raises(DatasetError, match="no pictures to evaluate"):
        evaluate(ByHand([]), [], mask_rule=RULE, geometry=GEOMETRY)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    items = make_items(tmp_path, "gg")
    items[1].image.write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"1\.png"):
        evaluate(ByHand([None] * 2), items, mask_rule=RULE, geometry=GEOMETRY)


def test_a_picture_smaller_than_the_region_of_interest_is_named(tmp_path: Path) -> None:
    geometry = Geometry((32, 32), roi_xywh=(10, 10, 40, 20))
    with pytest.raises(DatasetError, match=r"0\.png: the region of interest 10,10,40,20"):
        evaluate(ByHand([None]), make_items(tmp_path, "g"), mask_rule=RULE, geometry=geometry)
