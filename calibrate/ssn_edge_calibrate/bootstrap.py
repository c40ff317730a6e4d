"""Intervals of image-level metrics: groups of pictures drawn again, many times.

What is drawn is a group (all pictures of one part), never a single picture of it. Groups are drawn
within their kind (normal pictures only, anomalous only, both), so that both labels stay present.
The seed is fixed: the same pictures give the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.exact_interval import CONFIDENCE
from ssn_edge_calibrate.intervals import (
    Groups,
    Interval,
    auroc_interval,
    effective_count,
    group_ids,
    score_interval,
)
from ssn_edge_calibrate.metrics import Labels, Scores, image_metrics

RESAMPLES = 1000
SEED = 20060
_CELLS_A_CHUNK = 1 << 21
"""Resamples times pictures worked on at a time; bounds the memory."""

_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImageIntervals:
    """Intervals of `ImageMetrics`, each None where its metric is not defined.

    Args:
        i_auroc: Of the area under the ROC curve.
        ap_det: Of the average precision.
    """

    i_auroc: Interval | None
    ap_det: Interval | None

    def to_dict(self) -> dict[str, object]:
        """Both by name, ready for JSON."""
        return {
            "i_auroc": None if self.i_auroc is None else self.i_auroc.to_dict(),
            "ap_det": None if self.ap_det is None else self.ap_det.to_dict(),
        }


def image_intervals(labels: Labels, scores: Scores, groups: Groups = None) -> ImageIntervals:
    """95 % intervals of I-AUROC and AP-det.

    Each is the hull of two: the percentiles of the bootstrap, and a formula's with as many
    independent pictures as the groups amount to (Newcombe's, and Wilson's over the anomalous
    pictures after Boyd et al., 2013). Near 1 the bootstrap is far too narrow, and at 1 it is
    empty: it draws only from what was seen.

    Args:
        labels: 0 normal, 1 anomalous; one a picture.
        scores: Higher is more anomalous; one a picture.
        groups: One a picture; None if every picture is a group of its own.

    Raises:
        ScoreError: A score is NaN or infinite.
        ValueError: Not one score or one group a label, or a label other than 0 and 1.
    """
    measured = image_metrics(labels, scores)
    if measured.i_auroc is None or measured.ap_det is None:
        return ImageIntervals(None, None)
    truth, values = np.asarray(labels, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    low, high = percentiles(resampled_metrics(truth, [values], groups)[0])
    normal, anomalous = _effective_counts(truth, values, groups)
    found = precisions(truth, values)
    precise = effective_count(found, _of(groups, truth == 1))
    return ImageIntervals(
        Interval(float(low[0]), float(high[0])).hull(
            auroc_interval(measured.i_auroc, normal, anomalous)
        ),
        Interval(float(low[1]), float(high[1])).hull(score_interval(measured.ap_det, precise)),
    )


def resampled_metrics(
    labels: npt.NDArray[np.int64], scores: Sequence[_Floats], groups: Groups = None
) -> _Floats:
    """I-AUROC and AP-det of several scores over the same resamples: their differences are paired.

    Args:
        labels: (n,), 0 and 1, both present.
        scores: (n,) each.
        groups: One a picture; None if every picture is a group of its own.

    Returns:
        (scores, RESAMPLES, 2).
    """
    chunks = []
    for weights in drawn_weights(labels, groups):
        chunks.append(np.stack([_weighted_metrics(labels, each, weights) for each in scores]))
    return np.concatenate(chunks, axis=1)


def percentiles(resampled: _Floats) -> tuple[_Floats, _Floats]:
    """Both ends of the interval of what was measured on each resample, along the first axis."""
    low, high = np.quantile(resampled, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    return low, high


def drawn_weights(labels: npt.NDArray[np.int64], groups: Groups = None) -> Iterator[_Floats]:
    """How often each picture was drawn: (resamples, n) at a time, `RESAMPLES` in all."""
    rng = np.random.default_rng(SEED)
    ids = group_ids(groups, labels.size)
    count = int(ids.max()) + 1
    kinds = np.zeros(count, dtype=np.int64)
    np.bitwise_or.at(kinds, ids, 1 + labels)  # 1 normal, 2 anomalous, 3 both
    strata = [np.flatnonzero(kinds == kind) for kind in (1, 2, 3)]
    at_a_time = max(1, _CELLS_A_CHUNK // labels.size)
    for start in range(0, RESAMPLES, at_a_time):
        resamples = min(at_a_time, RESAMPLES - start)
        drawn = np.zeros((resamples, count))
        for stratum in strata:
            if stratum.size:
                drawn[:, stratum] = rng.multinomial(
                    stratum.size, np.full(stratum.size, 1 / stratum.size), size=resamples
                )
        yield drawn[:, ids]


def _weighted_metrics(labels: npt.NDArray[np.int64], scores: _Floats, weights: _Floats) -> _Floats:
    """I-AUROC and AP-det with each picture taken so many times, (resamples, 2)."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of a run of ties
    ordered = weights[:, order]
    all_above = np.cumsum(ordered, axis=1)[:, last]
    tp = np.cumsum(ordered * labels[order], axis=1)[:, last]
    fp = all_above - tp
    new_tp, new_fp = np.diff(tp, axis=1, prepend=0), np.diff(fp, axis=1, prepend=0)
    area = np.sum(new_fp * (2 * tp - new_tp), axis=1) / (2 * tp[:, -1] * fp[:, -1])
    precision = np.divide(tp, all_above, out=np.zeros_like(tp), where=all_above > 0)
    return np.stack([area, np.sum(new_tp * precision, axis=1) / tp[:, -1]], axis=1)


def precisions(labels: npt.NDArray[np.int64], scores: _Floats) -> _Floats:
    """The precision at each anomalous picture's own score; their mean is the AP."""
    anomalous = scores[labels == 1]
    ordered, found = np.sort(scores), np.sort(anomalous)
    above = scores.size - np.searchsorted(ordered, anomalous, side="left")
    return np.asarray((found.size - np.searchsorted(found, anomalous, side="left")) / above)


def _effective_counts(
    labels: npt.NDArray[np.int64], scores: _Floats, groups: Groups
) -> tuple[float, float]:
    """Independent normal and anomalous pictures, by how each one's part in the area varies."""
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    return (
        effective_count(1 - _share_below(normal, anomalous), _of(groups, labels == 0)),
        effective_count(_share_below(anomalous, normal), _of(groups, labels == 1)),
    )


def _share_below(scores: _Floats, others: _Floats) -> _Floats:
    """The share of the others that lies below each score; a tie counts one half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(both / (2 * others.size))


def _of(groups: Groups, chosen: npt.NDArray[np.bool_]) -> Groups:
    """The groups of the chosen pictures."""
    if groups is None:
        return None
    return [groups[place] for place in np.flatnonzero(chosen).tolist()]
