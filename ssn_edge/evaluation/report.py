"""The report of an evaluation: one HTML page for people, and the same numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ssn_edge.evaluation.axes import MINUS, number_text
from ssn_edge.evaluation.curves import precision_recall_svg, roc_svg
from ssn_edge.evaluation.histogram import histogram_svg
from ssn_edge.evaluation.overlays import (
    PREDICTED_RGB,
    TRUTH_RGB,
    HeatScale,
    data_uri,
    fit_heat_scale,
    heat_colours,
    heat_panel,
    outline_panel,
    picture_panel,
)
from ssn_edge.evaluation.page import read_resource, render_page
from ssn_edge.evaluation.training_charts import training_charts
from ssn_edge.evaluation.training_curves import TrainingCurves
from ssn_edge_calibrate.metrics import Metrics, precision_recall_points, roc_points
from ssn_edge_calibrate.thresholds import smallest_share
from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray
from ssn_edge_runtime.decision import ScoringMethod, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.errors import ScoreError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.manifest import Risk

SCHEMA = 1
"""Of the numbers in JSON; rises when a name in them changes its meaning."""

_NBSP = "\N{NO-BREAK SPACE}"
_METHOD_TEXT = {
    ScoringMethod.CLASSIFICATION: "classification head",
    ScoringMethod.MAP_MAX: "map maximum",
    ScoringMethod.COMBINED: "combined score",
}


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
class DefectClass:
    """How many pictures show one kind of defect, and on how many the verdict was `fail`."""

    name: str
    pictures: int
    found: int


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


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of an example's four pictures, as the page shows it."""

    caption: str
    uri: str | None
    outline: str = ""  # which key stands before the caption, if the outline encloses anything
    if_empty: str = ""
    encloses: bool = False
    none: str = ""  # stands in the place of a picture that is missing


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


def report_numbers(report: Report) -> dict[str, object]:
    """Every number of a report by name, ready for JSON: no NaN, no arrays."""
    labels, scores = report.labels_and_scores
    return {
        "schema": SCHEMA,
        "title": report.title,
        "facts": dict(report.facts),
        "scoring_rule": report.scoring_rule.value,
        "score_weights": {
            "classification": report.scoring_rule.classification,
            "map_max": report.scoring_rule.map_max,
            "offset": report.scoring_rule.offset,
        },
        "thresholds": asdict(report.thresholds),
        "risk": None if report.risk is None else asdict(report.risk),
        "verdicts": {"normal": asdict(report.normal), "anomalous": asdict(report.anomalous)},
        "metrics": report.metrics.to_dict(),
        "baseline": None if report.baseline is None else asdict(report.baseline),
        "training": None if report.training is None else report.training.to_dict(),
        "defect_classes": [asdict(each) for each in report.defect_classes],
        "scores": {
            "normal": [float(score) for score in report.normal_scores],
            "anomalous": [float(score) for score in report.anomalous_scores],
        },
        "roc": [list(point) for point in roc_points(labels, scores)],
        "precision_recall": [list(point) for point in precision_recall_points(labels, scores)],
        "examples": [
            {
                "name": example.name,
                "label": example.label,
                "verdict": example.verdict.value,
                "score": _finite_or_none(example.score),
                "defect_class": example.defect_class,
            }
            for example in report.examples
        ],
        "notes": list(report.notes),
        "commands": list(report.commands),
    }


