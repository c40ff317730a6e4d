"""The list of an exported training set: a CSV that `train` reads, with where each row is from."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ssn_edge_runtime.errors import DatasetError, StorageError

LIST_NAME = "provenance.csv"
_RISKY_STARTS = ("=", "+", "-", "@")


@dataclass(frozen=True, slots=True)
class ListedPicture:
    """One row; every field is text, empty for what is not known.

    Args:
        image: The picture's file, relative to the list.
        mask: Its mask, where a person drew one.
        label: `good` or `defective`.
        group: Pictures of one part have one; from the part id.
        frame_sha256: Of the pixels; no two rows have the same.
        labelled_by: Who said so last.
        labelled_at: When, UTC.
        log: The folder that it comes from.
        log_line: How long the log was when it was exported.
        log_head: Hash of that last line: proves the record, with `ssn-edge audit --head`.
        sequence: The record's number.
        verdict: What the line had said.
        reason: Why.
        score: Normalised; 0.5 is the threshold.
        package_id: What had decided.
        settings_id: With which settings.
        kept_because: `fail`, `unknown`, `pass_near`, `pass_random` or `other`.
        captured_at: When, UTC.
        picture: The name that it had.
    """

    image: str
    mask: str
    label: str
    group: str
    frame_sha256: str
    labelled_by: str
    labelled_at: str
    log: str
    log_line: str
    log_head: str
    sequence: str
    verdict: str
    reason: str
    score: str
    package_id: str
    settings_id: str
    kept_because: str
    captured_at: str
    picture: str


COLUMNS = tuple(each.name for each in fields(ListedPicture))


def cell(value: object) -> str:
    """A value as text for a cell: one line, and nothing that a spreadsheet would run.

    What cannot stand there as it is (a part id may hold anything) is replaced by its hash, so that
    the same value stays the same.
    """
    text = "" if value is None else str(value)
    if text == text.strip() and text.isprintable() and not text.startswith(_RISKY_STARTS):
        return text
    return "text-" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def read_listing(folder: Path) -> dict[str, ListedPicture]:
    """The rows of an earlier export by frame hash; none where there is no list.

    Raises:
        DatasetError: A list, but none of an export.
        StorageError: It cannot be read.
    """
    path = folder / LIST_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise DatasetError(_no_list(path)) from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    rows = csv.reader(io.StringIO(text))
    if tuple(next(rows, ())) != COLUMNS:
        raise DatasetError(_no_list(path))
    found = {}
    for cells in rows:
        if len(cells) != len(COLUMNS):
            raise DatasetError(_no_list(path))
        row = ListedPicture(*cells)
        found[row.frame_sha256] = row
    return found


def listing_bytes(rows: Iterable[ListedPicture]) -> bytes:
    """The list as a file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue().encode("utf-8")


def _no_list(path: Path) -> str:
    return (
        f"{path}: is not a list that ssn-edge review --export of this version wrote; export into a "
        "new folder"
    )
