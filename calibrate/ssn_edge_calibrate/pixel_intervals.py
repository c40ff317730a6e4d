"""Intervals of pixel-level metrics: groups of pictures drawn again, many times.

Pixels of one picture agree with each other, and so do pictures of one group: what is drawn is a
group, as for image-level metrics. A resample is not sorted again; the scores are counted in bins
once, a picture at a time, and a resample adds up what its pictures counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.bootstrap import drawn_weights, percentiles
from ssn_edge_calibrate.exact_interval import CONFIDENCE
from ssn_edge_calibrate.intervals import Groups, Interval, group_ids, score_interval
from ssn_edge_calibrate.metrics import MAX_FPR, PixelMetrics
from ssn_edge_runtime.arrays import BoolMask, FloatArray

BINS = 512
"""Of each kind of pixels: between quantiles of those in defects, and of all others."""
_SAMPLE = 4096
"""Pixels of each kind and picture, at most, that the bins are laid by."""
_RESAMPLES_AT_A_TIME = 125
_FEWEST_GROUPS = 2
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelIntervals:
    """Intervals of `PixelMetrics`, each None where its metric is not defined or one group has all.

    Args:
        p_auroc: Of the area under the ROC curve.
        ap_loc: Of the average precision.
        aupro: Of the area under the per-region overlap curve.
    """

    p_auroc: Interval | None = None
    ap_loc: Interval | None = None
    aupro: Interval | None = None

    def to_dict(self) -> dict[str, object]:
        """All by name, ready for JSON."""
        named = {"p_auroc": self.p_auroc, "ap_loc": self.ap_loc, "aupro": self.aupro}
        return {name: None if each is None else each.to_dict() for name, each in named.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """What each picture has in each bin, from the highest scores down; and its regions."""

    defect: _Floats  # (pictures, bins)
    other: _Floats
    overlap: _Floats  # what the bin adds to the covered shares of its regions
    regions: _Floats  # (pictures,)


def pixel_intervals(
    maps: Sequence[FloatArray],
    masks: Sequence[BoolMask],
    measured: PixelMetrics,
    groups: Groups = None,
) -> PixelIntervals:
    """95 % intervals of P-AUROC, AP-loc and AUPRO.

    Each is the hull of three: the percentiles of the bootstrap, about what was measured exactly,
    and Student's interval with the bootstrap's deviation, of the metric and of its logit. The
    degrees of freedom are those of the groups with defects by their weight: of the pixels, or of
    the regions, that they bring. Where all resamples agree, it is Wilson's over these groups.

    Args:
        maps: (H, W) float32 each, finite.
        masks: (H, W) bool each; empty for a normal picture.
        measured: `pixel_metrics` of the same.
        groups: One a picture; None if every picture is a group of its own.
    """
    if measured.p_auroc is None or measured.ap_loc is None or measured.aupro is None:
        return PixelIntervals()
    has_defect = np.array([mask.any() for mask in masks], dtype=np.int64)
    ids = group_ids(groups, len(masks))
    with_defects = np.unique(ids[has_defect == 1]).size
    if with_defects < _FEWEST_GROUPS:
        return PixelIntervals()
    counts = _counted(maps, masks)
    here = _metrics(counts, np.ones((1, len(masks))))[0]
    drawn = []
    for weights in drawn_weights(has_defect, groups):
        for start in range(0, len(weights), _RESAMPLES_AT_A_TIME):
            drawn.append(_metrics(counts, weights[start : start + _RESAMPLES_AT_A_TIME]))
    exact = np.array([measured.p_auroc, measured.ap_loc, measured.aupro])
    resampled = np.concatenate(drawn) + (exact - here)  # bins are coarser than the scores
    low, high = percentiles(resampled)
    by_pixels = _effective(np.bincount(ids, counts.defect.sum(axis=1)).astype(np.float64))
    by_regions = _effective(np.bincount(ids, counts.regions).astype(np.float64))
    found = []
    for place, independent in enumerate((by_pixels, by_pixels, by_regions)):
        value, spread = float(exact[place]), float(resampled[:, place].std())
        if spread == 0:
            found.append(score_interval(value, independent))
            continue
        interval = Interval(float(low[place]), float(high[place]))
        for each in _of_student(value, spread, independent):
            interval = interval.hull(each)
        found.append(Interval(max(0.0, interval.low), min(1.0, interval.high)))
    return PixelIntervals(*found)


def _effective(weights: _Floats) -> float:
    """How many groups of one weight would tell as much as these; at least two."""
    return max(float(_FEWEST_GROUPS), float(weights.sum() ** 2 / np.sum(weights**2)))


def _of_student(value: float, spread: float, independent: float) -> list[Interval]:
    """Of a metric, and of its logit, which no end of its range cuts off."""
    half = _student(independent - 1) * spread * math.sqrt(independent / (independent - 1))
    found = [Interval(value - half, value + half)]
    if 0 < value < 1:
        odds, factor = value / (1 - value), math.exp(min(700.0, half / (value * (1 - value))))
        found.append(Interval(odds / (odds + factor), 1 / (1 + 1 / (odds * factor))))
    return found


def _counted(maps: Sequence[FloatArray], masks: Sequence[BoolMask]) -> _Counts:
    edges = _edges(maps, masks)
    shape = (len(maps), edges.size + 1)
    defect, other, overlap = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    regions = np.zeros(len(maps))
    for place, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        # Falling: the first bin holds the highest scores.
        bins = edges.size - np.searchsorted(edges, anomaly_map, side="right")
        other[place] = np.bincount(bins[~mask], minlength=shape[1])
        if mask.any():
            count, labelled = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
            regions[place] = count - 1
            of_region, of_bin = labelled[mask], bins[mask]
            areas = np.bincount(of_region, minlength=count)
            defect[place] = np.bincount(of_bin, minlength=shape[1])
            overlap[place] = np.bincount(of_bin, 1 / areas[of_region], minlength=shape[1])
    return _Counts(defect, other, overlap, regions)


def _edges(maps: Sequence[FloatArray], masks: Sequence[BoolMask]) -> FloatArray:
    """Where bins meet: so that each kind of pixels is parted into about as many as the other."""
    edges = []
    for is_defect in (True, False):
        sampled = []
        for anomaly_map, mask in zip(maps, masks, strict=True):
            pixels = anomaly_map[mask == is_defect]
            sampled.append(pixels[:: max(1, pixels.size // _SAMPLE)])
        values = np.sort(np.concatenate(sampled))
        edges.append(values[np.linspace(0, values.size - 1, BINS).astype(np.int64)])
    return np.unique(np.concatenate(edges))


def _metrics(counts: _Counts, weights: _Floats) -> _Floats:
    """P-AUROC, AP-loc and AUPRO with each picture taken so many times, (resamples, 3)."""
    new_tp, new_fp = weights @ counts.defect, weights @ counts.other
    tp, fp = np.cumsum(new_tp, axis=1), np.cumsum(new_fp, axis=1)
    defect, other = tp[:, -1], fp[:, -1]
    area = np.sum(new_fp * (2 * tp - new_tp), axis=1) / (2 * defect * other)
    taken = tp + fp
    precision = np.divide(tp, taken, out=np.zeros_like(tp), where=taken > 0)
    average = np.sum(new_tp * precision, axis=1) / defect
    # Covered shares over false positives, linear within a bin, up to `MAX_FPR`.
    new_overlap = (weights @ counts.overlap) / (weights @ counts.regions)[:, np.newaxis]
    before = np.cumsum(new_overlap, axis=1) - new_overlap
    start = (fp - new_fp) / other[:, np.newaxis]
    width = new_fp / other[:, np.newaxis]
    part = np.clip(MAX_FPR - start, 0, width)
    share = np.divide(part, width, out=np.zeros_like(part), where=width > 0)
    overlap = np.sum(part * (before + new_overlap * share / 2), axis=1) / MAX_FPR
    return np.stack([area, average, overlap], axis=1)


def _student(freedom: float) -> float:
    """The quantile of Student's law, to the second order in 1 / freedom; a little low below 4."""
    first = (_Z**3 + _Z) / (4 * freedom)
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
    return _Z + first + second
