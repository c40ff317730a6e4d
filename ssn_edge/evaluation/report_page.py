"""The report of an evaluation: one HTML page for people, and the same numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from ssn_edge.evaluation.axes import MINUS, number_text
from ssn_edge.evaluation.curves import precision_recall_svg, roc_svg
from ssn_edge.evaluation.histogram import histogram_svg
from ssn_edge.evaluation.overlays import fit_heat_scale, heat_colours
from ssn_edge.evaluation.page import read_resource, render_page
from ssn_edge.evaluation.report import Report
from ssn_edge.evaluation.report_examples import example_groups
from ssn_edge.evaluation.report_numbers import report_numbers
from ssn_edge.evaluation.training_charts import training_charts
from ssn_edge_calibrate.metrics import precision_recall_points, roc_points
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.files import write_whole

_NBSP = "\N{NO-BREAK SPACE}"
_METHOD_TEXT = {
    ScoringMethod.CLASSIFICATION: "classification head",
    ScoringMethod.MAP_MAX: "map maximum",
    ScoringMethod.COMBINED: "combined score",
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
            "groups": example_groups(report, scale),
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
