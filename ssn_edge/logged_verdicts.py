"""The verdicts that a decision log holds, found again for pictures at hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.sinks.segments import JOURNAL_NAME

EVIDENCE = "evidence"
"""Folder within a log's, with the frames that were kept; a name begins with the sequence number."""
_KEPT = re.compile(r"(?:.*/)?(\d+)_[a-z_]+\.png")
_SEGMENTS = "decisions-*.jsonl"


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
    """Find pictures in a log, read once from end to end; of several records the last counts.

    The log's chain is not checked: `ssn-edge audit` does that.

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
    for document in _documents(folder):
        if document is None:
            unreadable += 1
            continue
        records += 1
        for by, key in _keys(document).items():
            for index in wanted[by].get(key, ()):
                before = found[index]
                if (
                    by is MatchedBy.FRAME
                    or before is None
                    or before.matched_by is not MatchedBy.FRAME
                ):
                    found[index] = _verdict(document, by)
    return LogMatch(found, records, unreadable)


def _keys(document: Mapping[str, object]) -> dict[MatchedBy, str | int]:
    """By what a record's picture may be found."""
    sha256, part_id, sequence = (
        document.get(name) for name in ("frame_sha256", "part_id", "sequence")
    )
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


def _documents(folder: Path) -> Iterator[Mapping[str, object] | None]:
    """Each verdict of a log as its JSON object; None for a line that is no record at all."""
    files = list(_files(folder))
    if not files:
        raise DatasetError(
            f"{folder}: holds no decision log ({JOURNAL_NAME}); name the folder that run wrote"
        )
    for path in files:
        try:
            with path.open("rb") as lines:
                for line in lines:
                    yield from _document(line)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error


def _document(line: bytes) -> Iterator[Mapping[str, object] | None]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        yield None
        return
    if not isinstance(document, dict):
        yield None
    # Other kinds of lines, such as triggers and events, hold no verdict.
    elif document.get("kind", "verdict") == "verdict":
        is_sound = isinstance(document.get("sequence"), int) and "verdict" in document
        yield document if is_sound else None


def _files(folder: Path) -> Iterator[Path]:
    """Closed segments in the order of their lines, then the one that is written."""
    if folder.is_dir():
        yield from sorted(folder.glob(_SEGMENTS))
        if (folder / JOURNAL_NAME).is_file():
            yield folder / JOURNAL_NAME
