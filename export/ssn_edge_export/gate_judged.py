"""What one judge says of all the gate's pictures: scores, maps, masks and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_export.gate_pictures import GatePicture
from ssn_edge_export.verify import Judge
from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.decision import ScoringRule, Thresholds, Verdict, decide
from ssn_edge_runtime.errors import EngineError, ScoreError
from ssn_edge_runtime.preprocess import Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The judgements of n pictures.

    Args:
        logits: Classification and map maximum, (n, 2) float64.
        maps: (n, h, w) float32 logits.
        masks: (n, h, w) bool.
        verdicts: By the decision rule and the thresholds below; `unknown` where there is none.
        faults: Why, by the picture's index; its logits and map are zeros.
        thresholds: That decided.
    """

    logits: npt.NDArray[np.float64]
    maps: FloatArray
    masks: BoolMask
    verdicts: tuple[Verdict, ...]
    faults: Mapping[int, str]
    thresholds: Thresholds

    def scores(self, rule: ScoringRule) -> npt.NDArray[np.float64]:
        """Raw scores under the scoring rule, (n,)."""
        return np.array([rule.score(*row) for row in self.logits.tolist()], dtype=np.float64)

    def distances(self, rule: ScoringRule) -> npt.NDArray[np.float64]:
        """Of the scores from the image threshold, (n,); 0 and above fails."""
        return self.scores(rule) - self.thresholds.image


def judge_pictures(
    judge: Judge,
    pictures: Sequence[GatePicture],
    *,
    thresholds: Thresholds,
    rule: ScoringRule,
    geometry: Geometry,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Judged:
    """Judge each picture once, by the line's own decision rule.

    What gives no verdict (NaN, infinity, a map that contradicts its mask, an engine that fails) is
    kept as `unknown` with the reason.
    """
    count, size_hw = len(pictures), geometry.input_size_hw
    logits = np.zeros((count, 2), dtype=np.float64)
    maps = np.zeros((count, *size_hw), dtype=np.float32)
    masks = np.zeros((count, *size_hw), dtype=np.bool_)
    verdicts: list[Verdict] = []
    faults: dict[int, str] = {}
    for index, picture in enumerate(pictures):
        on_progress(index)
        try:
            judgement = judge(picture.pixels, pixel_threshold=thresholds.pixel)
            decision = decide(
                judgement,
                thresholds=thresholds,
                rule=rule,
                geometry=geometry,
                frame_size_hw=picture.frame_size_hw,
            )
        except (ScoreError, EngineError) as error:
            faults[index] = str(error)
            verdicts.append(Verdict.UNKNOWN)
            continue
        logits[index] = judgement.classification_logit, judgement.map_max_logit
        maps[index] = judgement.anomaly_map
        masks[index] = judgement.defect_mask != 0
        verdicts.append(decision.verdict)
    on_progress(count)
    return Judged(logits, maps, masks, tuple(verdicts), faults, thresholds)
