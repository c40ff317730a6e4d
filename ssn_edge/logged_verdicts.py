"""The verdicts that a decision log holds, found again for pictures at hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.record import EventKind, LineKind
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME, closed_segments

EVIDENCE = "evidence"
"""Folder within a log's, with the frames that were kept; a name begins with the sequence number."""
_KEPT = re.compile(r"(?:.*/)?(\d+)_[a-z_]+\.png")


class MatchedBy(str, Enum):
    """By what a picture was found in a log; the first that fits."""

    FRAME = "frame"
    """The record's hash is that of the very pixels."""
    SEQUENCE = "sequence"
    """It is evidence, and its name says the record's number. The record has no hash."""
    PART_ID = "part_id"
    """The record's part id is the picture's. The record has no hash."""


@dataclass(frozen=True, slots=True)
class PictureKeys:
    """What a picture can be found by.

    Args:
        frame_sha256: See `ssn_edge_runtime.record.frame_sha256`; None where it cannot be read.
        part_id: Its name relative to the folder; None for a video's frame.
        is_evidence: Whether its name was given by the log's evidence keeper.
    """

    frame_sha256: str | None
    part_id: str | None
    is_evidence: bool

    @property
    def sequence(self) -> int | None:
        """Number of the record whose evidence it is."""
        if not self.is_evidence or self.part_id is None:
            return None
        match = _KEPT.fullmatch(self.part_id)
        return None if match is None else int(match[1])


@dataclass(frozen=True, slots=True)
class LoggedVerdict:
    """A record's verdict, as far as it is compared.

    Args:
        sequence: The record's number.
        verdict: `pass`, `fail` or `unknown`.
        reason: From the closed list of the version that wrote it.
        raw_score: The logit; None where there was none.
        threshold: What it was compared with.
        package_id: What decided.
        matched_by: How the picture was found.
    """

    sequence: int
    verdict: str
    reason: str
    raw_score: float | None
    threshold: float | None
    package_id: str | None
    matched_by: MatchedBy


@dataclass(frozen=True, slots=True)
class LogMatch:
    """What a log knows of some pictures.

    Args:
        verdicts: For each picture, in order; None where the log does not know it.
        records: Verdicts that the log holds, of any part.
        unreadable_lines: Lines that are no records.
    """

    verdicts: Sequence[LoggedVerdict | None]
    records: int
    unreadable_lines: int


def is_log(folder: Path) -> bool:
    """Whether a folder holds a decision log."""
    return any(True for _ in _files(folder))


def match_log(folder: Path, pictures: Sequence[PictureKeys]) -> LogMatch:
    """Find pictures in a log; of several records the last counts.

    The log's chain is not checked, `ssn-edge audit` does that: a damaged log can still be compared
    with, and its lines that cannot be read are counted. It is read twice where frames were hashed
    after their verdicts: the events that say so come later.

    Args:
        folder: Of the log; it may be in use.
        pictures: What to look for.

    Raises:
        DatasetError: There is no log, or it cannot be read.
    """
    wanted: Mapping[MatchedBy, dict[str | int, list[int]]] = {by: {} for by in MatchedBy}
    for index, keys in enumerate(pictures):
        for by, key in (
            (MatchedBy.FRAME, keys.frame_sha256),
            (MatchedBy.SEQUENCE, keys.sequence),
            (MatchedBy.PART_ID, None if keys.is_evidence else keys.part_id),
        ):
            if key is not None:
                wanted[by].setdefault(key, []).append(index)
    found: list[LoggedVerdict | None] = [None] * len(pictures)
    records = unreadable = 0
    hashes = dict(_kept_frames(folder))
    for document in _documents(folder):
        if document is None:
            unreadable += 1
            continue
        records += 1
        for by, key in _keys(document, hashes).items():
            for index in wanted[by].get(key, ()):
                before = found[index]
                if (
                    by is MatchedBy.FRAME
                    or before is None
                    or before.matched_by is not MatchedBy.FRAME
                ):
                    found[index] = _verdict(document, by)
    return LogMatch(found, records, unreadable)


def kept_frame(document: Mapping[str, object]) -> tuple[int, str] | None:
    """Sequence and hash of a frame that was hashed after its verdict; None for any other line.

    Args:
        document: A line of a log.
    """
    if document.get("event") != EventKind.KEPT.value:
        return None
    detail = document.get("detail")
    stated = detail if isinstance(detail, dict) else {}
    sequence, frame = stated.get("sequence"), stated.get("frame_sha256")
    return (sequence, frame) if isinstance(sequence, int) and isinstance(frame, str) else None


def _keys(document: Mapping[str, object], hashes: Mapping[int, str]) -> dict[MatchedBy, str | int]:
    """By what a record's picture may be found."""
    sha256, part_id, sequence = (
        document.get(name) for name in ("frame_sha256", "part_id", "sequence")
    )
    if sha256 is None and isinstance(sequence, int):
        sha256 = hashes.get(sequence)
    if isinstance(sha256, str):
        # The pixels decide: a picture of the same name with other pixels is another part's.
        return {MatchedBy.FRAME: sha256}
    keys: dict[MatchedBy, str | int] = {}
    if isinstance(sequence, int):
        keys[MatchedBy.SEQUENCE] = sequence
    if isinstance(part_id, str):
        keys[MatchedBy.PART_ID] = part_id
    return keys


def _verdict(document: Mapping[str, object], by: MatchedBy) -> LoggedVerdict:
    raw_score, threshold, package_id = (
        document.get(name) for name in ("raw_score", "threshold", "package_id")
    )
    sequence = document["sequence"]
    assert isinstance(sequence, int)
    return LoggedVerdict(
        sequence=sequence,
        verdict=str(document["verdict"]),
        reason=str(document.get("reason")),
        raw_score=float(raw_score) if isinstance(raw_score, (int, float)) else None,
        threshold=float(threshold) if isinstance(threshold, (int, float)) else None,
        package_id=package_id if isinstance(package_id, str) else None,
        matched_by=by,
    )


def _kept_frames(folder: Path) -> Iterator[tuple[int, str]]:
    """Frames that were hashed after their verdicts."""
    for line in _lines(folder):
        if b'"kept"' not in line:  # nearly all lines, and parsing is what takes the time
            continue
        document = _parsed(line)
        kept = None if document is None else kept_frame(document)
        if kept is not None:
            yield kept


def _documents(folder: Path) -> Iterator[Mapping[str, object] | None]:
    """Each verdict of a log as its JSON object; None for a line that is no record at all."""
    for line in _lines(folder):
        document = _parsed(line)
        if document is None:
            yield None
        # Other kinds of lines, such as triggers and events, hold no verdict.
        elif document.get("kind", LineKind.VERDICT.value) == LineKind.VERDICT.value:
            is_sound = isinstance(document.get("sequence"), int) and "verdict" in document
            yield document if is_sound else None


def _lines(folder: Path) -> Iterator[bytes]:
    files = list(_files(folder))
    if not files:
        raise DatasetError(
            f"{folder}: holds no decision log ({JOURNAL_NAME}); name the folder that run wrote"
        )
    for path in files:
        try:
            with path.open("rb") as lines:
                yield from lines
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error


def _parsed(line: bytes) -> Mapping[str, object] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _files(folder: Path) -> Iterator[Path]:
    """Closed segments in the order of their lines, then the one that is written."""
    if folder.is_dir():
        yield from (segment.path for segment in closed_segments(folder))
        if (folder / JOURNAL_NAME).is_file():
            yield folder / JOURNAL_NAME
