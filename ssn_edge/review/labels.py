"""What people said about pictures: a file to which lines are only added."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from ssn_edge_runtime.errors import ConfigError, DatasetError, StorageError
from ssn_edge_runtime.files import sync_folder
from ssn_edge_runtime.record import canonical_json, utc_text

SCHEMA = 1
LONGEST_NAME = 64
MAX_REGIONS = 64

Box = tuple[int, int, int, int]


class Label(str, Enum):
    """What a person says about a part."""

    GOOD = "good"
    DEFECTIVE = "defective"
    UNSURE = "unsure"
    """Looked at, and left open: counts for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLine:
    """One line of the file. The last one of a person about a frame is what that person says.

    Args:
        label: None takes back what the person said before.
        who: Who says it.
        at: When, UTC, as the log spells moments.
        picture: Name of the picture, relative to its folder.
        frame_sha256: Of its pixels; a label belongs to these, under whatever name.
        regions_xyxy: Where the defect is, roughly, in the picture's pixels.
        sequence: Of the record, where there is one; what follows stands in that record.
        verdict: What the line had said.
        score: Normalised.
        package_id: What decided.
        settings_id: With which settings.
    """

    label: Label | None
    who: str
    at: str
    picture: str
    frame_sha256: str
    regions_xyxy: tuple[Box, ...] = ()
    sequence: int | None = None
    verdict: str | None = None
    score: float | None = None
    package_id: str | None = None
    settings_id: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The line as a JSON object."""
        return {
            "schema": SCHEMA,
            "label": None if self.label is None else self.label.value,
            "who": self.who,
            "at": self.at,
            "picture": self.picture,
            "frame_sha256": self.frame_sha256,
            "regions_xyxy": [list(box) for box in self.regions_xyxy],
            "sequence": self.sequence,
            "verdict": self.verdict,
            "score": self.score,
            "package_id": self.package_id,
            "settings_id": self.settings_id,
        }


@dataclass(frozen=True, slots=True)
class LabelBook:
    """All that was said, the last word of each person on each frame.

    Args:
        said: By frame hash, then by person, the latest last; a later reading adds to it.
        frames: Frame hash by picture's name, as the labels have it.
        lines: How many lines the file has.
        torn_lines: Lines that a power loss cut; they count for nothing.
    """

    said: Mapping[str, Mapping[str, LabelLine]] = field(default_factory=dict)
    frames: Mapping[str, str] = field(default_factory=dict)
    lines: int = 0
    torn_lines: int = 0

    def about(self, frame_sha256: str | None) -> Sequence[LabelLine]:
        """What people say about a frame, the latest last."""
        return tuple(self.said.get(frame_sha256 or "", {}).values())


def now_text() -> str:
    """This moment, as lines spell it."""
    text = utc_text(datetime.now(timezone.utc))
    assert text is not None
    return text


def check_who(name: str) -> str:
    """A person's name as it is kept.

    Raises:
        ConfigError: Empty, too long, or with characters that no one can read.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"--who {name!r}: a name of 1 to {LONGEST_NAME} readable characters is wanted, such "
            "as --who anna"
        )
    return name


def append_label(path: Path, line: LabelLine) -> None:
    """Add a line, and come back when it is on the disk.

    Several processes may add to one file at a time.

    Raises:
        StorageError: It cannot be written; the label is not kept.
    """
    data = canonical_json(line.to_dict()) + b"\n"
    try:
        is_new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            before = os.fstat(fd).st_size
            if before and os.pread(fd, 1, before - 1) != b"\n":
                data = b"\n" + data  # the line before was torn; it must not tear this one
            try:
                if os.write(fd, data) != len(data):
                    raise OSError("the disk took only a part of it")
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, before)
                raise
        finally:
            os.close(fd)
        if is_new:
            sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path}: the label cannot be written ({error.strerror or error}); name another file "
            "with --labels"
        ) from error


def read_labels(path: Path) -> LabelBook:
    """Read a file of labels once; none yet is an empty book. See `LabelFile.read`."""
    return LabelFile(path).read()


class LabelFile:
    """A file of labels that is read again and again: each time only what came since.

    Args:
        path: The file; need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._said: dict[str, dict[str, LabelLine]] = {}
        self._frames: dict[str, str] = {}
        self._lines = self._torn = self._numbers = 0

    def read(self) -> LabelBook:
        """All that was said until now, by whichever process.

        Raises:
            StorageError: It cannot be read.
            DatasetError: It holds a whole line that is no label.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be read ({error.strerror})") from error
        whole, end, rest = data.rpartition(b"\n")
        if end:
            for raw in whole.split(b"\n"):
                self._numbers += 1
                self._take(raw)
            self._offset += len(whole) + 1
        return LabelBook(self._said, self._frames, self._lines, self._torn + bool(rest))

    def _take(self, raw: bytes) -> None:
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError):
            self._torn += 1
            return
        line = _line(document)
        if line is None:
            raise DatasetError(
                f"{self._path}, line {self._numbers}: is no label of this version; name the file "
                "that ssn-edge review wrote (--labels)"
            )
        self._lines += 1
        self._frames[line.picture] = line.frame_sha256
        by_person = self._said.setdefault(line.frame_sha256, {})
        by_person.pop(line.who, None)  # so that the latest stands last
        if line.label is not None:
            by_person[line.who] = line


def regions_from(value: object) -> tuple[Box, ...] | None:
    """Boxes from JSON; None if it is something else."""
    if not isinstance(value, list) or len(value) > MAX_REGIONS:
        return None
    boxes = []
    for box in value:
        if not isinstance(box, list) or len(box) != 4 or any(type(side) is not int for side in box):
            return None
        left, top, right, bottom = box
        if not (0 <= left < right <= 2**20 and 0 <= top < bottom <= 2**20):
            return None
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


def _line(document: object) -> LabelLine | None:
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return None
    texts = [document.get(name) for name in ("who", "at", "picture", "frame_sha256")]
    regions = regions_from(document.get("regions_xyxy"))
    label = document.get("label")
    if regions is None or not all(isinstance(each, str) for each in texts):
        return None
    if label is not None and label not in [each.value for each in Label]:
        return None
    sequence, score = document.get("sequence"), document.get("score")

    def text(name: str) -> str | None:
        value = document.get(name)
        return value if isinstance(value, str) else None

    return LabelLine(
        label=None if label is None else Label(label),
        who=str(texts[0]),
        at=str(texts[1]),
        picture=str(texts[2]),
        frame_sha256=str(texts[3]),
        regions_xyxy=regions,
        sequence=sequence if isinstance(sequence, int) else None,
        verdict=text("verdict"),
        score=float(score) if isinstance(score, (int, float)) else None,
        package_id=text("package_id"),
        settings_id=text("settings_id"),
    )