def render_report(report: Report) -> str:
    """The page as HTML text.

    Raises:
        FrameError: An example's picture is none of 8-bit pixels.
    """
    labels, scores = report.labels_and_scores
    threshold = report.thresholds.image
    # The combined score counts in deviations of normal parts, the other two are logits.
    is_combined = report.scoring_rule.method is ScoringMethod.COMBINED
    unit = "deviations" if is_combined else "logits"
    roc_place, recall_place = _operating_points(report)
    scale = fit_heat_scale(
        [each.anomaly_map for each in report.examples if each.anomaly_map is not None],
        report.thresholds.pixel,
    )
    return render_page(
        read_resource("ssn_edge.evaluation", "report.html.jinja"),
        filters={"metric": _metric_text, "number": number_text, "logit": _logit_text},
        context={
            "report": report,
            "share": _share_text,
            "smallest_share": smallest_share,
            "rule_text": _METHOD_TEXT[report.scoring_rule.method],
            "unit": unit,
            "histogram": histogram_svg(
                report.normal_scores, report.anomalous_scores, threshold, unit=unit
            ),
            "roc": roc_svg(roc_points(labels, scores), roc_place),
            "precision_recall": precision_recall_svg(
                precision_recall_points(labels, scores), recall_place
            ),
            "training": None if report.training is None else training_charts(report.training),
            "image_metrics": _image_metric_rows(report),
            "scale": scale,
            "threshold_share": (scale.pixel_threshold - scale.low) / (scale.high - scale.low),
            "heat_colours": heat_colours(9),
            "groups": _example_groups(report, scale),
        },
    )


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`, and its numbers beside it under the same name with `.json`.

    Each file appears whole or not at all; missing folders are made.

    Raises:
        StorageError: A file cannot be written.
    """
    if path.suffix == ".json":
        raise ValueError(f"{path}: the page needs another suffix, its numbers go to the .json file")
    page = render_report(report)
    numbers = json.dumps(report_numbers(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(path.with_suffix(".json"), (numbers + "\n").encode())
    write_whole(path, page.encode())


def _operating_points(
    report: Report,
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Where the image threshold stands on the ROC and on the precision-recall curve."""
    if not report.normal_scores or not report.anomalous_scores:
        return None, None
    rejected = sum(score >= report.thresholds.image for score in report.normal_scores)
    found = sum(score >= report.thresholds.image for score in report.anomalous_scores)
    recall = found / len(report.anomalous_scores)
    roc_place = (rejected / len(report.normal_scores), recall)
    return roc_place, (recall, found / (found + rejected)) if found + rejected else None


def _image_metric_rows(report: Report) -> list[tuple[str, bool, float | None, float | None]]:
    """Score name, whether it decides, I-AUROC and AP-det."""
    method = report.scoring_rule.method
    shown = [
        (ScoringMethod.CLASSIFICATION, report.metrics.classification),
        (ScoringMethod.MAP_MAX, report.metrics.map_max),
    ]
    if method is ScoringMethod.COMBINED:
        shown.append((method, report.metrics.decided))
    return [
        (_METHOD_TEXT[each], each is method, metrics.i_auroc, metrics.ap_det)
        for each, metrics in shown
    ]


def _example_groups(report: Report, scale: HeatScale) -> list[dict[str, object]]:
    """The examples in the order in which people want to see them: mistakes first, worst first."""
    threshold = report.thresholds.image

    def score_of(example: Example) -> float:
        return threshold if example.score is None else example.score

    def closeness(example: Example) -> float:
        return abs(score_of(example) - threshold)

    def highest(example: Example) -> float:
        return -score_of(example)

    kinds: tuple[tuple[str, str, int, Verdict, Callable[[Example], float]], ...] = (
        ("Missed defects", "lowest score first", 1, Verdict.PASS, score_of),
        ("Good parts rejected", "highest score first", 0, Verdict.FAIL, highest),
        ("Defective parts without a judgement", "", 1, Verdict.UNKNOWN, highest),
        ("Good parts without a judgement", "", 0, Verdict.UNKNOWN, highest),
        ("Defects found", "closest to the threshold first", 1, Verdict.FAIL, closeness),
        ("Good parts passed", "closest to the threshold first", 0, Verdict.PASS, closeness),
    )
    groups: list[dict[str, object]] = []
    for title, order, label, verdict, key in kinds:
        members = [
            each for each in report.examples if (each.label, each.verdict) == (label, verdict)
        ]
        if members:
            shown = [_shown(each, scale, threshold) for each in sorted(members, key=key)]
            groups.append({"title": title, "order": order, "examples": shown})
    return groups


def _shown(example: Example, scale: HeatScale, threshold: float) -> dict[str, object]:
    """What the page says about one example, and its four panels."""
    panel = picture_panel(example.picture)
    heat = predicted = truth = None
    if example.anomaly_map is not None:
        heat = data_uri(heat_panel(panel, example.anomaly_map, scale))
    if example.pred_mask is not None:
        predicted = data_uri(outline_panel(panel, example.pred_mask, PREDICTED_RGB))
    if example.gt_mask is not None:
        truth = data_uri(outline_panel(panel, example.gt_mask, TRUTH_RGB))
    elif example.label == 0:
        truth = data_uri(panel)
    score = _finite_or_none(example.score)
    has_prediction = example.pred_mask is not None and bool(example.pred_mask.any())
    has_truth = example.gt_mask is not None and bool(example.gt_mask.any())
    return {
        "name": example.name,
        "verdict": example.verdict.value,
        "truth": "good part" if example.label == 0 else example.defect_class or "defective part",
        "score": score,
        "offset": None if score is None else score - threshold,
        "panels": [
            _Panel("Picture", data_uri(panel)),
            _Panel("Anomaly map", heat, none="no map"),
            _Panel("Predicted mask", predicted, "predicted", "empty", has_prediction, "no mask"),
            _Panel("Ground truth", truth, "truth", "no defect marked", has_truth, "no mask drawn"),
        ],
    }


def _finite_or_none(score: float | None) -> float | None:
    """A plain number for JSON; what is not finite is no score."""
    return float(score) if score is not None and math.isfinite(score) else None


def _metric_text(value: float | None) -> str:
    """A metric with four digits; never rounded up to a perfect one."""
    if value is None:
        return "not defined"
    return f"{value:.4f}" if value >= 1 else f"{min(value, 0.9999):.4f}"


def _logit_text(value: float) -> str:
    """A signed logit with two digits."""
    return f"{value:+.2f}".replace("-", MINUS)


def _share_text(part: int, whole: int) -> str:
    """A share in percent; only all is 100 %, only none is 0 %."""
    if not whole:
        return "no pictures"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"< 0.1{_NBSP}%"
    if 99.9 < percent < 100:
        return f"> 99.9{_NBSP}%"
    return f"{percent:.1f}".removesuffix(".0") + f"{_NBSP}%"
