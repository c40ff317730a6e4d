"""An evaluation as the report shows it: counts, classes, and the examples worth a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssn_edge.data.loading import load_item
from ssn_edge.data.masks import MaskRule
from ssn_edge.evaluation.certificate_summary import CertificateSummary, DataRecord
from ssn_edge.evaluation.evaluate import Evaluation, JudgedItem
from ssn_edge.evaluation.reliability import reliability_of
from ssn_edge.evaluation.report import Baseline, Example, Report, VerdictCounts
from ssn_edge.evaluation.settings_summary import SettingsSummary
from ssn_edge.evaluation.training_curves import TrainingCurves
from ssn_edge.evaluation.uncertainty import classes_of, regions_of, uncertainty_of
from ssn_edge_runtime.decision import ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.manifest import Risk
from ssn_edge_runtime.preprocess import Geometry

MOST_MISTAKES = 8
"""Of each kind, worst first."""
MOST_CLEAR = 6
"""Rightly failed and rightly passed parts, spread over their scores."""


def report_of(
    evaluation: Evaluation,
    *,
    title: str,
    facts: Mapping[str, str],
    root: Path,
    mask_rule: MaskRule,
    geometry: Geometry,
    rule: ScoringRule,
    thresholds: Thresholds,
    risk: Risk | None,
    baseline: Baseline | None = None,
    training: TrainingCurves | None = None,
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
    data: DataRecord | None = None,
    certificate: CertificateSummary | None = None,
    settings: SettingsSummary | None = None,
) -> Report:
    """Make the report of an evaluation; pictures are read again for the examples alone.

    Args:
        evaluation: What was judged.
        title: Of the page.
        facts: What was evaluated, in words.
        root: Names of pictures are relative to it.
        mask_rule: How mask values are read.
        geometry: The region that was judged.
        rule: Which logit is the score.
        thresholds: What it was compared with.
        risk: What they were fitted for.
        baseline: A simple method on the same pictures.
        training: How the net came about.
        notes: How it was measured.
        commands: What to type to repeat it.
        data: Which data.
        certificate: Of the model that judged.
        settings: The device's, that decided.
    """
    return Report(
        title=title,
        facts=facts,
        scoring_rule=rule,
        thresholds=thresholds,
        risk=risk,
        normal=_counts(evaluation, 0),
        anomalous=_counts(evaluation, 1),
        metrics=evaluation.metrics,
        normal_scores=_scores(evaluation, 0),
        anomalous_scores=_scores(evaluation, 1),
        defect_classes=classes_of(evaluation),
        examples=tuple(
            _example(each, root, mask_rule, geometry) for each in _worth_a_look(evaluation)
        ),
        baseline=baseline,
        training=training,
        notes=tuple(notes),
        commands=tuple(commands),
        uncertainty=uncertainty_of(evaluation),
        regions=regions_of(evaluation, thresholds.pixel),
        reliability=reliability_of(evaluation),
        map_maxima=(_map_maxima(evaluation, 0), _map_maxima(evaluation, 1)),
        data=data,
        certificate=certificate,
        settings=settings,
    )


def _counts(evaluation: Evaluation, label: int) -> VerdictCounts:
    return VerdictCounts(
        passed=evaluation.count(label, Verdict.PASS),
        failed=evaluation.count(label, Verdict.FAIL),
        unknown=evaluation.count(label, Verdict.UNKNOWN),
    )


def _scores(evaluation: Evaluation, label: int) -> tuple[float, ...]:
    return tuple(
        each.decision.raw_score
        for each in evaluation.scored
        if each.item.label == label and each.decision.raw_score is not None
    )


def _map_maxima(evaluation: Evaluation, label: int) -> tuple[float, ...]:
    return tuple(
        each.decision.map_max_logit
        for each in evaluation.scored
        if each.item.label == label and each.decision.map_max_logit is not None
    )


def _score(each: JudgedItem) -> float:
    return float("-inf") if each.decision.raw_score is None else each.decision.raw_score


def _worth_a_look(evaluation: Evaluation) -> list[JudgedItem]:
    """The worst misses and false rejects, what could not be judged, and clear cases."""

    def of(label: int, verdict: Verdict) -> list[JudgedItem]:
        found = [
            each
            for each in evaluation.judged
            if each.item.label == label and each.decision.verdict is verdict
        ]
        return sorted(found, key=_score)

    unknown = [e for e in evaluation.judged if e.decision.verdict is Verdict.UNKNOWN]
    return [
        *of(1, Verdict.PASS)[:MOST_MISTAKES],
        *of(0, Verdict.FAIL)[::-1][:MOST_MISTAKES],
        *unknown[:MOST_MISTAKES],
        *_spread(of(1, Verdict.FAIL)[::-1], MOST_CLEAR),
        *_spread(of(0, Verdict.PASS), MOST_CLEAR // 2),
    ]


def _spread(items: list[JudgedItem], most: int) -> list[JudgedItem]:
    if len(items) <= most:
        return items
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _example(each: JudgedItem, root: Path, mask_rule: MaskRule, geometry: Geometry) -> Example:
    frame = load_item(each.item, mask_rule).image
    x, y, width, height = geometry.region_xywh((frame.shape[0], frame.shape[1]))
    image = each.item.image
    return Example(
        name=image.relative_to(root).as_posix() if image.is_relative_to(root) else image.name,
        label=each.item.label,
        verdict=each.decision.verdict,
        score=each.decision.raw_score,
        picture=frame[y : y + height, x : x + width],
        anomaly_map=each.decision.anomaly_map,
        pred_mask=each.decision.mask,
        gt_mask=each.gt_mask,
        defect_class=each.item.defect_class or "",
    )
