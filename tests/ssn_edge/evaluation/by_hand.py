"""An evaluation without a net: pictures that say themselves what the judge finds on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssn_edge.data.items import Item
from ssn_edge.data.masks import MaskRule
from ssn_edge.evaluation.evaluate import Evaluation, evaluate
from ssn_edge.evaluation.report import Report
from ssn_edge.evaluation.summary import report_of
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import (
    Decision,
    Judgement,
    Reason,
    ScoringRule,
    Thresholds,
    decide,
    unknown,
)
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.preprocess import Geometry

SIDE = 40
GEOMETRY = Geometry((SIDE, SIDE))
THRESHOLDS = Thresholds(0.0, 0.0)
RULE = MaskRule(127, "for the test")
_PER_LEVEL = 16


@dataclass(frozen=True)
class Drawn:
    """One picture.

    Args:
        name: Its file, without the suffix.
        score: That the judge gives, from -8 to 7.9 in sixteenths; None for `unknown`.
        brightness: Of all but its first two pixels.
        defect: Kind of defect; empty for a good part.
        side: Of the drawn defect; 0 for one that nobody has drawn.
        seen: Whether the map reaches the score on the drawn defect, or elsewhere.
        group: It belongs to.
    """

    name: str
    score: float | None
    brightness: int = 100
    defect: str = ""
    side: int = 0
    seen: bool = True
    group: str | None = None


class ReadsTheCorner:
    """A judge whose score stands in the first pixel of a picture; 0 there is `unknown`.

    The second pixel says on how large a square, from 8, 8 on, the map has that score; 0 puts it on
    one pixel far from there.
    """

    def inspect(self, frame: ByteImage) -> Decision:
        level, side = int(frame[0, 0]), int(frame[0, 1])
        if not level:
            return unknown(Reason.BAD_EXPOSURE, "too dark")
        score = (level - 128) / _PER_LEVEL
        anomaly_map = np.full((SIDE, SIDE), score - 4, np.float32)
        anomaly_map[8 : 8 + side, 8 : 8 + side] = score
        if not side:
            anomaly_map[34, 34] = score
        judgement = Judgement(score, score, anomaly_map, (anomaly_map >= 0).astype(np.uint8))
        return decide(
            judgement,
            thresholds=THRESHOLDS,
            rule=ScoringRule.CLASSIFICATION,
            geometry=GEOMETRY,
            frame_size_hw=(frame.shape[0], frame.shape[1]),
        )


def evaluate_by_hand(folder: Path, drawn: list[Drawn]) -> Evaluation:
    """Draw pictures and judge them."""
    items = []
    for each in drawn:
        picture = np.full((SIDE, SIDE), each.brightness, np.uint8)
        picture[0, 0] = 0 if each.score is None else round(128 + _PER_LEVEL * each.score)
        picture[0, 1] = each.side if each.seen else 0
        image = folder / f"{each.name}.png"
        cv2.imwrite(str(image), picture)
        mask = None
        if each.side:
            mask = folder / f"{each.name}_mask.png"
            truth = np.zeros((SIDE, SIDE), np.uint8)
            truth[8 : 8 + each.side, 8 : 8 + each.side] = 255
            cv2.imwrite(str(mask), truth)
        kind = each.defect or None
        items.append(Item(image, int(bool(each.defect)), mask, each.group, kind))
    return evaluate(ReadsTheCorner(), items, mask_rule=RULE, geometry=GEOMETRY)


def report_by_hand(folder: Path, drawn: list[Drawn]) -> Report:
    """The report of such an evaluation."""
    return report_of(
        evaluate_by_hand(folder, drawn),
        title="By hand",
        facts={"judged by": "its own pixels"},
        root=folder,
        mask_rule=RULE,
        geometry=GEOMETRY,
        rule=ScoringRule.CLASSIFICATION,
        thresholds=THRESHOLDS,
        risk=Risk(0.05, 60, True),
        notes=["Nothing is real."],
        commands=["ssn-edge evaluate --checkpoint " + "a-long-way/" * 12],
    )


def a_day_s_pictures() -> list[Drawn]:
    """40 good and 24 defective parts: some rejected, some missed; brighter ones score higher."""
    good = [
        Drawn(f"good_{place}", (place % 10) / 4 - 3 + place / 40, 60 + 3 * place)
        for place in range(1, 40)
    ]
    good += [Drawn("good_40", None), Drawn("good_41", 1.5, 190)]
    defective = [
        Drawn(
            f"bad_{place}",
            (place % 8) / 2 - 1,
            70 + 5 * place,
            ("pit", "scratch")[place % 2],
            side=(2, 6, 12)[place % 3],
            seen=place % 5 > 0,
        )
        for place in range(24)
    ]
    return good + defective
