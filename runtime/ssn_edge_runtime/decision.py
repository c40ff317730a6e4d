"""The decision rule: scores, map and mask of one frame to `pass`, `fail` or `unknown`.

This is the only place where a score meets a threshold. Evaluation, export and the line call it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

import numpy as np

from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.defects import Defect, find_defects
from ssn_edge_runtime.errors import ConfigError, ScoreError
from ssn_edge_runtime.judged_zones import JudgedZones
from ssn_edge_runtime.normalised import normalised_score
from ssn_edge_runtime.preprocess import Geometry, mask_to_frame

LARGEST_LOGIT = 1e4
"""A logit beyond this comes from a broken engine, not from a picture."""
LARGEST_WEIGHT = 100.0
"""Of a logit in the combined score: its normal scores spread by a hundredth."""
SMALLEST_WEIGHT = 1e-4
"""Below it no logit could move the combined score by 1: everything would pass."""


class Verdict(str, Enum):
    """What the line is told. Only PASS is an active signal; anything else rejects.

    Equal to its text, so that `decision.verdict == "pass"` does what it says.
    """

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


class Reason(str, Enum):
    """Why; a closed list, each equal to its text. `NONE` goes with `pass` alone."""

    NONE = "none"
    DEFECT = "defect"
    NO_FRAME = "no_frame"
    BAD_FRAME = "bad_frame"
    FRAME_SIZE = "frame_size"
    STALE_FRAME = "stale_frame"
    FROZEN_FRAME = "frozen_frame"
    BAD_EXPOSURE = "bad_exposure"
    BLURRED_FRAME = "blurred_frame"
    DEADLINE = "deadline"
    OVERRUN = "overrun"
    ENGINE_ERROR = "engine_error"
    INVALID_OUTPUT = "invalid_output"
    STORAGE_ERROR = "storage_error"
    RESTART = "restart"
    MISSED_TRIGGER = "missed_trigger"
    CLOCK = "clock"
    OVERHEATED = "overheated"
    REVIEW = "review"

    def __str__(self) -> str:
        """The text, on every Python version."""
        return self.value


class ScoringMethod(Enum):
    """How the graph's two logits become the image's anomaly score."""

    CLASSIFICATION = "classification"
    """The classification head's logit."""
    MAP_MAX = "map_max"
    """The maximum of the final anomaly map: better where training saw normal parts only."""
    COMBINED = "combined"
    """Both, in deviations from the mean of normal parts, added."""


@dataclass(frozen=True, slots=True)
class ScoringRule:
    """A scoring method with its numbers: the score is a weighted sum of both logits.

    Args:
        method: What the numbers stand for.
        classification: Weight of the classification head's logit.
        map_max: Weight of the map maximum.
        offset: Added to both.
    """

    CLASSIFICATION: ClassVar[ScoringRule]
    """The classification head's logit alone."""
    MAP_MAX: ClassVar[ScoringRule]
    """The map maximum alone."""

    method: ScoringMethod
    classification: float
    map_max: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that are not those of the method."""
        weights = (self.classification, self.map_max)
        if self.method is ScoringMethod.COMBINED:
            # A weight of zero or below would hide what one of the logits says, or turn it round.
            if not all(SMALLEST_WEIGHT <= w <= LARGEST_WEIGHT for w in weights):
                raise ConfigError(
                    f"the combined score has the weights {weights}; {SMALLEST_WEIGHT:g} to "
                    f"{LARGEST_WEIGHT:g} is needed"
                )
            # Beyond it no pair of logits scores above 0: everything would pass. False for NaN, too.
            if not abs(self.offset) <= LARGEST_LOGIT * sum(weights):
                raise ConfigError(
                    f"the combined score has the offset {self.offset}, out of its logits' reach"
                )
        elif (*weights, self.offset) != _PLAIN[self.method]:
            raise ConfigError(
                f"the {self.method.value} score has weights of its own: {weights}, {self.offset}"
            )

    @property
    def value(self) -> str:
        """The method's name."""
        return self.method.value

    def score(self, classification_logit: float, map_max_logit: float) -> float:
        """The raw anomaly score; higher is more anomalous."""
        if self.method is ScoringMethod.CLASSIFICATION:
            return classification_logit
        if self.method is ScoringMethod.MAP_MAX:
            return map_max_logit
        return (
            self.classification * classification_logit + self.map_max * map_max_logit + self.offset
        )


