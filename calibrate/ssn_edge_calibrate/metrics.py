"""Image-level and pixel-level metrics, exact over all distinct thresholds, also with ties.

Scores are logits or anything that rises with them: only their order counts, higher is more
anomalous. A metric that has no meaning on the given data (no defective or no normal picture, no
defect pixel) is None, never 0 or NaN; the counts beside it say what was missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.errors import ScoreError

Labels: TypeAlias = Sequence[int] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]
"""One label a picture: 0 normal, 1 anomalous."""
Scores: TypeAlias = Sequence[float] | npt.NDArray[np.floating]
"""One anomaly score a picture, in the labels' order."""
Maps: TypeAlias = Sequence[FloatArray] | FloatArray
"""Anomaly maps, (H, W) float32 each; the sizes may differ from picture to picture."""
Masks: TypeAlias = Sequence[BoolMask] | BoolMask
"""Ground-truth masks, (H, W) bool, each of its map's size."""
Points: TypeAlias = tuple[tuple[float, float], ...]
"""A curve as (x, y) pairs."""

MAX_FPR = 0.3
"""Where the AUPRO integral ends, as is usual since the MVTec AD paper."""
PIXELS_A_CHUNK = 1 << 20
"""Sorted pixels that are summed at a time; bounds the memory beside the sorted array."""

_Counts: TypeAlias = npt.NDArray[np.int64]
_PIXEL_BITS = np.uint64(32)
_REGION_MASK = np.uint64(0xFFFFFFFF)
_SIGN = np.uint32(0x80000000)


@dataclass(frozen=True, slots=True)
class ImageMetrics:
    """How well one score tells defective pictures from normal ones.

    Args:
        i_auroc: Area under the ROC curve, or None without normal or without anomalous pictures.
        ap_det: Average precision, or None likewise.
        normal: Normal pictures that were scored.
        anomalous: Anomalous pictures that were scored.
    """

    i_auroc: float | None
    ap_det: float | None
    normal: int
    anomalous: int

    def to_dict(self) -> dict[str, float | int | None]:
        """The fields by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """How well the anomaly maps tell defect pixels from the others.

    Args:
        p_auroc: Area under the ROC curve of all pixels, or None without defect or other pixels.
        ap_loc: Average precision of all pixels, or None likewise.
        aupro: Area under the per-region overlap curve, or None likewise.
        pictures: Pictures whose pixels were pooled.
        regions: 8-connected ground-truth regions in them.
    """

    p_auroc: float | None
    ap_loc: float | None
    aupro: float | None
    pictures: int
    regions: int

    def to_dict(self) -> dict[str, float | int | None]:
        """The fields by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Metrics:
    """All that one evaluation measures.

    Args:
        classification: Of the classification head's score.
        map_max: Of the maximum of the final anomaly map.
        decided: Of the score that decided: one of these two, or both combined.
        pixel: Of the anomaly maps.
    """

    classification: ImageMetrics
    map_max: ImageMetrics
    decided: ImageMetrics
    pixel: PixelMetrics

    def to_dict(self) -> dict[str, dict[str, float | int | None]]:
        """The four parts by name, ready for JSON."""
        return {
            "classification": self.classification.to_dict(),
            "map_max": self.map_max.to_dict(),
            "decided": self.decided.to_dict(),
            "pixel": self.pixel.to_dict(),
        }


def auroc(labels: Labels, scores: Scores) -> float | None:
    """Image-level area under the ROC curve; a tie counts one half. See `image_metrics`."""
    return image_metrics(labels, scores).i_auroc


def average_precision(labels: Labels, scores: Scores) -> float | None:
    """Image-level average precision, the sum of (R_n - R_n-1) P_n. See `image_metrics`."""
    return image_metrics(labels, scores).ap_det


def image_metrics(labels: Labels, scores: Scores) -> ImageMetrics:
    """Measure one score over all pictures.

    Args:
        labels: 0 normal, 1 anomalous; one a picture.
        scores: Higher is more anomalous; one a picture.

    Raises:
        ScoreError: A score is NaN or infinite.
        ValueError: Not one score a label, or a label other than 0 and 1.
    """
    tp, fp = _image_curve(labels, scores)
    anomalous, normal = int(tp[-1]), int(fp[-1])
    if not anomalous or not normal:
        return ImageMetrics(None, None, normal, anomalous)
    return ImageMetrics(
        i_auroc=_doubled_roc_area(tp, fp) / (2 * anomalous * normal),
        ap_det=_precision_sum(tp, fp) / anomalous,
        normal=normal,
        anomalous=anomalous,
    )


def roc_points(labels: Labels, scores: Scores) -> Points:
    """The ROC curve as (false-positive rate, true-positive rate), from (0, 0) to (1, 1).

    One point a distinct score; empty where the curve is not defined. Raises as `image_metrics`.
    """
    tp, fp = _image_curve(labels, scores)
    if not tp[-1] or not fp[-1]:
        return ()
    return tuple(zip((fp / fp[-1]).tolist(), (tp / tp[-1]).tolist(), strict=True))


