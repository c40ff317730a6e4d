"""The report of an evaluation: one HTML page for people, and the same numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from markupsafe import Markup

from ssn_edge.evaluation.axes import number_text
from ssn_edge.evaluation.curves import froc_svg, precision_recall_svg, roc_svg
from ssn_edge.evaluation.histogram import histogram_svg
from ssn_edge.evaluation.overlays import fit_heat_scale, heat_colours
from ssn_edge.evaluation.page import read_resource, render_page
from ssn_edge.evaluation.plain_words import plain_words
from ssn_edge.evaluation.reliability import Trend
from ssn_edge.evaluation.report import Report
from ssn_edge.evaluation.report_examples import example_groups
from ssn_edge.evaluation.report_numbers import report_numbers
from ssn_edge.evaluation.report_texts import (
    interval_text,
    logit_text,
    metric_text,
    percent_text,
    share_text,
)
from ssn_edge.evaluation.training_charts import training_charts
from ssn_edge.evaluation.trend_chart import trend_svg
from ssn_edge_calibrate.bootstrap import ImageIntervals
from ssn_edge_calibrate.metrics import ImageMetrics, precision_recall_points, roc_points
from ssn_edge_calibrate.percents import at_least
from ssn_edge_calibrate.thresholds import smallest_share
from ssn_edge_runtime.decision import ScoringMethod
from ssn_edge_runtime.files import write_whole

_HERE = "ssn_edge.evaluation"
_PARTS = ("figures.html.jinja", "report_findings.html.jinja", "report_origin.html.jinja")
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
        read_resource(_HERE, "report.html.jinja"),
        style=read_resource(_HERE, "report_parts.css"),
        parts=_PARTS,
        filters={"metric": metric_text, "number": number_text, "logit": logit_text},
        context={
            "report": report,
            "share": share_text,
            "smallest_share": smallest_share,
            "at_least": at_least,
            "between": percent_text,
            "span": interval_text,
            "plain_words": plain_words(report),
            "rule_text": _METHOD_TEXT[report.scoring_rule.method],
            "unit": unit,
            "histogram": histogram_svg(
                report.normal_scores, report.anomalous_scores, threshold, unit=unit
            ),
            "roc": roc_svg(roc_points(labels, scores), roc_place),
            "precision_recall": precision_recall_svg(
                precision_recall_points(labels, scores), recall_place
            ),
            "map_histogram": _map_histogram(report),
            "froc": _froc(report),
            "trends": _trends(report, unit),
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


def _map_histogram(report: Report) -> Markup | None:
    """Map maxima about the pixel threshold, where they are not the score that decides anyway."""
    normal, anomalous = report.map_maxima
    if report.scoring_rule.method is ScoringMethod.MAP_MAX or not (normal or anomalous):
        return None
    return histogram_svg(
        normal,
        anomalous,
        report.thresholds.pixel,
        what="map maximum",
        sides=("no mask", "defect mask"),
    )


def _froc(report: Report) -> Markup | None:
    regions = report.regions
    if regions is None:
        return None
    share = regions.found.share
    return froc_svg(regions.froc, None if share is None else (regions.false_regions, share))


def _trends(report: Report, unit: str) -> list[tuple[str, Trend, Markup]]:
    """Title, numbers and drawing of each axis."""
    if report.reliability is None:
        return []
    return [
        (title, trend, trend_svg(trend, report.thresholds.image, name=title, axis=axis, unit=unit))
        for title, trend, axis in (
            ("Over brightness", report.reliability.brightness, "mean grey level"),
            ("Over time", report.reliability.order, "good parts in the order of their names"),
        )
    ]


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


def _image_metric_rows(
    report: Report,
) -> list[tuple[str, bool, ImageMetrics, ImageIntervals | None]]:
    """Score name, whether it decides, and its metrics with their intervals."""
    method = report.scoring_rule.method
    known = report.uncertainty
    shown = [
        (
            ScoringMethod.CLASSIFICATION,
            report.metrics.classification,
            known.classification if known else None,
        ),
        (ScoringMethod.MAP_MAX, report.metrics.map_max, known.map_max if known else None),
    ]
    if method is ScoringMethod.COMBINED:
        shown.append((method, report.metrics.decided, known.decided if known else None))
    return [
        (_METHOD_TEXT[each], each is method, metrics, intervals)
        for each, metrics, intervals in shown
    ]
