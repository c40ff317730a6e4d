"""What a decision log says about the parts whose pictures were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ssn_edge.logged_verdicts import kept_frame
from ssn_edge_runtime.record import FIRST_LINE, LineKind
from ssn_edge_runtime.sinks.tail import first_line_of, tail_journal


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPart:
    """One decision, as far as a person who labels its picture wants to know it.

    Args:
        sequence: The record's number.
        verdict: `pass`, `fail` or `unknown`.
        reason: From the closed list of the version that wrote it.
        detail: One line for a person.
        score: Normalised; 0.5 is the threshold.
        raw_score: The logit.
        threshold: What it was compared with.
        at: When it was captured, or else decided; UTC, as the log spells it.
        source: Name of the camera.
        part_id: From outside: any text.
        boxes_xyxy: Of the defect regions, in camera pixels.
        defect_count: How many regions there were.
        package_id: What decided.
        settings_id: With which settings.
        recipe: With which of their recipes.
        frame_sha256: Of the pixels, where the record or a later event of the log states it.
        mask: File name, as the log has it.
        overlay: File name, as the log has it.
    """

    sequence: int
    verdict: str
    reason: str
    detail: str
    score: float | None
    raw_score: float | None
    threshold: float | None
    at: str | None
    source: str
    part_id: str | None
    boxes_xyxy: tuple[tuple[int, int, int, int], ...]
    defect_count: int
    package_id: str | None
    settings_id: str | None
    recipe: str | None
    frame_sha256: str | None
    mask: str | None
    overlay: str | None


@dataclass(frozen=True, slots=True)
class LoggedParts:
    """A log, read once from its first line to its last.

    Args:
        parts: By sequence, those that were asked for.
        verdicts: Of all parts, by verdict.
        head_line: Number of the last line; 0 in an empty log.
        head_sha256: Its hash, which stands for all lines before it.
    """

    parts: Mapping[int, LoggedPart] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    head_line: int = 0
    head_sha256: str | None = None


def read_logged_parts(folder: Path, wanted: Collection[int]) -> LoggedParts:
    """Read a log; each line must name the one before by its hash.

    Args:
        folder: Of the log; it may be in use.
        wanted: Sequences of the parts that are kept in memory.

    Raises:
        StorageError: It cannot be read, or holds a line that does not follow.
    """
    documents: dict[int, Mapping[str, object]] = {}
    hashes: dict[int, str] = {}
    verdicts: Counter[str] = Counter()
    line, sha256 = 0, None
    first = first_line_of(folder) or FIRST_LINE
    for each in tail_journal(folder, from_line=first, follow=False):
        line, sha256 = each.line, each.sha256
        if each.kind == LineKind.VERDICT.value:
            verdicts[str(each.document.get("verdict"))] += 1
            sequence = each.document.get("sequence")
            if isinstance(sequence, int) and sequence in wanted:
                documents[sequence] = each.document
        else:
            # A keeper in another process hashes a frame after its verdict and says so in an event.
            kept = kept_frame(each.document)
            if kept is not None:
                hashes[kept[0]] = kept[1]
    parts = {
        sequence: _part(sequence, document, hashes.get(sequence))
        for sequence, document in documents.items()
    }
    return LoggedParts(parts, dict(verdicts), line, sha256)


def _part(sequence: int, document: Mapping[str, object], frame: str | None) -> LoggedPart:
    def text(name: str) -> str | None:
        value = document.get(name)
        return value if isinstance(value, str) else None

    def number(name: str) -> float | None:
        value = document.get(name)
        return float(value) if isinstance(value, (int, float)) else None

    count = document.get("defect_count")
    return LoggedPart(
        sequence=sequence,
        verdict=text("verdict") or "",
        reason=text("reason") or "",
        detail=text("detail") or "",
        score=number("score"),
        raw_score=number("raw_score"),
        threshold=number("threshold"),
        at=text("captured_at") or text("decided_at"),
        source=text("source") or "",
        part_id=text("part_id"),
        boxes_xyxy=_boxes(document.get("defects")),
        defect_count=count if isinstance(count, int) else 0,
        package_id=text("package_id"),
        settings_id=text("settings_id"),
        recipe=text("recipe"),
        frame_sha256=text("frame_sha256") or frame,
        mask=text("mask"),
        overlay=text("overlay"),
    )


def _boxes(defects: object) -> tuple[tuple[int, int, int, int], ...]:
    boxes = []
    for each in defects if isinstance(defects, list) else ():
        box = each.get("box_xyxy") if isinstance(each, dict) else None
        if isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box):
            boxes.append((box[0], box[1], box[2], box[3]))
    return tuple(boxes)
