"""The image threshold, and a review zone, that keep what is promised of the next parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.percents import at_least, at_most
from ssn_edge_calibrate.risk_bounds import allowed_above, error_of, share_beyond, wanted_count
from ssn_edge_calibrate.thresholds import threshold_above, threshold_between, threshold_reached
from ssn_edge_runtime.decision import LARGEST_LOGIT
from ssn_edge_runtime.errors import CalibrationError, ConfigError, ScoreError

RejectScores = npt.NDArray[np.float64]


class Kind(str, Enum):
    """What a bound is about; a part that is `unknown` is not passed."""

    FALSE_REJECTS = "good parts that do not pass"
    FALSE_FAILS = "good parts that are rejected without review"
    MISSES = "defects that pass"
    UNSURE = "defects that are not rejected without review"
    MARKED = "good parts with a marked pixel"

    @property
    def is_of_good_parts(self) -> bool:
        """Whether good parts were counted for it."""
        return self not in (Kind.MISSES, Kind.UNSURE)


@dataclass(frozen=True, slots=True)
class Bound:
    """What holds for the parts to come: at most `share` of one kind of parts is judged wrongly.

    Args:
        kind: Which parts, and what is wrong with them.
        share: At most.
        count: Pictures or groups that it was found on.
        wrong: How many of them are judged wrongly.
        error: The chance that it does not hold.
        is_promised: Whether it was asked for; else it was found at a threshold chosen otherwise.
    """

    kind: Kind
    share: float
    count: int
    wrong: int
    error: Fraction
    is_promised: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Scores of held-out parts. An infinite one does not pass whatever the image threshold.

    Args:
        good: (n,), a score for each picture or group of good parts.
        defects: (m,), the same of defects.
        unit: What is counted, ``pictures`` or ``groups``.
        causes: What rejects good parts whatever the threshold, for a refusal to tell.
    """

    good: RejectScores
    defects: RejectScores = field(default_factory=lambda: np.zeros(0))
    unit: str = "pictures"
    causes: str = ""

    def __post_init__(self) -> None:
        """Refuse scores that no threshold can be compared with."""
        for scores in (self.good, self.defects):
            finite = scores[scores != np.inf]
            if not np.all(np.abs(finite) <= np.finfo(np.float32).max):  # also false for NaN
                raise ScoreError(
                    "a calibration score is NaN, -infinity or beyond float32; the engine is "
                    "broken, a threshold would hide it"
                )

    @property
    def finite(self) -> RejectScores:
        """All scores that a threshold can lie between, ascending."""
        both = np.concatenate([self.good, self.defects])
        return np.sort(both[np.isfinite(both)])


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be promised; at least one of the two sides.

    Args:
        max_false_reject: Share of good parts that may not pass.
        min_caught: Share of defects that must not pass; with a review zone by it, that must be
            rejected without review.
        confidence: Of all promises together.
        review_share: Of `max_false_reject`, what may go to review; None for no zone by it.
        review_caught: Whether the zone reaches from the one side to the other.
        beside: How many promises are made beside these, with the same confidence in all.
    """

    max_false_reject: float | None = None
    min_caught: float | None = None
    confidence: float = 0.95
    review_share: float | None = None
    review_caught: bool = False
    beside: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be together."""
        for name, share in (
            ("false rejects", self.max_false_reject),
            ("caught defects", self.min_caught),
            ("reviewed parts", self.review_share),
        ):
            if share is not None and not 0 < share < 1:
                raise ConfigError(f"a share of {share} {name}: above 0 and below 1 is wanted")
        if self.max_false_reject is None and self.min_caught is None:
            raise ConfigError("nothing is promised; say how many good parts may be rejected")
        if self.review_caught and None in (self.max_false_reject, self.min_caught):
            raise ConfigError(
                "a review zone between both sides needs both: how many good parts may be rejected, "
                "and how many defects must be caught"
            )
        if self.review_share is not None and not (
            self.max_false_reject is not None and self.review_share < self.max_false_reject
        ):
            raise ConfigError(
                f"{at_most(self.review_share)} of good parts to review: a part in review does not "
                "pass, so it is a false reject, too; allow more false rejects than that"
            )
        error_of(self.confidence)

    @property
    def error(self) -> Fraction:
        """The chance that each of the promises may fail by."""
        made = (self.max_false_reject, self.min_caught, self.review_share)
        return error_of(self.confidence, sum(each is not None for each in made) + self.beside)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where the thresholds lie, and what is known of it.

    Args:
        image: The raw score from which on a part does not pass; a float32 number.
        review: Low and high end of the review zone; None for none.
        bounds: What holds together, with the confidence that was asked for.
    """

    image: float
    review: tuple[float, float] | None
    bounds: tuple[Bound, ...]


def point_for_risk(sample: Sample, wish: Wish, *, floor: float | None = None) -> OperatingPoint:
    """Put the image threshold where what is promised holds for the next parts.

    Args:
        sample: Scores that nothing was fitted to.
        wish: What is promised.
        floor: The score that good parts must pass with, where it was found together with another
            threshold (`fit_region`); None to find it here.

    Raises:
        CalibrationError: So few parts cannot carry it, or both sides cannot be kept together.
    """
    error, false_reject = wish.error, wish.max_false_reject
    below, limit, bounds = -np.inf, np.inf, []
    if false_reject is not None:
        below = floor_of(sample, false_reject, error) if floor is None else floor
    if wish.min_caught is not None:
        limit = _limit(sample, wish.min_caught, error)
    image, review = _placed(sample, wish, below, limit), None
    failing = image
    if wish.review_caught:
        finite = sample.finite
        top = threshold_above(finite[-1], finite) if limit == np.inf else limit
        failing = top if limit == np.inf else threshold_reached(limit, _finite(sample.defects))
        if not image < failing:
            failing = top
        if not image < failing:
            raise _apart(sample, wish, below, limit)
    elif wish.review_share is not None and false_reject is not None:
        outright = float(Fraction(repr(false_reject)) - Fraction(repr(wish.review_share)))
        failing = threshold_above(floor_of(sample, outright, error), _finite(sample.good))
        if not image < failing:
            raise CalibrationError(
                f"{sample.good.size} {sample.unit} of good parts do not tell "
                f"{at_most(false_reject)} false rejects from {at_most(outright)}, so there is "
                "nothing to review between them; add good parts, or leave out the review zone"
            )
        bounds.append(bound_of(sample, Kind.FALSE_FAILS, outright, failing, error))
    if failing > image:
        review = (image, failing)
    if false_reject is not None:
        bounds.insert(0, bound_of(sample, Kind.FALSE_REJECTS, false_reject, image, error))
    if wish.min_caught is not None:
        missed = float(1 - Fraction(repr(wish.min_caught)))
        kind, at = (Kind.UNSURE, failing) if wish.review_caught else (Kind.MISSES, image)
        bounds.append(bound_of(sample, kind, missed, at, error))
    return OperatingPoint(_sound(image), review, tuple(bounds))


def fit_region(
    sample: Sample, regions: RejectScores, max_false_reject: float, error: Fraction
) -> tuple[float, float]:
    """What good parts must pass with, by score and by region, for one promise over both.

    Args:
        sample: Scores of good parts, infinite only where a part is `unknown`.
        regions: (n,), of the same parts: the largest area, or the highest pixel threshold that
            leaves a region. Higher is more defective.
        max_false_reject: Share of good parts that may be rejected by either.
        error: The chance that the promise may fail by.

    Returns:
        The highest score, and the highest region, that passes.

    Raises:
        CalibrationError: So few parts cannot carry it.
    """
    allowed = _allowed(sample, max_false_reject, error, thresholds=2)
    by_region = allowed // 2
    by_score = allowed - by_region
    falling = np.argsort(-sample.good, kind="stable")
    score = float(sample.good[falling[by_score]])
    if score == np.inf:
        raise _too_many(sample, max_false_reject, by_score, error, thresholds=2)
    left = np.sort(regions[falling[by_score + 1 :]])[::-1]
    return score, float(left[by_region])


def floor_of(sample: Sample, share: float, error: Fraction) -> float:
    """The score that a good part must pass with, so that at most a share scores above it.

    Raises:
        CalibrationError: So few parts cannot carry it.
    """
    allowed = _allowed(sample, share, error)
    below = float(np.sort(sample.good)[-1 - allowed])
    if below == np.inf:
        raise _too_many(sample, share, allowed, error)
    return below


def _limit(sample: Sample, caught: float, error: Fraction) -> float:
    """The score that a defect must be caught with, so that at most the rest scores below it."""
    missed = float(1 - Fraction(repr(caught)))
    count = sample.defects.size
    allowed = allowed_above(count, missed, error)
    if allowed is None:
        raise CalibrationError(
            f"{count} {sample.unit} of defects cannot carry a promise that {at_least(caught)} of "
            f"all defects are caught, at {_confidence(error)} confidence: "
            f"{wanted_count(missed, error)} are wanted, all of them caught"
            + _best("so many carry no more than", count, error, is_caught=True)
        )
    return float(np.sort(sample.defects)[allowed])


def _allowed(sample: Sample, share: float, error: Fraction, *, thresholds: int = 1) -> int:
    count = sample.good.size
    allowed = allowed_above(count, share, error, thresholds=thresholds)
    if allowed is None:
        wanted = wanted_count(share, error, thresholds=thresholds)
        raise CalibrationError(
            f"{count} {sample.unit} of good parts cannot carry a promise of at most "
            f"{at_most(share)} false rejects at {_confidence(error)} confidence: {wanted} are "
            "wanted, none of them rejected" + _best("so many carry", count, error)
        )
    return allowed


def _too_many(
    sample: Sample, share: float, allowed: int, error: Fraction, *, thresholds: int = 1
) -> CalibrationError:
    rejected = int(np.sum(sample.good == np.inf))
    wanted = wanted_count(share, error, above=rejected, thresholds=thresholds)
    return CalibrationError(
        f"{rejected} of {sample.good.size} {sample.unit} of good parts are rejected whatever the "
        f"image threshold ({sample.causes or 'unknown'}), and a promise of at most "
        f"{at_most(share)} at {_confidence(error)} confidence leaves room for {allowed}: mend "
        f"that, or bring {wanted} good parts with no more such ones"
    )


def _placed(sample: Sample, wish: Wish, below: float, limit: float) -> float:
    if limit == np.inf:
        finite = _finite(sample.good if below > -np.inf else sample.finite)
        if not finite.size:
            raise CalibrationError("no picture has a score, so no threshold can be found")
        return threshold_above(below if below > -np.inf else float(finite[-1]), finite)
    if below == -np.inf:
        return threshold_reached(limit, sample.finite)
    if wish.review_caught or wish.review_share is not None:
        low = threshold_above(below, sample.finite)
        value = low if low <= limit else None
    else:
        value = threshold_between(below, limit)
    if value is None or below >= limit:
        raise _apart(sample, wish, below, limit)
    return value


def _apart(sample: Sample, wish: Wish, below: float, limit: float) -> CalibrationError:
    """Both promises ask for thresholds that do not meet; say what one of them leaves."""
    missed = int(np.sum(sample.defects <= below))
    count = sample.defects.size
    caught = 1 - share_beyond(missed, count, wish.error)
    return CalibrationError(
        f"at most {at_most(wish.max_false_reject or 0)} false rejects need a threshold above "
        f"{below:.4g}, and {at_least(wish.min_caught or 0)} caught one of {limit:.4g} at most: no "
        f"threshold keeps both. Above {below:.4g}, {count - missed} of {count} defects are caught, "
        f"which carries {at_least(caught)}; ask for less, or train on more defects"
    )


def bound_of(sample: Sample, kind: Kind, share: float, at: float, error: Fraction) -> Bound:
    """A promise, with how many of the sample's own parts a threshold judges wrongly."""
    count, wrong = wrong_at(sample, kind, at)
    return Bound(kind, share, count, wrong, error)


def wrong_at(sample: Sample, kind: Kind, threshold: float) -> tuple[int, int]:
    """How many parts there are for a bound, and how many a threshold judges wrongly."""
    if kind.is_of_good_parts:
        return sample.good.size, int(np.sum(sample.good >= threshold))
    return sample.defects.size, int(np.sum(sample.defects < threshold))


def _finite(scores: RejectScores) -> RejectScores:
    return np.sort(scores[np.isfinite(scores)])


def _sound(threshold: float) -> float:
    if abs(threshold) > LARGEST_LOGIT:
        raise CalibrationError(
            f"the threshold would be {threshold:g}, beyond what an engine may give "
            f"({LARGEST_LOGIT:g}); the network or its export is broken"
        )
    return threshold


def _best(words: str, count: int, error: Fraction, *, is_caught: bool = False) -> str:
    """What so many parts can promise at best; nothing where there are none."""
    if not count:
        return ""
    share = share_beyond(0, count, error)
    return f"; {words} {at_least(1 - share) if is_caught else at_most(share)}"


def _confidence(error: Fraction) -> str:
    return f"{float(100 * (1 - error)):.4g} %"
