"""The pictures on which exported models are farthest from the net, with what each makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssn_edge_export.gate_columns import ColumnReport
from ssn_edge_export.gate_judged import Judged
from ssn_edge_runtime.arrays import BoolMask, ByteImage, FloatArray

MAX_WORST = 8
"""Pictures on the page; one panel for each column grows it by some 20 kB."""
_FLIPS_A_COLUMN = 3


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one judge makes of a picture.

    Args:
        title: The judge's name.
        verdict: ``pass``, ``fail`` or ``unknown``.
        distance: Of the score from the threshold; None where there is no verdict.
        anomaly_map: (h, w) float32 logits; None likewise.
        mask: (h, w) bool; None likewise.
        why: There is no verdict; else empty.
    """

    title: str
    verdict: str
    distance: float | None
    anomaly_map: FloatArray | None
    mask: BoolMask | None
    why: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class WorstPicture:
    """A picture that people should look at.

    Args:
        name: The file with its folder.
        label: 0 normal, 1 anomalous.
        pixels: Network input, (h, w, 3) uint8 BGR.
        reasons: Why it is shown.
        truth: Ground truth, (h, w) bool; None where it is not known.
        views: The net's, then one for each column.
    """

    name: str
    label: int
    pixels: ByteImage
    reasons: tuple[str, ...]
    truth: BoolMask | None
    views: tuple[View, ...]


def worst_pictures(
    reports: Sequence[ColumnReport], most: int = MAX_WORST
) -> dict[str, tuple[str, ...]]:
    """Names of the pictures to show, with the reasons: flips first, then the largest differences.

    The columns take turns, so that each is heard; that which differs most begins.
    """
    queues = []
    for report in sorted(reports, key=lambda report: -report.score.largest):
        title = report.column.title
        # Those that refuse a precision before those that are let pass.
        flips = sorted(report.flips, key=lambda flip: not flip.is_outside)[:_FLIPS_A_COLUMN]
        queues.append(
            [(name, f"no verdict by {title}") for name, _ in report.unjudged[:1]]
            + [(flip.picture, f"another verdict by {title}") for flip in flips]
            + [(report.worst_score, f"largest difference of a score by {title}")]
            + [(report.worst_map, f"largest difference of a map by {title}")]
        )
    reasons: dict[str, list[str]] = {}
    for turn in range(max(map(len, queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                name, reason = queue[turn]
                if name in reasons or len(reasons) < most:
                    reasons.setdefault(name, []).append(reason)
    return {name: tuple(dict.fromkeys(each)) for name, each in reasons.items()}


def view_of(title: str, judged: Judged, index: int, distance: float) -> View:
    """What a judge made of the picture at `index`, its arrays copied."""
    verdict = judged.verdicts[index].value
    if index in judged.faults:
        return View(title, verdict, None, None, None, judged.faults[index])
    return View(title, verdict, distance, judged.maps[index].copy(), judged.masks[index].copy())
