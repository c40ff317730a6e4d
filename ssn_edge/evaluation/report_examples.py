"""The examples as the page shows them: sorted, each with its four panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ssn_edge.evaluation.overlays import (
    PREDICTED_RGB,
    TRUTH_RGB,
    HeatScale,
    data_uri,
    heat_panel,
    outline_panel,
    picture_panel,
)
from ssn_edge.evaluation.report import Example, Report, finite_or_none
from ssn_edge_runtime.decision import Verdict


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of an example's four pictures, as the page shows it."""

    caption: str
    uri: str | None
    outline: str = ""  # which key stands before the caption, if the outline encloses anything
    if_empty: str = ""
    encloses: bool = False
    none: str = ""  # stands in the place of a picture that is missing


def example_groups(report: Report, scale: HeatScale) -> list[dict[str, object]]:
    """The examples in the order in which people want to see them: mistakes first, worst first."""
    threshold = report.thresholds.image

    def score_of(example: Example) -> float:
        return threshold if example.score is None else example.score

    def closeness(example: Example) -> float:
        return abs(score_of(example) - threshold)

    def highest(example: Example) -> float:
        return -score_of(example)

    kinds: tuple[tuple[str, str, int, Verdict, Callable[[Example], float]], ...] = (
        ("Missed defects", "lowest score first", 1, Verdict.PASS, score_of),
        ("Good parts rejected", "highest score first", 0, Verdict.FAIL, highest),
        ("Defective parts without a judgement", "", 1, Verdict.UNKNOWN, highest),
        ("Good parts without a judgement", "", 0, Verdict.UNKNOWN, highest),
        ("Defects found", "closest to the threshold first", 1, Verdict.FAIL, closeness),
        ("Good parts passed", "closest to the threshold first", 0, Verdict.PASS, closeness),
    )
    groups: list[dict[str, object]] = []
    for title, order, label, verdict, key in kinds:
        members = [
            each for each in report.examples if (each.label, each.verdict) == (label, verdict)
        ]
        if members:
            shown = [_shown(each, scale, threshold) for each in sorted(members, key=key)]
            groups.append({"title": title, "order": order, "examples": shown})
    return groups


def _shown(example: Example, scale: HeatScale, threshold: float) -> dict[str, object]:
    """What the page says about one example, and its four panels."""
    panel = picture_panel(example.picture)
    heat = predicted = truth = None
    if example.anomaly_map is not None:
        heat = data_uri(heat_panel(panel, example.anomaly_map, scale))
    if example.pred_mask is not None:
        predicted = data_uri(outline_panel(panel, example.pred_mask, PREDICTED_RGB))
    if example.gt_mask is not None:
        truth = data_uri(outline_panel(panel, example.gt_mask, TRUTH_RGB))
    elif example.label == 0:
        truth = data_uri(panel)
    score = finite_or_none(example.score)
    has_prediction = example.pred_mask is not None and bool(example.pred_mask.any())
    has_truth = example.gt_mask is not None and bool(example.gt_mask.any())
    return {
        "name": example.name,
        "verdict": example.verdict.value,
        "truth": "good part" if example.label == 0 else example.defect_class or "defective part",
        "score": score,
        "offset": None if score is None else score - threshold,
        "panels": [
            _Panel("Picture", data_uri(panel)),
            _Panel("Anomaly map", heat, none="no map"),
            _Panel("Predicted mask", predicted, "predicted", "empty", has_prediction, "no mask"),
            _Panel("Ground truth", truth, "truth", "no defect marked", has_truth, "no mask drawn"),
        ],
    }
