"""How far the numbers of an evaluation may be off: intervals, classes and regions of defects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssn_edge.evaluation.evaluate import Evaluation, JudgedItem
from ssn_edge_calibrate.bootstrap import ImageIntervals, image_intervals
from ssn_edge_calibrate.intervals import Rate, rate_of
from ssn_edge_calibrate.metrics import Points, auroc
from ssn_edge_calibrate.pixel_intervals import PixelIntervals, pixel_intervals
from ssn_edge_calibrate.region_metrics import (
    SizeClass,
    false_regions_at,
    found_by_size,
    froc_points,
    regions_found,
    true_regions,
)
from ssn_edge_runtime.arrays import BoolMask, FloatArray
from ssn_edge_runtime.decision import Verdict


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """95 % intervals of what was measured.

    Args:
        found: Defective parts that failed.
        rejected: Good parts that did not pass.
        classification: Of the classification head's score.
        map_max: Of the map maximum.
        decided: Of the score that decided.
        groups: Groups that the pictures are of; None where the data name none.
        pixel: Of the maps.
    """

    found: Rate
    rejected: Rate
    classification: ImageIntervals
    map_max: ImageIntervals
    decided: ImageIntervals
    groups: int | None
    pixel: PixelIntervals = field(default_factory=PixelIntervals)

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {
            "found": self.found.to_dict(),
            "rejected": self.rejected.to_dict(),
            "classification": self.classification.to_dict(),
            "map_max": self.map_max.to_dict(),
            "decided": self.decided.to_dict(),
            "groups": self.groups,
            "pixel": self.pixel.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class DefectClass:
    """How many pictures show one kind of defect, and on how many the verdict was `fail`.

    Args:
        name: Of the kind.
        pictures: That show it.
        found: That failed.
        rate: The same with its interval.
        i_auroc: Of its pictures against all normal ones, by the score that decided.
        intervals: Of that.
    """

    name: str
    pictures: int
    found: int
    rate: Rate | None = None
    i_auroc: float | None = None
    intervals: ImageIntervals | None = None

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        interval = None if self.intervals is None else self.intervals.to_dict()["i_auroc"]
        return {
            "name": self.name,
            "pictures": self.pictures,
            "found": self.found,
            "rate": None if self.rate is None else self.rate.to_dict(),
            "i_auroc": self.i_auroc,
            "i_auroc_interval": interval,
        }


@dataclass(frozen=True, slots=True)
class RegionFindings:
    """What the map finds, region by region.

    Args:
        found: Drawn defect regions that the map reaches at the pixel threshold.
        false_regions: Regions of the defect mask that touch no drawn defect; a picture on average.
        sizes: The share found by size.
        froc: (false regions a picture, share found) over all thresholds.
        pictures: Of which the truth is known.
    """

    found: Rate
    false_regions: float
    sizes: tuple[SizeClass, ...]
    froc: Points
    pictures: int

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {
            "found": self.found.to_dict(),
            "false_regions_a_picture": self.false_regions,
            "sizes": [each.to_dict() for each in self.sizes],
            "froc": [list(point) for point in self.froc],
            "pictures": self.pictures,
        }


def uncertainty_of(evaluation: Evaluation) -> Uncertainty:
    """Intervals of an evaluation; pictures of one group count as what they are worth."""
    normal = [each for each in evaluation.judged if not each.item.is_anomalous]
    anomalous = [each for each in evaluation.judged if each.item.is_anomalous]
    scored = evaluation.scored
    labels, groups = [each.item.label for each in scored], _groups(scored)
    named = {each.item.group for each in evaluation.judged if each.item.group is not None}
    alone = sum(each.item.group is None for each in evaluation.judged)

    def intervals(scores: Sequence[float | None]) -> ImageIntervals:
        return image_intervals(labels, [0.0 if each is None else each for each in scores], groups)

    return Uncertainty(
        found=rate_of([_failed(each) for each in anomalous], _groups(anomalous)),
        rejected=rate_of(
            [each.decision.verdict is not Verdict.PASS for each in normal], _groups(normal)
        ),
        classification=intervals([each.decision.classification_logit for each in scored]),
        map_max=intervals([each.decision.map_max_logit for each in scored]),
        decided=intervals([each.decision.raw_score for each in scored]),
        groups=len(named) + alone if named else None,
        pixel=_pixel_intervals(evaluation),
    )


def classes_of(evaluation: Evaluation) -> tuple[DefectClass, ...]:
    """Each kind of defect that the data name, by name."""
    names = sorted(
        {e.item.defect_class for e in evaluation.judged if e.item.label and e.item.defect_class}
    )
    normal = [each for each in evaluation.scored if not each.item.is_anomalous]
    classes = []
    for name in names:
        members = [e for e in evaluation.judged if e.item.label and e.item.defect_class == name]
        scored = [*normal, *(e for e in members if e.decision.raw_score is not None)]
        labels = [each.item.label for each in scored]
        scores = [each.decision.raw_score or 0.0 for each in scored]
        rate = rate_of([_failed(each) for each in members], _groups(members))
        classes.append(
            DefectClass(
                name,
                len(members),
                rate.hits,
                rate,
                auroc(labels, scores),
                image_intervals(labels, scores, _groups(scored)),
            )
        )
    return tuple(classes)


def regions_of(evaluation: Evaluation, pixel_threshold: float) -> RegionFindings | None:
    """What the maps find of the drawn defects; None where no defect is drawn."""
    maps, masks, groups = _known_maps(evaluation)
    regions = true_regions(maps, masks)
    if not regions:
        return None
    return RegionFindings(
        found=regions_found(regions, pixel_threshold, groups),
        false_regions=false_regions_at(maps, masks, pixel_threshold),
        sizes=found_by_size(regions, pixel_threshold, groups),
        froc=froc_points(maps, masks, regions),
        pictures=len(maps),
    )


def _pixel_intervals(evaluation: Evaluation) -> PixelIntervals:
    maps, masks, groups = _known_maps(evaluation)
    return pixel_intervals(maps, masks, evaluation.metrics.pixel, groups)


def _known_maps(
    evaluation: Evaluation,
) -> tuple[list[FloatArray], list[BoolMask], list[str | None]]:
    """Maps whose truth is known, with it and their groups."""
    maps, masks, groups = [], [], []
    for each in evaluation.scored:
        if each.gt_mask is not None and each.decision.anomaly_map is not None:
            maps.append(each.decision.anomaly_map)
            masks.append(each.gt_mask)
            groups.append(each.item.group)
    return maps, masks, groups


def _failed(each: JudgedItem) -> bool:
    return each.decision.verdict is Verdict.FAIL


def _groups(judged: Sequence[JudgedItem]) -> list[str | None]:
    return [each.item.group for each in judged]
