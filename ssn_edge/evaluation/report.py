"""What a report of an evaluation holds; `report_page` shows it, `report_numbers` lists it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssn_edge.evaluation.certificate_summary import CertificateSummary, DataRecord
from ssn_edge.evaluation.reliability import Reliability
from ssn_edge.evaluation.settings_summary import SettingsSummary
from ssn_edge.evaluation.training_curves import TrainingCurves
from ssn_edge.evaluation.uncertainty import DefectClass, RegionFindings, Uncertainty
from ssn_edge_calibrate.metrics import Metrics
from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.errors import ScoreError
from ssn_edge_runtime.manifest import Risk


@dataclass(frozen=True, slots=True)
class VerdictCounts:
    """How many parts of one label got each verdict."""

    passed: int
    failed: int
    unknown: int = 0

    @property
    def total(self) -> int:
        """All parts of this label."""
        return self.passed + self.failed + self.unknown


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a simple method reaches on the same pictures, for comparison."""

    name: str
    i_auroc: float


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One judged part to look at. All its arrays show the same field of view.

    Args:
        name: What people call the picture; usually its path inside the data set.
        label: 0 normal, 1 anomalous.
        verdict: What the line would have been told.
        score: Logit by the scoring rule; None where there is none.
        picture: What was judged, so within the region of interest: (H, W, 3) uint8 BGR or (H, W).
        anomaly_map: (h, w) float32 logits; None where there is none.
        pred_mask: Map >= pixel threshold, (h, w) bool; None where there is none.
        gt_mask: Ground truth, (h, w) bool; None for an anomalous picture without a mask.
        defect_class: Kind of defect, if known.
    """

    name: str
    label: int
    verdict: Verdict
    score: float | None
    picture: ByteImage
    anomaly_map: FloatArray | None = None
    pred_mask: BoolMask | None = None
    gt_mask: BoolMask | None = None
    defect_class: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All that a report shows.

    Args:
        title: Usually the part's or the data set's name.
        facts: What was evaluated, as name and value: regime, backbone, input size, engine, version.
        scoring_rule: Which score decided.
        thresholds: Cut-offs that decided.
        risk: What the image threshold was fitted for; None if it was set by hand.
        normal: Verdicts on normal parts.
        anomalous: Verdicts on anomalous parts.
        metrics: Of both scores and the maps.
        normal_scores: Logits of normal parts by the scoring rule, finite.
        anomalous_scores: The same of anomalous parts.
        defect_classes: One row each.
        examples: Some 12 to 40; the page sorts them, and grows by some 0.1 MB with each.
        baseline: For comparison, if one was measured.
        training: How the net came about, if its log is there.
        notes: How this was measured; a paragraph each.
        commands: That repeat it; a line each.
        uncertainty: Intervals of all that.
        regions: What the maps find, region by region; None where no defect is drawn.
        reliability: Scores and rejects over brightness and order.
        map_maxima: Of normal and of anomalous parts, finite; what the pixel threshold cuts.
        data: Which data.
        certificate: Of the model that judged; None where a checkpoint did.
        settings: The device's, that decided; None for thresholds of package or checkpoint.
    """

    title: str
    facts: Mapping[str, str]
    scoring_rule: ScoringRule
    thresholds: Thresholds
    risk: Risk | None
    normal: VerdictCounts
    anomalous: VerdictCounts
    metrics: Metrics
    normal_scores: Sequence[float]
    anomalous_scores: Sequence[float]
    defect_classes: Sequence[DefectClass] = ()
    examples: Sequence[Example] = ()
    baseline: Baseline | None = None
    training: TrainingCurves | None = None
    notes: Sequence[str] = field(default=())
    commands: Sequence[str] = field(default=())
    uncertainty: Uncertainty | None = None
    regions: RegionFindings | None = None
    reliability: Reliability | None = None
    map_maxima: tuple[Sequence[float], Sequence[float]] = ((), ())
    data: DataRecord | None = None
    certificate: CertificateSummary | None = None
    settings: SettingsSummary | None = None

    def __post_init__(self) -> None:
        """Refuse scores that no axis can show."""
        for name, scores in (("normal", self.normal_scores), ("anomalous", self.anomalous_scores)):
            if not all(map(math.isfinite, scores)):
                raise ScoreError(
                    f"a score of an {name} part is NaN or infinite; such a part has the verdict "
                    "unknown and no score in a report"
                )

    @property
    def labels_and_scores(self) -> tuple[list[int], list[float]]:
        """All scored parts, the normal ones first."""
        labels = [0] * len(self.normal_scores) + [1] * len(self.anomalous_scores)
        return labels, [*self.normal_scores, *self.anomalous_scores]


def finite_or_none(score: float | None) -> float | None:
    """A plain number for JSON; what is not finite is no score."""
    return float(score) if score is not None and math.isfinite(score) else None
