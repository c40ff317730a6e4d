"""The image threshold, from the exported graph's scores on normal calibration pictures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.metrics import Scores
from ssn_edge_calibrate.risk_bounds import allowed_above, error_of, share_beyond
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.errors import CalibrationError, ConfigError, ScoreError
from ssn_edge_runtime.manifest import Risk

MARGIN_SHARE = 0.05
"""Above the highest normal score: this share of its distance to the median."""
SMALLEST_MARGIN = 1e-2
"""The same, in logits, at least."""


@dataclass(frozen=True, slots=True)
class RankThreshold:
    """An image threshold and the promise it was fitted for.

    Args:
        value: Raw score (logit) from which on a part fails, itself included; a float32 number.
        rank: Rank k of the normal score just below the threshold, from 1; `count` + 1 if the
            promise asks for more pictures than there are.
        count: Normal calibration scores.
        max_false_reject: Share of good parts that may be rejected, as asked for.
        supported: Whether `count` scores can carry that promise. If not, the threshold lies above
            all of them, and `smallest_supported` is what can be promised.
        confidence: The chance that it holds for this very threshold; None where it holds on average
            over sets of scores.
    """

    value: float
    rank: int
    count: int
    max_false_reject: float
    supported: bool
    confidence: float | None = None

    @property
    def smallest_supported(self) -> float:
        """The smallest false-reject rate that so many normal scores can promise."""
        return smallest_share(self.count, self.confidence)

    def to_dict(self) -> dict[str, float | int | bool]:
        """All of it by name, ready for JSON."""
        return {**asdict(self), "smallest_supported": self.smallest_supported}


def smallest_share(count: int, confidence: float | None = None) -> float:
    """The smallest false-reject rate that so many normal scores can promise.

    Args:
        count: Normal scores, at least 1.
        confidence: As in `threshold_by_rank`.
    """
    if confidence is None:
        return 1 / (count + 1)
    return share_beyond(0, count, error_of(confidence))


def threshold_by_rank(
    normal_scores: Scores, max_false_reject: float = 0.01, confidence: float | None = None
) -> RankThreshold:
    """Put the image threshold above the k-th smallest of n normal scores, k = ceil((n + 1)(1 - x)).

    A next good part, drawn like the n, then scores above that rank in at most a share x of all
    such draws. This holds on average over calibration sets; a promise for this very set needs a
    confidence, and a higher rank: that of `risk_bounds`.

    The threshold lies half-way to the next higher score, so that small differences between
    engines turn no verdict on either side. Where there is no higher score, it lies above the
    highest by 5 % of that one's distance to the median, and at least 0.01.

    Args:
        normal_scores: Logits of normal pictures that the fitting has not seen, in any order.
        max_false_reject: x, above 0 and below 1.
        confidence: That it holds for this very set; None for on average.

    Returns:
        A threshold strictly above the k lowest scores, in float32 as in float64: at most n - k
        of the normal scores fail.

    Raises:
        CalibrationError: There is no score, or no float32 number above the scores.
        ScoreError: A score is NaN, infinite or beyond float32.
        ConfigError: `max_false_reject` is not above 0 and below 1, or there is no such confidence.
    """
    if not 0 < max_false_reject < 1:
        raise ConfigError(
            f"a share of {max_false_reject} good parts may be rejected, it must lie above "
            "0 and below 1; write 0.01 for one part in a hundred"
        )
    scores = _checked(normal_scores)
    if confidence is None:
        # As written: in binary, 1 - 0.01 makes (n + 1)(1 - x) a little more than a whole number.
        share = Fraction(repr(float(max_false_reject)))
        rank = math.ceil((scores.size + 1) * (1 - share))
    else:
        above = allowed_above(scores.size, max_false_reject, error_of(confidence))
        rank = scores.size - (-1 if above is None else above)
    below = float(scores[min(rank, scores.size) - 1])
    return RankThreshold(
        value=threshold_above(below, scores),
        rank=rank,
        count=scores.size,
        max_false_reject=float(max_false_reject),
        supported=rank <= scores.size,
        confidence=confidence,
    )


def carried_threshold(
    normal_scores: Scores,
    reference_scores: Scores,
    reference: float,
    max_false_reject: float = 0.01,
    confidence: float | None = None,
) -> RankThreshold:
    """Carry a model's threshold over to another precision of it, and raise it where ranks ask.

    A threshold by rank hangs on the few highest scores. Where rounding moves these, the threshold
    moves against all other pictures, and verdicts turn although nothing else changed. So what all
    scores moved by, their median, is added to the threshold that the first model has. It promises
    what a threshold by rank does: it lies above the same rank of the model's own scores.

    Args:
        normal_scores: Logits of normal pictures by the precision that will decide.
        reference_scores: Of the same pictures in the same order, by the first model.
        reference: The first model's threshold.
        max_false_reject: x, above 0 and below 1.
        confidence: As in `threshold_by_rank`.

    Raises:
        CalibrationError: There is no score, or no float32 number above the scores.
        ScoreError: A score is NaN, infinite or beyond float32.
        ConfigError: `max_false_reject` is not above 0 and below 1, or the scores are not of the
            same pictures.
    """
    by_rank = threshold_by_rank(normal_scores, max_false_reject, confidence)
    scores, before = (
        np.asarray(each, np.float64).ravel() for each in (normal_scores, reference_scores)
    )
    if scores.shape != before.shape:
        raise ConfigError(
            f"{scores.size} scores are to be compared with {before.size}; both models must have "
            "judged the same pictures"
        )
    _checked(reference_scores)
    below = float(np.sort(scores)[min(by_rank.rank, by_rank.count) - 1])
    moved = reference + float(np.median(scores - before))
    return replace(by_rank, value=_float32_above(below, max(below, moved)))


def fit_thresholds(
    normal_scores: Scores,
    normal_map_maxima: Scores,
    max_false_reject: float = 0.01,
    confidence: float | None = None,
) -> tuple[Thresholds, Risk]:
    """Both default thresholds of a package, each by rank for the same share of good parts.

    The pixel threshold is fitted on the map maxima, so that at most this share of good parts has
    any pixel in its defect mask.

    Args:
        normal_scores: Logits of normal pictures under the scoring rule, from what will decide.
        normal_map_maxima: Map maxima of the same pictures.
        max_false_reject: Share of good parts that may be rejected, above 0 and below 1.
        confidence: Of each of them by itself, as in `threshold_by_rank`.

    Raises:
        CalibrationError: There are no scores, or no float32 number above them.
        ScoreError: A score is NaN, infinite or beyond float32.
        ConfigError: The share is not above 0 and below 1.
    """
    image = threshold_by_rank(normal_scores, max_false_reject, confidence)
    pixel = threshold_by_rank(normal_map_maxima, max_false_reject, confidence)
    return (
        Thresholds(image=image.value, pixel=pixel.value),
        Risk(image.max_false_reject, image.count, image.supported, confidence),
    )


def threshold_above(below: float, scores: npt.NDArray[np.float64]) -> float:
    """Where a threshold lies best that shall let a score pass, and all below it.

    Args:
        below: The highest score that passes.
        scores: All of them, ascending and finite; not empty.

    Returns:
        A float32 number strictly above `below`: half-way to the next higher score, or, above all of
        them, by a margin.

    Raises:
        CalibrationError: No float32 number lies above.
    """
    higher = scores[np.searchsorted(scores, below, side="right") :]
    if higher.size:
        wanted = below / 2 + float(higher[0]) / 2
    else:
        wanted = below + _margin(abs(below - float(np.median(scores))))
    return _float32_above(below, wanted)


def threshold_reached(limit: float, scores: npt.NDArray[np.float64]) -> float:
    """Where a threshold lies best that a score shall reach, and all above it.

    Args:
        limit: The lowest score that shall fail.
        scores: All of them, ascending and finite; not empty.

    Returns:
        A float32 number, `limit` at most: half-way to the next lower score, or, below all of them,
        by a margin.
    """
    lower = scores[: np.searchsorted(scores, limit, side="left")]
    if lower.size:
        wanted = limit / 2 + float(lower[-1]) / 2
    else:
        wanted = limit - _margin(abs(float(np.median(scores)) - limit))
    return -_float32_above(np.nextafter(-limit, -np.inf), -wanted)


def threshold_between(below: float, limit: float) -> float | None:
    """The float32 number half-way between a score that passes and a higher one that fails.

    Returns:
        None where no float32 number parts the two.
    """
    value = _float32_above(below, below / 2 + limit / 2)
    return value if value <= limit else None


def _margin(distance: float) -> float:
    return max(MARGIN_SHARE * distance, SMALLEST_MARGIN)


def _checked(normal_scores: Scores) -> npt.NDArray[np.float64]:
    """The scores, ascending."""
    scores = np.sort(np.asarray(normal_scores, dtype=np.float64).ravel())
    if not scores.size:
        raise CalibrationError(
            "there is no normal picture to fit the threshold on; add normal pictures to the "
            "calibration part, 99 for a promise of 1 %"
        )
    if not np.all(np.abs(scores) <= np.finfo(np.float32).max):  # also false for NaN
        raise ScoreError(
            "a calibration score is NaN, infinite or beyond float32; the network or its export is "
            "broken, a threshold would hide it"
        )
    return scores


def _float32_above(below: float, wanted: float) -> float:
    """The float32 number nearest to `wanted` that exceeds `below`, before and after rounding it."""
    floor = max(below, float(np.float32(below)))
    with np.errstate(over="ignore"):
        value = np.float32(max(wanted, floor))  # a step or two below the answer, never far
        while not float(value) > floor:
            value = np.nextafter(value, np.float32(np.inf))
    if not np.isfinite(value):
        raise CalibrationError(
            f"the normal scores reach {below:g}, and no float32 threshold lies above them; "
            "the network or its export is broken"
        )
    return float(value)