_PLAIN = {ScoringMethod.CLASSIFICATION: (1.0, 0.0, 0.0), ScoringMethod.MAP_MAX: (0.0, 1.0, 0.0)}
ScoringRule.CLASSIFICATION = ScoringRule(ScoringMethod.CLASSIFICATION, 1.0, 0.0)
ScoringRule.MAP_MAX = ScoringRule(ScoringMethod.MAP_MAX, 0.0, 1.0)


def plain_rule(method: ScoringMethod) -> ScoringRule:
    """The rule of a method that has no numbers of its own."""
    if method is ScoringMethod.COMBINED:
        raise ConfigError("the combined score has numbers of its own; fit them on normal parts")
    return ScoringRule.MAP_MAX if method is ScoringMethod.MAP_MAX else ScoringRule.CLASSIFICATION


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Cut-offs on logits; a value at a cut-off fails.

    Args:
        image: For the score that the scoring rule picks.
        pixel: For the anomaly map; map >= pixel is the defect mask.
        min_area_px: If set, a region of the mask of at least this area, in camera pixels, fails the
            part whatever its score.
    """

    image: float
    pixel: float
    min_area_px: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no score can be compared with."""
        for name, value in (("image", self.image), ("pixel", self.pixel)):
            # No score can reach a threshold beyond the largest: everything would pass.
            if not abs(value) <= LARGEST_LOGIT:  # false for NaN, too
                raise ConfigError(
                    f"the {name} threshold is {value}; a logit from {-LARGEST_LOGIT:g} to "
                    f"{LARGEST_LOGIT:g} is needed"
                )
        if self.min_area_px is not None and not 0 < self.min_area_px < math.inf:
            raise ConfigError(
                f"the minimum defect area is {self.min_area_px} pixels; a positive area is needed"
            )


