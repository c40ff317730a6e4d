"""Numbers that training does not give: metrics, scoring rules, thresholds, INT8."""

from ssn_edge_calibrate.bootstrap import ImageIntervals, image_intervals
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
from ssn_edge_calibrate.intervals import Interval, Rate, exact_interval, rate_of
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
from ssn_edge_calibrate.region_metrics import (
    SizeClass,
    TrueRegion,
    false_regions_at,
    found_by_size,
    froc_points,
    true_regions,
)
from ssn_edge_calibrate.scoring import fit_scoring_rule
from ssn_edge_calibrate.thresholds import RankThreshold, fit_thresholds, threshold_by_rank

__all__ = [
    "MIN_INT8_PICTURES",
    "ImageIntervals",
    "ImageMetrics",
    "Int8Form",
    "Int8Model",
    "Int8Report",
    "Int8Search",
    "Interval",
    "LayerSensitivity",
    "Metrics",
    "ObservedModel",
    "PixelMetrics",
    "RangeMethod",
    "RankThreshold",
    "Rate",
    "SizeClass",
    "TrueRegion",
    "aupro",
    "auroc",
    "average_precision",
    "exact_interval",
    "false_regions_at",
    "fit_scoring_rule",
    "fit_thresholds",
    "found_by_size",
    "froc_points",
    "image_intervals",
    "image_metrics",
    "int8_from_fp32",
    "layer_sensitivities",
    "observe_model",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_metrics",
    "precision_recall_points",
    "rate_of",
    "roc_points",
    "search_float_layers",
    "threshold_by_rank",
    "true_regions",
]
