"""Judge a part of a data set, and measure how well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ssn_edge.data.items import Item
from ssn_edge.data.loading import load_item
from ssn_edge.data.masks import MaskRule
from ssn_edge.evaluation.judges import FrameJudge
from ssn_edge_calibrate.metrics import Metrics, image_metrics, pixel_metrics
from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import Decision, Verdict
from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.preprocess import FrameError, Geometry, preprocess_mask


@dataclass(frozen=True, slots=True, eq=False)
class JudgedItem:
    """One picture with what was decided and what is true.

    Args:
        item: The picture.
        decision: With map and mask, unless the verdict is `unknown`.
        gt_mask: Truth at network resolution, (h, w) bool; None for a defect nobody has drawn.
        brightness: Mean grey level of the judged region, 0 to 255.
    """

    item: Item
    decision: Decision
    gt_mask: BoolMask | None
    brightness: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All pictures of a part, judged, and the metrics over those that could be judged.

    A picture whose verdict is `unknown` has no score: it counts in the verdicts and not in the
    metrics.
    """

    judged: tuple[JudgedItem, ...]
    metrics: Metrics

    @property
    def scored(self) -> tuple[JudgedItem, ...]:
        """Those with a score."""
        return tuple(each for each in self.judged if each.decision.raw_score is not None)

    def count(self, label: int, verdict: Verdict) -> int:
        """How many pictures of a label got a verdict."""
        return sum(
            each.item.label == label and each.decision.verdict is verdict for each in self.judged
        )


def evaluate(
    judge: FrameJudge,
    items: Sequence[Item],
    *,
    mask_rule: MaskRule,
    geometry: Geometry,
    on_progress: Callable[[int, int], None] = lambda done, count: None,
) -> Evaluation:
    """Judge pictures one by one, as the line would, and measure.

    Metrics are taken at the network's resolution over all pictures (supersimplenet.md 5.1); a
    defective picture without a mask takes part in the image-level ones only.

    Args:
        judge: An inspector, or a checkpoint.
        items: The pictures.
        mask_rule: How mask values are read.
        geometry: Brings masks to the network's resolution.
        on_progress: Called with pictures done and in all.

    Raises:
        DatasetError: No pictures, or one that cannot be read.
    """
    if not items:
        raise DatasetError("there are no pictures to evaluate; the test part is empty")
    judged = []
    for number, item in enumerate(items, start=1):
        loaded = load_item(item, mask_rule)
        decision = judge.inspect(loaded.image)
        try:
            gt_mask = None if loaded.gt_mask is None else preprocess_mask(loaded.gt_mask, geometry)
            brightness = _brightness(loaded.image, geometry)
        except FrameError as error:
            raise DatasetError(f"{item.image}: {error}") from error
        judged.append(JudgedItem(item, decision, gt_mask, brightness))
        on_progress(number, len(items))
    return Evaluation(tuple(judged), _metrics(judged))


def _brightness(frame: ByteImage, geometry: Geometry) -> float:
    """Mean grey level of what is judged of a frame; FrameError if it is too small."""
    x, y, width, height = geometry.region_xywh((frame.shape[0], frame.shape[1]))
    region = frame[y : y + height, x : x + width]
    grey = region if region.ndim == 2 else cv2.cvtColor(region, cv2.COLOR_BGR2GRAY)
    return float(np.mean(grey))


def _metrics(judged: Sequence[JudgedItem]) -> Metrics:
    labels, classification, map_max, decided = [], [], [], []
    maps: list[FloatArray] = []
    masks: list[BoolMask] = []
    for each in judged:
        decision = each.decision
        logits = (decision.classification_logit, decision.map_max_logit, decision.raw_score)
        if logits[0] is None or logits[1] is None or logits[2] is None:
            continue
        labels.append(each.item.label)
        classification.append(logits[0])
        map_max.append(logits[1])
        decided.append(logits[2])
        if each.gt_mask is not None and decision.anomaly_map is not None:
            maps.append(decision.anomaly_map)
            masks.append(each.gt_mask)
    truth = np.array(labels, dtype=np.int64)
    return Metrics(
        classification=image_metrics(truth, np.array(classification)),
        map_max=image_metrics(truth, np.array(map_max)),
        decided=image_metrics(truth, np.array(decided)),
        pixel=pixel_metrics(maps, masks),
    )
