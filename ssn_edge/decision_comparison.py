"""Two engines on the same pictures: do they decide the same?"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ssn_edge_runtime import Inspector, Package
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Verdict
from ssn_edge_runtime.errors import DatasetError, SourceError
from ssn_edge_runtime.self_test import score_margin
from ssn_edge_runtime.sources.base import DamagedFrame
from ssn_edge_runtime.sources.folder import FolderSource

LISTED_FLIPS = 20
"""Farthest from the threshold first; the count tells of the rest."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A picture that two engines decide differently.

    Args:
        picture: Its name in the folder.
        reference: The reference's verdict.
        found: The other's.
        distance: The reference's score less its threshold, in logits; None where it has none.
        is_outside: Whether that is farther than the margin.
    """

    picture: str
    reference: str
    found: str
    distance: float | None
    is_outside: bool

    def __str__(self) -> str:
        """For a message."""
        where = "" if self.distance is None else f" ({self.distance:+.4g} from the threshold)"
        return f"{self.picture}: {self.reference}{where} became {self.found}"


@dataclass(frozen=True, slots=True)
class DecisionComparison:
    """How an engine's decisions are from the reference's.

    Args:
        pictures: How many were compared.
        unreadable: Files that are no usable picture.
        score_difference: Largest difference of a score's distance from its own threshold.
        mask_share: Largest share of a mask's pixels that differ.
        flips: Pictures with two verdicts, farthest from the threshold first.
    """

    pictures: int
    unreadable: int
    score_difference: float
    mask_share: float
    flips: tuple[Flip, ...]

    @property
    def outside(self) -> tuple[Flip, ...]:
        """Those that refuse the engine."""
        return tuple(flip for flip in self.flips if flip.is_outside)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "pictures": self.pictures,
            "unreadable": self.unreadable,
            "score_difference": self.score_difference,
            "mask_share": self.mask_share,
            "verdicts_that_differ": len(self.flips),
            "outside_of_margin": len(self.outside),
            "flips": [asdict(flip) for flip in self.flips[:LISTED_FLIPS]],
        }


@dataclass(frozen=True, slots=True)
class ReferenceDecisions:
    """What the reference decided on a folder's pictures.

    Args:
        folder: Where they are.
        decisions: By name; without their maps.
        unreadable: Files that are no usable picture.
    """

    folder: Path
    decisions: Mapping[str, Decision]
    unreadable: int


def decide_all(
    inspector: Inspector, folder: Path, on_progress: Callable[[int], None] = lambda done: None
) -> ReferenceDecisions:
    """Judge every picture of a folder and of those below it.

    Raises:
        DatasetError: It holds no picture that can be read.
    """
    decisions: dict[str, Decision] = {}
    unreadable = 0
    for name, frame in _frames(folder):
        if frame is None:
            unreadable += 1
            continue
        decisions[name] = replace(inspector.inspect(frame), anomaly_map=None, defects=())
        on_progress(len(decisions))
    if not decisions:
        raise DatasetError(f"{folder}: none of its pictures can be read; give another folder")
    return ReferenceDecisions(folder, decisions, unreadable)


def compare_decisions(
    package: Package,
    reference: ReferenceDecisions,
    inspector: Inspector,
    on_progress: Callable[[int], None] = lambda done: None,
) -> DecisionComparison:
    """Hold an engine's decisions against the reference's, each by the thresholds of its precision.

    A verdict may differ only where the reference's score lies within a margin of its threshold:
    what the export gate allowed the precision, and what the manifest allows a device.

    Args:
        package: Both models' package.
        reference: What `decide_all` gave.
        inspector: The engine's.
        on_progress: Told how many are done.
    """
    allowed = gate_margin(package, inspector.precision)
    tolerance = package.manifest.precisions[inspector.precision].tolerance
    flips = []
    score_difference = mask_share = 0.0
    for done, (name, frame) in enumerate(_frames(reference.folder)):
        wanted = reference.decisions.get(name)
        if frame is None or wanted is None:
            continue
        found = inspector.inspect(frame)
        distance = _distance(wanted)
        other = _distance(found)
        if distance is not None and other is not None:
            score_difference = max(score_difference, abs(other - distance))
        if wanted.mask is not None and found.mask is not None:
            mask_share = max(mask_share, float(np.mean(wanted.mask != found.mask)))
        if wanted.verdict is not found.verdict:
            margin = None
            if wanted.classification_logit is not None and wanted.map_max_logit is not None:
                margin = allowed + score_margin(
                    inspector.scoring_rule,
                    tolerance,
                    wanted.classification_logit,
                    wanted.map_max_logit,
                )
            is_near = (
                distance is not None
                and margin is not None
                and found.verdict is not Verdict.UNKNOWN
                and abs(distance) <= margin
            )
            flips.append(
                Flip(name, wanted.verdict.value, found.verdict.value, distance, not is_near)
            )
        on_progress(done + 1)
    return DecisionComparison(
        pictures=len(reference.decisions),
        unreadable=reference.unreadable,
        score_difference=score_difference,
        mask_share=mask_share,
        flips=tuple(sorted(flips, key=_gravity, reverse=True)),
    )


def gate_margin(package: Package, precision: str) -> float:
    """The margin within which the export gate let a verdict of this precision turn, in logits.

    0 where the package's certificate does not say.
    """
    certificate = json.loads(package.read(package.manifest.precisions[precision].certificate))
    columns = certificate.get("columns", []) if isinstance(certificate, dict) else []
    margins = [column.get("margin") for column in columns if isinstance(column, dict)]
    return max((float(each) for each in margins if isinstance(each, (int, float))), default=0.0)


def _gravity(flip: Flip) -> tuple[bool, float]:
    return flip.is_outside, math.inf if flip.distance is None else abs(flip.distance)


def _distance(decision: Decision) -> float | None:
    if decision.raw_score is None or decision.threshold is None:
        return None
    return decision.raw_score - decision.threshold


def _frames(folder: Path) -> Iterator[tuple[str, ByteImage | None]]:
    """Name and picture; None for one that cannot be read."""
    source = FolderSource(folder, recursive=True)
    try:
        source.open()
    except SourceError as error:
        raise DatasetError(str(error)) from error
    with contextlib.closing(source):
        while True:
            try:
                frame = source.read(timeout_s=0.0)
            except DamagedFrame as error:
                yield error.part_id or "", None
                continue
            if frame is None:
                return
            yield frame.part_id or "", frame.image