@dataclass(frozen=True, slots=True)
class ReviewZone:
    """Scores that a person is to look at: `unknown(review)` instead of `pass` or `fail`.

    It can only take a pass away: a part whose score reaches the image threshold never passes.

    Args:
        low: The lowest raw score inside.
        high: The lowest raw score above it.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse a zone that holds nothing, or that no score can be compared with."""
        if not -LARGEST_LOGIT <= self.low < self.high <= LARGEST_LOGIT:  # false for NaN, too
            raise ConfigError(
                f"the review zone is {self.low} to {self.high}; two logits from "
                f"{-LARGEST_LOGIT:g} to {LARGEST_LOGIT:g} are needed, the lower one first"
            )

    def holds(self, raw_score: float) -> bool:
        """Whether a score lies inside."""
        return self.low <= raw_score < self.high


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What a network says about one frame, at network resolution.

    Args:
        classification_logit: The classification head's logit.
        map_max_logit: Maximum of the anomaly map within the judged region.
        anomaly_map: Pixel-level logits, (h, w) float32; higher is more anomalous.
        defect_mask: Map >= pixel threshold within the judged region, (h, w) uint8, 0 or 1.
    """

    classification_logit: float
    map_max_logit: float
    anomaly_map: FloatArray
    defect_mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

    def logit(self, rule: ScoringRule) -> float:
        """The raw anomaly score under a scoring rule."""
        return rule.score(self.classification_logit, self.map_max_logit)


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """One part's verdict. It owns its arrays: no later call changes them.

    Args:
        verdict: `pass` is the only active signal.
        reason: From the closed list.
        detail: One line for a person; empty for `pass`.
        score: Normalised anomaly score in [0, 1]; 0.5 is the threshold. None where there is none.
        raw_score: The logit, or the sum of both logits, behind it.
        threshold: What it was compared with.
        pixel_threshold: The logit that the mask was made with; with zones the lowest of theirs.
        classification_logit: The classification head's logit, whichever score decided.
        map_max_logit: The map maximum, whichever score decided.
        defects: Connected regions of the mask, largest first, in camera pixels.
        mask: Defect mask at network resolution, (h, w) bool; None without a judgement.
        anomaly_map: Logits at network resolution, (h, w) float32; None without a judgement.
        geometry: How the frame became the network input.
        frame_size_hw: The judged frame's size in pixels.
        timings_ms: Milliseconds by stage.
        settings_id: The device settings that it was judged with; None for the package's own
            thresholds, and where nothing was judged.
        recipe: Which of their recipes.
        brightness: Mean level of the network input over its channels, 0 to 255; None where none
            was measured.
        zone: Whose raw score and threshold these are: of all, the highest above its threshold. None
            for the rest of the frame, and without zones.
    """

    verdict: Verdict
    reason: Reason
    detail: str = ""
    score: float | None = None
    raw_score: float | None = None
    threshold: float | None = None
    pixel_threshold: float | None = None
    classification_logit: float | None = None
    map_max_logit: float | None = None
    defects: tuple[Defect, ...] = ()
    mask: BoolMask | None = None
    anomaly_map: FloatArray | None = None
    geometry: Geometry | None = None
    frame_size_hw: tuple[int, int] | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    settings_id: str | None = None
    recipe: str | None = None
    brightness: float | None = None
    zone: str | None = None

    def camera_mask(self) -> BoolMask | None:
        """The defect mask in camera pixels, (H, W) bool; None where no mask was computed."""
        if self.mask is None or self.geometry is None or self.frame_size_hw is None:
            return None
        return mask_to_frame(self.mask, self.geometry, self.frame_size_hw)


def unknown(
    reason: Reason, detail: str, *, timings_ms: Mapping[str, float] | None = None
) -> Decision:
    """The decision for everything that went wrong: rejects, and says why."""
    return Decision(Verdict.UNKNOWN, reason, detail, timings_ms=timings_ms or {})


def decide(
    judgement: Judgement,
    *,
    thresholds: Thresholds,
    rule: ScoringRule,
    geometry: Geometry,
    frame_size_hw: tuple[int, int],
    review: ReviewZone | None = None,
    region_mask: BoolMask | None = None,
    brightness: float | None = None,
    zones: JudgedZones | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Decision:
    """Turn one frame's scores, map and mask into a verdict and its defects.

    Args:
        judgement: What the engine gave; arrays are copied.
        thresholds: A value at a threshold fails, at pixel and at image level alike.
        rule: Makes the image's score of both logits.
        geometry: How the frame became the network input.
        frame_size_hw: The frame's height and width in pixels.
        review: Scores that a person is to look at; None for none.
        region_mask: What the engine was told to judge, (h, w) bool; None for everywhere. The
            classification head's logit is of the whole picture all the same.
        brightness: Of the network input, for the record.
        zones: Parts of what is judged with thresholds of their own, and the rest; then the engine's
            mask is of their lowest pixel threshold. None for the same thresholds everywhere.
        on_stage: Told the name of each stage when it ends, `threshold` and `defects`, for timing.

    Returns:
        `fail` if a region is at least the minimum area where one is set; else `unknown` if the raw
        score lies in the review zone; else `fail` if it is at or above the image threshold; else
        `pass`. With zones, the score and the threshold are those of the zone, or the rest, whose
        score is the highest above its threshold, and the review zone lies about that threshold as
        it does about the general one; a region of the mask meets the smallest minimum area of the
        zones that it touches.

    Raises:
        ScoreError: A value is NaN, infinite or out of range, a shape is wrong, or the maximum or
            the mask contradicts the map; the inspector turns it into `unknown`.
    """
    pixel_threshold = thresholds.pixel if zones is None else zones.lowest_pixel
    _check(judgement, geometry, pixel_threshold, region_mask)
    anomaly_map = np.array(judgement.anomaly_map, dtype=np.float32)
    mask = np.array(judgement.defect_mask, dtype=np.bool_)
    raw_score, threshold, zone = float(judgement.logit(rule)), thresholds.image, None
    if zones is not None:
        _check_zones(zones, geometry, region_mask)
        mask = zones.mask(anomaly_map, mask)
        if rule.method is not ScoringMethod.CLASSIFICATION:  # that score is of the whole picture
            deciding, raw_score = zones.deciding(
                anomaly_map,
                float(judgement.map_max_logit),
                lambda map_max: float(rule.score(judgement.classification_logit, map_max)),
            )
            threshold, zone = deciding.image, deciding.name
    if on_stage is not None:
        on_stage("threshold")
    defects = find_defects(
        mask,
        anomaly_map if zones is None else zones.levelled(anomaly_map),
        pixel_threshold=pixel_threshold,
        region_xywh=geometry.region_xywh(frame_size_hw),
        min_areas=None if zones is None else zones.min_areas,
    )
    if on_stage is not None:
        on_stage("defects")
    too_large = any(_is_too_large(defect, thresholds, zones) for defect in defects)
    verdict, reason, detail = Verdict.PASS, Reason.NONE, ""
    # The review zone lies about the general threshold: it goes with the threshold that decides.
    is_for_review = review is not None and review.holds(raw_score - (threshold - thresholds.image))
    if not too_large and is_for_review:
        verdict, reason = Verdict.UNKNOWN, Reason.REVIEW
        detail = f"the score {raw_score:.4g} is for a person to review"
    elif raw_score >= threshold or too_large:
        verdict, reason = Verdict.FAIL, Reason.DEFECT
    return Decision(
        verdict=verdict,
        reason=reason,
        detail=detail,
        score=normalised_score(raw_score, threshold),
        raw_score=raw_score,
        threshold=threshold,
        pixel_threshold=pixel_threshold,
        classification_logit=float(judgement.classification_logit),
        map_max_logit=float(judgement.map_max_logit),
        defects=defects,
        mask=mask,
        anomaly_map=anomaly_map,
        geometry=geometry,
        frame_size_hw=frame_size_hw,
        brightness=brightness,
        zone=zone,
    )


def _is_too_large(defect: Defect, thresholds: Thresholds, zones: JudgedZones | None) -> bool:
    """Whether a region fails the part whatever its score."""
    least = thresholds.min_area_px if zones is None else defect.min_area_px
    return least is not None and defect.area_px >= least


def _check_zones(zones: JudgedZones, geometry: Geometry, region_mask: BoolMask | None) -> None:
    """A pixel that is judged and lies in no zone would never fail."""
    judged = np.ones(geometry.input_size_hw, np.bool_) if region_mask is None else region_mask
    if not np.array_equal(zones.judged, judged):
        raise ScoreError("the zones are not of what the engine was told to judge")


def _check(
    judgement: Judgement, geometry: Geometry, pixel_threshold: float, region_mask: BoolMask | None
) -> None:
    for name, logit in (
        ("classification", judgement.classification_logit),
        ("map maximum", judgement.map_max_logit),
    ):
        if not abs(logit) <= LARGEST_LOGIT:  # false for NaN, too
            raise ScoreError(f"the engine gave {logit} as {name} logit")
    for name, array in (("map", judgement.anomaly_map), ("mask", judgement.defect_mask)):
        if array.shape != geometry.input_size_hw:
            raise ScoreError(
                f"the engine gave a {name} of shape {array.shape}, "
                f"{geometry.input_size_hw} is the network's size"
            )
    # One pass each: a NaN makes both comparisons false.
    low, high = float(judgement.anomaly_map.min()), float(judgement.anomaly_map.max())
    if not (low >= -LARGEST_LOGIT and high <= LARGEST_LOGIT):
        raise ScoreError(f"the engine gave a map with values from {low} to {high}")
    if int(judgement.defect_mask.max()) > 1:
        raise ScoreError("the engine gave a mask with values other than 0 and 1")
    # An output that was never written, or a mask made with another threshold, shows here.
    above = judgement.map_max_logit - pixel_threshold
    marked = bool(judgement.defect_mask.any())
    if marked != (above >= 0) and abs(above) > _rounding(pixel_threshold):
        raise ScoreError(
            f"the engine gave a mask that is {'not ' if marked else ''}empty with a map maximum of "
            f"{judgement.map_max_logit} at pixel threshold {pixel_threshold}"
        )
    judged_map, judged_mask = judgement.anomaly_map, judgement.defect_mask
    if region_mask is not None:
        if region_mask.shape != geometry.input_size_hw or not region_mask.any():
            # Nothing judged would be nothing found: a pass for every part.
            raise ScoreError("the region mask is empty or not of the network's size")
        if judged_mask[~region_mask].any():
            raise ScoreError("the engine gave a mask that marks what it was told not to judge")
        judged_map, judged_mask = judged_map[region_mask], judged_mask[region_mask]
        high = float(judged_map.max())
    # The last frame's maximum or mask beside this frame's map.
    if abs(judgement.map_max_logit - high) > _rounding(high):
        raise ScoreError(
            f"the engine gave a map maximum of {judgement.map_max_logit} and a map that reaches "
            f"{high}"
        )
    if marked or high >= pixel_threshold:
        from_threshold = judged_map - np.float32(pixel_threshold)
        differs = (judged_mask != 0) != (from_threshold >= 0)
        # Mostly nothing differs, and it need not be asked by how much.
        if differs.any() and np.any(np.abs(from_threshold[differs]) > _rounding(pixel_threshold)):
            raise ScoreError(
                f"the engine gave a mask that is not its map at pixel threshold {pixel_threshold}"
            )


def _rounding(logit: float) -> float:
    """How far half precision may move a logit."""
    return 1e-2 + 1e-2 * abs(logit)
