"""Image metrics over all held-out pictures: what the gate's few, chosen for flips, cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_metrics import MetricChange, image_changes
from ssn_edge_export.scoring import Progress, ScoredPicture, score_pictures
from ssn_edge_runtime.decision import ScoringRule
from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import EngineError, ScoreError
from ssn_edge_runtime.preprocess import Geometry


@dataclass(frozen=True, slots=True)
class ImageScores:
    """What one engine's scores of all held-out pictures come to.

    Args:
        metrics: Changes of I-AUROC and AP-det; none where a label is missing.
        fault: Why a picture got no score; empty if all did.
    """

    metrics: tuple[MetricChange, ...] = ()
    fault: str = ""

    def in_report(self, report: ColumnReport) -> ColumnReport:
        """The report with these metrics in place of those over the gate's few pictures."""
        if self.fault:
            return replace(report, unjudged=(*report.unjudged, ("held-out pictures", self.fault)))
        names = {metric.name for metric in self.metrics}
        others = tuple(metric for metric in report.metrics if metric.name not in names)
        return replace(report, metrics=(*self.metrics, *others))


def score_held_out(
    engine: Engine,
    held_out: Sequence[ScoredPicture],
    *,
    rule: ScoringRule,
    geometry: Geometry,
    on_progress: Progress,
) -> ImageScores:
    """Score all held-out pictures and hold the metrics against those of FP32.

    Args:
        engine: With a model of another precision.
        held_out: With FP32's logits, which are the net's to a thousandth.
        rule: The package's scoring rule.
        geometry: The package's.
        on_progress: Called with the stage's name, the steps done and their number.

    Raises:
        PictureError: A picture can no longer be read.
    """
    pictures = [each.picture for each in held_out]
    try:
        scored = score_pictures(engine, pictures, geometry, on_progress)
    except (EngineError, ScoreError) as error:
        return ImageScores(fault=str(error))
    labels = np.array([picture.label for picture in pictures], dtype=np.int64)
    of_net, of_model = (
        np.array([each.logit(rule) for each in side], dtype=np.float64)
        for side in (held_out, scored)
    )
    return ImageScores(image_changes(labels, of_net, of_model))