def precision_recall_points(labels: Labels, scores: Scores) -> Points:
    """The precision-recall curve as (recall, precision), recall rising.

    One point a distinct score, without an invented one at recall 0; empty where the curve is not
    defined. Raises as `image_metrics`.
    """
    tp, fp = _image_curve(labels, scores)
    if not tp[-1] or not fp[-1]:
        return ()
    tp, fp = tp[1:], fp[1:]
    return tuple(zip((tp / tp[-1]).tolist(), (tp / (tp + fp)).tolist(), strict=True))


def pixel_auroc(maps: Maps, masks: Masks) -> float | None:
    """Area under the ROC curve of all pixels; `pixel_metrics` gives all three at once."""
    return pixel_metrics(maps, masks).p_auroc


def pixel_average_precision(maps: Maps, masks: Masks) -> float | None:
    """Average precision of all pixels; `pixel_metrics` gives all three at once."""
    return pixel_metrics(maps, masks).ap_loc


def aupro(maps: Maps, masks: Masks, max_fpr: float = MAX_FPR) -> float | None:
    """Area under the per-region overlap curve; `pixel_metrics` gives all three at once."""
    return pixel_metrics(maps, masks, max_fpr=max_fpr).aupro


def pixel_metrics(maps: Maps, masks: Masks, *, max_fpr: float = MAX_FPR) -> PixelMetrics:
    """Measure the anomaly maps over the pooled pixels of all pictures, with a single sort.

    AUPRO is exact: at every distinct threshold the share of each 8-connected ground-truth region
    that is covered, averaged over all regions of all pictures, against the share of all non-defect
    pixels that is covered; linear between the points, integrated to `max_fpr`, divided by it.

    Needs 8 bytes a pixel beside the input, and some 100 MB that do not grow with it; the largest
    group of tied pixels is summed in one piece.

    Args:
        maps: (H, W) float32 each, logits; higher is more anomalous.
        masks: (H, W) bool each, at the maps' resolution. A normal picture has an empty mask. Leave
            out anomalous pictures that have no mask: their pixels are of unknown truth, and an
            empty mask would call their defects false positives.
        max_fpr: End of the AUPRO integral, above 0 and at most 1.

    Raises:
        ScoreError: A map holds NaN or infinity.
        ValueError: Maps and masks do not fit each other, or are of another type.
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must be above 0 and at most 1, not {max_fpr}")
    pixels, region_areas = _sorted_pixels(maps, masks)
    regions, defect = region_areas.size, int(region_areas.sum())
    other = pixels.size - defect
    if not defect or not other:
        return PixelMetrics(None, None, None, len(maps), regions)
    # What one pixel of a region adds to the mean overlap; a pixel outside all regions adds nothing.
    overlap_a_pixel = np.concatenate(([0.0], 1 / (region_areas * float(regions))))

    doubled_roc_area, precision_sum, overlap_area = 0, 0.0, 0.0
    for tp, fp, overlap in _pixel_curve(pixels, overlap_a_pixel):
        doubled_roc_area += _doubled_roc_area(tp, fp)
        precision_sum += _precision_sum(tp, fp)
        overlap_area += _area_up_to(max_fpr, fp / other, overlap)
    return PixelMetrics(
        p_auroc=doubled_roc_area / (2 * defect * other),
        ap_loc=precision_sum / defect,
        aupro=overlap_area / max_fpr,
        pictures=len(maps),
        regions=regions,
    )


def _image_curve(labels: Labels, scores: Scores) -> tuple[_Counts, _Counts]:
    """True and false positives at each distinct score, falling, after a leading (0, 0)."""
    label_array = np.asarray(labels)
    score_array = np.asarray(scores, dtype=np.float64)
    if label_array.ndim != 1 or label_array.shape != score_array.shape:
        raise ValueError(
            f"{label_array.shape} labels and {score_array.shape} scores: one of each a picture"
        )
    if not np.isin(label_array, (0, 1)).all():
        raise ValueError("a label is neither 0 (normal) nor 1 (anomalous)")
    finite = np.isfinite(score_array)
    if not finite.all():
        raise ScoreError(
            f"the score of picture {int(np.argmin(finite))} (counted from 0) is not a finite "
            "number; a picture without a score has no place in a metric"
        )
    order = np.argsort(-score_array)
    is_last = np.append(np.diff(score_array[order]) != 0, True)[: order.size]  # of a run of ties
    last = np.flatnonzero(is_last)
    tp = np.cumsum(label_array[order], dtype=np.int64)[last]
    return np.append(0, tp), np.append(0, last + 1 - tp)


def _sorted_pixels(maps: Maps, masks: Masks) -> tuple[npt.NDArray[np.uint64], _Counts]:
    """All pixels, ascending by score, each as score << 32 | region, and the areas of the regions.

    Region 0 is what is in no region. One in-place sort of such words costs less time and memory
    than sorting indices and gathering scores and labels through them.
    """
    if len(maps) != len(masks):
        raise ValueError(f"{len(maps)} maps and {len(masks)} masks: one of each a picture")
    pixels = np.empty(sum(anomaly_map.size for anomaly_map in maps), dtype=np.uint64)
    areas: list[_Counts] = []
    start, regions = 0, 0
    for index, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        _check_pair(index, anomaly_map, mask)
        count, regions_here = cv2.connectedComponents(
            np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S
        )
        region_ids = regions_here.ravel()
        areas.append(np.bincount(region_ids, minlength=count)[1:].astype(np.int64))
        region_ids[region_ids > 0] += regions
        pixels[start : start + mask.size] = (
            _ordered_bits(anomaly_map.ravel()).astype(np.uint64) << _PIXEL_BITS
        ) | region_ids.astype(np.uint64)
        start, regions = start + mask.size, regions + count - 1
    pixels.sort()
    return pixels, np.concatenate(areas) if areas else np.zeros(0, dtype=np.int64)


def _check_pair(index: int, anomaly_map: FloatArray, mask: BoolMask) -> None:
    """Refuse a map and mask that do not fit, or a map that cannot be ranked."""
    if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape or mask.dtype != np.bool_:
        raise ValueError(
            f"picture {index} (counted from 0) has a map of shape {anomaly_map.shape} and a mask "
            f"of shape {mask.shape} and type {mask.dtype}; both must be (H, W), the mask bool"
        )
    if not np.can_cast(anomaly_map.dtype, np.float32):
        raise ValueError(f"a map must be float32, that of picture {index} is {anomaly_map.dtype}")
    if not np.isfinite(anomaly_map).all():
        raise ScoreError(
            f"the map of picture {index} (counted from 0) holds NaN or infinity; "
            "a picture without a judgement has no place in a metric"
        )


def _ordered_bits(scores: FloatArray) -> npt.NDArray[np.uint32]:
    """Unsigned integers in the order of the scores; equal exactly where the scores are equal."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)  # + 0: -0.0 becomes 0.0
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _pixel_curve(
    pixels: npt.NDArray[np.uint64], overlap_a_pixel: npt.NDArray[np.float64]
) -> Iterator[tuple[_Counts, _Counts, npt.NDArray[np.float64]]]:
    """True positives, false positives and mean region overlap at each distinct score, falling.

    In pieces of about `PIXELS_A_CHUNK` pixels that never part a tie; each piece begins with the
    point that the one before it ended with, the first with (0, 0, 0).
    """
    tp_before, fp_before, overlap_before = 0, 0, 0.0
    stop = pixels.size
    while stop:
        lowest = pixels[max(0, stop - PIXELS_A_CHUNK)] & ~_REGION_MASK
        start = int(np.searchsorted(pixels[:stop], lowest))
        chunk = pixels[start:stop][::-1]
        stop = start
        score_bits = chunk >> _PIXEL_BITS
        last = np.flatnonzero(
            np.append(score_bits[1:] != score_bits[:-1], True)
        )  # of a run of ties
        regions = (chunk & _REGION_MASK).astype(np.intp)
        found = np.cumsum(regions > 0, dtype=np.int64)[last]
        tp = np.append(tp_before, tp_before + found)
        fp = np.append(fp_before, fp_before + last + 1 - found)
        overlap = np.append(
            overlap_before, overlap_before + np.cumsum(overlap_a_pixel[regions])[last]
        )
        yield tp, fp, overlap
        tp_before, fp_before, overlap_before = int(tp[-1]), int(fp[-1]), float(overlap[-1])


def _doubled_roc_area(tp: _Counts, fp: _Counts) -> int:
    """Twice the area under the trapezoids, in pairs; whole numbers, so without rounding."""
    return int(np.sum(np.diff(fp) * (tp[1:] + tp[:-1])))


def _precision_sum(tp: _Counts, fp: _Counts) -> float:
    """Precision at each step, weighted with the positives that the step adds."""
    return float(np.sum(np.diff(tp) * (tp[1:] / (tp[1:] + fp[1:]))))


def _area_up_to(end: float, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Area under the trapezoids left of `end`, the curve being linear between its points."""
    count = int(np.searchsorted(x, end, side="right"))
    area = np.sum(np.diff(x[:count]) * (y[1:count] + y[: max(0, count - 1)])) / 2
    if 0 < count < x.size:
        left_x, left_y = x[count - 1], y[count - 1]
        slope = (y[count] - left_y) / (x[count] - left_x)
        area += (end - left_x) * (left_y + slope * (end - left_x) / 2)
    return float(area)
