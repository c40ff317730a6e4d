"""A CSV file that follows the journal: one row for each decision."""

from __future__ import annotations

import csv
import io
import logging
import os
from errno import ENOSPC
from pathlib import Path
from threading import Event

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import TIMING_STAGES
from ssn_edge_runtime.sinks.tail import POLL_S, Tail, TailLine, first_line_of, read_line

COLUMNS = (
    "line", "sha256", "sequence", "part_id", "source", "captured_at", "decided_at", "verdict",
    "reason", "detail", "score", "raw_score", "threshold", "zone", "brightness", "defect_count",
    "mask", "overlay", "package_id", "settings_id", "recipe", "precision", "engine", "trigger_id",
    "trigger_at", "deadline_met",
    *(f"{stage}_ms" for stage in TIMING_STAGES),
)  # fmt: skip


logger = logging.getLogger(__name__)


class CsvFollower:
    r"""Copies the decisions of a journal into a CSV file, each exactly once; a context manager.

    Each row is one line of text and names the journal line it was made from: the last whole row is
    the position from which a follower that was killed goes on. UTF-8, comma, a header, empty where
    a value is not known, line feeds within a value as ``\n``.

    Args:
        folder: Of the journal; need not be there yet.
        path: The file; made if it is not there.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._fd: int | None = None
        self._tail = Tail(folder)

    def open(self) -> None:
        """Open or make the file, and cut off a row that was torn.

        Raises:
            StorageError: It cannot be written, or is something else.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            self._go_on(self._fd)
        except OSError as error:
            self.close()
            raise StorageError(f"{self._path}: cannot be written ({error.strerror})") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the file go; a second call does nothing."""
        self._tail.close()
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> CsvFollower:
        """Open it."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def step(self) -> int:
        """Copy the next lines; returns how many lines of the journal they were.

        Raises:
            StorageError: The journal cannot be read or was taken back behind a row, or the file
                cannot be written.
        """
        if self._fd is None:
            raise StorageError(f"{self._path}: is not open")
        lines = self._tail.read()
        rows = [_row(line) for line in lines if line.kind == "verdict"]
        data = _text(rows)
        try:
            if data and os.write(self._fd, data) != len(data):
                raise OSError(ENOSPC, "the disk is full")
        except OSError as error:
            self.close()  # opening it again finds out how far it came
            raise StorageError(f"{self._path}: cannot be written ({error.strerror})") from error
        return len(lines)

    def run(self, stop: Event, *, poll_s: float = POLL_S) -> None:
        """Follow until told to stop, and then to the journal's end.

        Raises:
            StorageError: See `step`.
        """
        while True:
            is_last = stop.is_set()
            if self.step():
                continue
            if is_last:
                return
            stop.wait(poll_s)

    def _go_on(self, fd: int) -> None:
        header = _text([list(COLUMNS)])
        size = os.fstat(fd).st_size
        whole = _last_end(fd, size)
        if whole == 0:
            if size > len(header) or not header.startswith(os.pread(fd, size, 0)):
                raise StorageError(f"{self._path}: is another file; move it away")
            os.ftruncate(fd, 0)
            os.write(fd, header)
            self._tail = Tail(self._folder)
            return
        if os.pread(fd, len(header), 0) != header:
            raise StorageError(
                f"{self._path}: has other columns than this version writes; move it away, it is "
                "made anew from the journal"
            )
        while True:
            os.ftruncate(fd, whole)
            begin = _last_end(fd, whole - 1)
            if begin == 0:  # the header alone
                self._tail = Tail(self._folder)
                return
            row = os.pread(fd, whole - begin, begin).decode()
            number, sha256, *_ = next(csv.reader([row]))
            line = int(number)
            if not self._is_taken_back(line, sha256):
                self._tail = Tail(self._folder, after_line=line, after_sha256=sha256)
                return
            logger.warning("%s: line %d is no longer in the journal", self._path, line)
            whole = begin

    def _is_taken_back(self, line: int, sha256: str) -> bool:
        """Whether power loss took a row's line out of the journal."""
        found = read_line(self._folder, line)
        if found is not None:
            return found.sha256 != sha256
        first = first_line_of(self._folder)
        return first is not None and first <= line


def _last_end(fd: int, end: int) -> int:
    """Where the last whole line before an offset ends; 0 if nowhere."""
    while end > 0:
        start = max(0, end - 2**14)
        place = os.pread(fd, end - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


def _row(line: TailLine) -> list[str]:
    timings = line.document["timings_ms"]
    assert isinstance(timings, dict)
    values = {
        **line.document,
        "line": line.line,
        "sha256": line.sha256,
        **{f"{stage}_ms": timings[stage] for stage in TIMING_STAGES},
    }
    return [_cell(values.get(name)) for name in COLUMNS]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")


def _text(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
