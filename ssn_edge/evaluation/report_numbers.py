"""The numbers of a report as JSON: all that the page shows, and what it was drawn from."""

from __future__ import annotations

from dataclasses import asdict

from ssn_edge.evaluation.report import Report, finite_or_none
from ssn_edge_calibrate.metrics import precision_recall_points, roc_points

SCHEMA = 1
"""Of the numbers in JSON; rises when a name in them changes its meaning."""


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
        "defect_classes": [each.to_dict() for each in report.defect_classes],
        "scores": {
            "normal": [float(score) for score in report.normal_scores],
            "anomalous": [float(score) for score in report.anomalous_scores],
        },
        "map_maxima": dict(zip(("normal", "anomalous"), map(list, report.map_maxima), strict=True)),
        "roc": [list(point) for point in roc_points(labels, scores)],
        "precision_recall": [list(point) for point in precision_recall_points(labels, scores)],
        "uncertainty": None if report.uncertainty is None else report.uncertainty.to_dict(),
        "regions": None if report.regions is None else report.regions.to_dict(),
        "reliability": None if report.reliability is None else report.reliability.to_dict(),
        "data": None if report.data is None else report.data.to_dict(),
        "certificate": None if report.certificate is None else dict(report.certificate.document),
        "settings": None if report.settings is None else report.settings.to_dict(),
        "examples": [
            {
                "name": example.name,
                "label": example.label,
                "verdict": example.verdict.value,
                "score": finite_or_none(example.score),
                "defect_class": example.defect_class,
            }
            for example in report.examples
        ],
        "notes": list(report.notes),
        "commands": list(report.commands),
    }
