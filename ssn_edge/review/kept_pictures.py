"""The pictures that can be labelled: a log's evidence, or any folder of pictures."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ssn_edge.logged_verdicts import EVIDENCE, is_log
from ssn_edge.review.logged_parts import LoggedPart, LoggedParts, read_logged_parts
from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES

_KEPT = re.compile(r"(\d+)_([a-z_]+)\.png")
LABELS_NAME = "review.jsonl"


class Why(str, Enum):
    """Why a picture was kept, as the name that the line gave it says."""

    FAIL = "fail"
    UNKNOWN = "unknown"
    NEAR = "pass_near"
    """It passed, near the threshold."""
    RANDOM = "pass_random"
    """It passed and was drawn by lot: the only ones from which a rate can be told."""
    OTHER = "other"
    """Not named by a line."""


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A picture, and what the log says of it.

    Args:
        key: Stands for the picture outside of this process; no path.
        path: The file.
        name: Relative to the folder of pictures, with forward slashes.
        why: Why it was kept.
        part: Its record; None without one.
        mask: File of the defect mask that the line found, if it is there.
        overlay: File of the overlay that the line drew, if it is there.
    """

    key: str
    path: Path
    name: str
    why: Why
    part: LoggedPart | None = None
    mask: Path | None = None
    overlay: Path | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """All pictures of a folder or log.

    Args:
        folder: What was named, or the log whose evidence it is: labels are kept here.
        log: Folder of the log; None for plain pictures.
        pictures: By name.
        logged: What the log says.
    """

    folder: Path
    log: Path | None
    pictures: tuple[KeptPicture, ...]
    logged: LoggedParts = field(default_factory=LoggedParts)


def find_kept(source: Path) -> Kept:
    """Find the pictures, and their records where there is a log.

    Args:
        source: Folder of a log, its evidence, or any folder of pictures (those below it, too).

    Raises:
        DatasetError: No folder, or no picture in it.
        StorageError: The log cannot be read.
    """
    if not source.is_dir():
        raise DatasetError(
            f"{source}: there is no such folder; name the folder that run wrote, or a folder of "
            "pictures"
        )
    log = source if is_log(source) else None
    if log is None and source.resolve().name == EVIDENCE and is_log(source.resolve().parent):
        log = source.parent if source.name == EVIDENCE else source.resolve().parent
    folder = source if log is None else log / EVIDENCE
    if log is not None and not folder.is_dir():
        raise DatasetError(
            f"{log}: this log kept no pictures (there is no {folder}); run the line with "
            "--evidence GB, or name a folder of pictures"
        )
    names = {name: _parsed(name, log) for name in _pictures_in(folder)}
    if not names:
        raise DatasetError(f"{folder}: holds no picture ({', '.join(PICTURE_SUFFIXES)})")
    logged = LoggedParts()
    if log is not None:
        logged = read_logged_parts(log, {number for number, _ in names.values() if number})
    pictures = tuple(
        _picture(folder, name, why, log, None if number is None else logged.parts.get(number))
        for name, (number, why) in names.items()
    )
    return Kept(log or source, log, pictures, logged)


def _pictures_in(folder: Path) -> Iterator[str]:
    """Names relative to the folder; no links, which could lead out of it."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for each in files:
            path = Path(place) / each
            if (
                path.suffix.lower() in PICTURE_SUFFIXES
                and not each.startswith(".")
                and not path.is_symlink()
            ):
                found.append(path.relative_to(folder).as_posix())
    yield from sorted(found)


def _parsed(name: str, log: Path | None) -> tuple[int | None, Why]:
    match = None if log is None else _KEPT.fullmatch(name)
    if match is None or match[2] not in {each.value for each in Why}:
        return None, Why.OTHER
    return int(match[1]), Why(match[2])


def _picture(
    folder: Path, name: str, why: Why, log: Path | None, part: LoggedPart | None
) -> KeptPicture:
    mask = overlay = None
    if log is not None and part is not None:
        mask, overlay = _within(log, part.mask), _within(log, part.overlay)
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return KeptPicture(key, folder / name, name, why, part, mask, overlay)


def _within(log: Path, name: str | None) -> Path | None:
    """A picture that a record names, if it is one and lies in the log's folder."""
    if name is None or "\0" in name or Path(name).suffix.lower() not in PICTURE_SUFFIXES:
        return None
    path = (log / name).resolve()
    return path if path.is_relative_to(log.resolve()) and path.is_file() else None


def by_key(kept: Kept) -> Mapping[str, KeptPicture]:
    """The pictures by their keys."""
    return {each.key: each for each in kept.pictures}
