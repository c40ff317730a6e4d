"""Numbers that training does not give: metrics, scoring rules and thresholds."""

from ssn_edge_calibrate.metrics import (
    ImageMetrics,
    Metrics,
    PixelMetrics,
    aupro,
    auroc,
    average_precision,
    image_metrics,
    pixel_auroc,
    pixel_average_precision,
    pixel_metrics,
    precision_recall_points,
    roc_points,
)
from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_calibrate.thresholds import RankThreshold, fit_thresholds, threshold_by_rank

__all__ = [
    "ImageMetrics",
    "Metrics",
    "PixelMetrics",
    "RankThreshold",
    "aupro",
    "auroc",
    "average_precision",
    "fit_scoring_rule",
    "fit_thresholds",
    "image_metrics",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_metrics",
    "precision_recall_points",
    "roc_points",
    "threshold_by_rank",
]
