"""Numbers that training does not give: metrics, scoring rules, thresholds, INT8."""

from ssn_edge_calibrate.best_threshold import BoundFrom, Costs, best_threshold, point_at
from ssn_edge_calibrate.composite import PartScore, part_score, reject_scores
from ssn_edge_calibrate.int8_graph import Int8Form
from ssn_edge_calibrate.int8_model import (
    Int8Model,
    Int8Report,
    ObservedModel,
    int8_from_fp32,
    observe_model,
)
from ssn_edge_calibrate.int8_pictures import MIN_INT8_PICTURES
from ssn_edge_calibrate.int8_ranges import RangeMethod
from ssn_edge_calibrate.int8_sensitivity import (
    Int8Search,
    LayerSensitivity,
    layer_sensitivities,
    search_float_layers,
)
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
from ssn_edge_calibrate.operating_point import (
    Bound,
    Kind,
    OperatingPoint,
    Sample,
    Wish,
    point_for_risk,
)
from ssn_edge_calibrate.risk_bounds import (
    allowed_above,
    error_of,
    share_beyond,
    share_beyond_any,
    wanted_count,
)
from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_calibrate.thresholds import RankThreshold, fit_thresholds, threshold_by_rank

__all__ = [
    "MIN_INT8_PICTURES",
    "Bound",
    "BoundFrom",
    "Costs",
    "ImageMetrics",
    "Int8Form",
    "Int8Model",
    "Int8Report",
    "Int8Search",
    "Kind",
    "LayerSensitivity",
    "Metrics",
    "ObservedModel",
    "OperatingPoint",
    "PartScore",
    "PixelMetrics",
    "RangeMethod",
    "RankThreshold",
    "Sample",
    "Wish",
    "allowed_above",
    "aupro",
    "auroc",
    "average_precision",
    "best_threshold",
    "error_of",
    "fit_scoring_rule",
    "fit_thresholds",
    "image_metrics",
    "int8_from_fp32",
    "layer_sensitivities",
    "observe_model",
    "part_score",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_metrics",
    "point_at",
    "point_for_risk",
    "precision_recall_points",
    "reject_scores",
    "roc_points",
    "search_float_layers",
    "share_beyond",
    "share_beyond_any",
    "threshold_by_rank",
    "wanted_count",
]
