"""A database that follows the journal: made from it alone, and at any time made anew."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import TIMING_STAGES
from ssn_edge_runtime.sinks.tail import (
    POLL_S,
    DivergedError,
    Tail,
    TailLine,
    first_line_of,
    read_line,
)

DATABASE_SCHEMA = 3
"""1 had no `recipe`, 2 neither `zone` nor `brightness`."""
BATCH_LINES = 1000

_VERDICT_COLUMNS = {
    "source": "TEXT NOT NULL",
    "part_id": "TEXT",
    "frame_index": "INTEGER",
    "captured_at": "TEXT",
    "decided_at": "TEXT NOT NULL",
    "verdict": "TEXT NOT NULL",
    "reason": "TEXT NOT NULL",
    "detail": "TEXT NOT NULL",
    "score": "REAL",
    "raw_score": "REAL",
    "threshold": "REAL",
    "zone": "TEXT",
    "brightness": "REAL",
    "defect_count": "INTEGER NOT NULL",
    "mask": "TEXT",
    "overlay": "TEXT",
    "package_id": "TEXT",
    "settings_id": "TEXT",
    "recipe": "TEXT",
    "precision": "TEXT",
    "engine": "TEXT",
    "engine_sha256": "TEXT",
    "trigger_id": "INTEGER",
    "trigger_at": "TEXT",
    "exposed_at": "TEXT",
    "monotonic_ns": "INTEGER NOT NULL",
    "boot_id": "TEXT",
    "clock_synchronised": "INTEGER",
    "deadline_met": "INTEGER",
    "frame_sha256": "TEXT",
}
"""Columns that are fields of the record."""
_ADDED_SINCE = {1: ("recipe", "zone", "brightness"), 2: ("zone", "brightness")}
"""Which of them a database of an older schema lacks."""
_TIMING_COLUMNS = [f"{stage}_ms" for stage in TIMING_STAGES]

TABLES = f"""
CREATE TABLE position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    line INTEGER NOT NULL,
    sha256 TEXT NOT NULL
);
CREATE TABLE verdicts (
    sequence INTEGER PRIMARY KEY,
    line INTEGER NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    {", ".join(f"{name} {kind}" for name, kind in _VERDICT_COLUMNS.items())},
    {", ".join(f"{name} REAL" for name in _TIMING_COLUMNS)}
);
CREATE INDEX verdicts_decided_at ON verdicts (decided_at);
CREATE INDEX verdicts_verdict ON verdicts (verdict, decided_at);
CREATE INDEX verdicts_part_id ON verdicts (part_id) WHERE part_id IS NOT NULL;
CREATE TABLE defects (
    sequence INTEGER NOT NULL REFERENCES verdicts (sequence) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    x0 INTEGER NOT NULL, y0 INTEGER NOT NULL, x1 INTEGER NOT NULL, y1 INTEGER NOT NULL,
    area_px REAL NOT NULL, peak REAL NOT NULL, mean REAL NOT NULL,
    PRIMARY KEY (sequence, number)
) WITHOUT ROWID;
CREATE TABLE triggers (
    sequence INTEGER PRIMARY KEY,
    line INTEGER NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    trigger_id INTEGER NOT NULL,
    source TEXT NOT NULL,
    part_id TEXT,
    trigger_at TEXT NOT NULL,
    monotonic_ns INTEGER NOT NULL,
    boot_id TEXT
);
CREATE TABLE events (
    line INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL,
    event TEXT NOT NULL,
    at TEXT NOT NULL,
    detail TEXT NOT NULL,
    monotonic_ns INTEGER NOT NULL,
    boot_id TEXT
);
CREATE INDEX events_event ON events (event, at);
"""
"""The tables; `position` is the last line that is in the others."""

logger = logging.getLogger(__name__)


class SqliteFollower:
    """Copies a journal into a SQLite database, each line exactly once; a context manager.

    The position is written in the transaction that writes the lines, so that killing the process
    neither loses nor doubles one. Lines that power loss took back from the journal are taken out.
    WAL: readers never wait. One follower for each database.

    Args:
        folder: Of the journal; need not be there yet.
        database: The file; made if it is not there.
    """

    def __init__(self, folder: Path, database: Path) -> None:
        self._folder = folder
        self._path = database
        self._database: sqlite3.Connection | None = None
        self._tail = Tail(folder)

    def open(self) -> None:
        """Open or make the database.

        Raises:
            StorageError: It cannot be opened, or is something else.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._database)
            self._tail = self._tail_of(self._database)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StorageError(f"{self._path}: cannot be used as a database ({error})") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the database go; a second call does nothing."""
        self._tail.close()
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def __enter__(self) -> SqliteFollower:
        """Open it."""
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def line(self) -> int:
        """Number of the last line that is in the database."""
        return self._tail.line

    def step(self) -> int:
        """Copy the next lines, at most `BATCH_LINES`; returns how many they were.

        Raises:
            StorageError: The journal or the database cannot be used, or lines were retired before
                they were copied.
        """
        database = self._database
        if database is None:
            raise StorageError(f"{self._path}: the database is not open")
        before = (self._tail.line, self._tail.sha256)
        try:
            lines = self._tail.read(BATCH_LINES)
        except DivergedError as error:
            try:
                self._take_back(database, error)
            except sqlite3.Error as failure:
                raise StorageError(f"{self._path}: cannot be written ({failure})") from failure
            return 1
        if not lines:
            return 0
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                self._insert(database, lines)
                database.execute(
                    "UPDATE position SET line = ?, sha256 = ?", (lines[-1].line, lines[-1].sha256)
                )
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            # The lines were read and not written: read them again.
            self._tail.close()
            self._tail = Tail(self._folder, after_line=before[0], after_sha256=before[1])
            raise StorageError(f"{self._path}: cannot be written ({error})") from error
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

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA busy_timeout = 5000")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == DATABASE_SCHEMA:
            return
        if version in _ADDED_SINCE:
            self._add_columns(database, _ADDED_SINCE[version])
            return
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version or tables:
            raise StorageError(
                f"{self._path}: is a database of another kind or version ({version}, this version "
                f"writes {DATABASE_SCHEMA}); move it away, it is made anew from the journal"
            )
        database.executescript(
            f"BEGIN; {TABLES} INSERT INTO position VALUES (1, 0, '');"
            f"PRAGMA user_version = {DATABASE_SCHEMA}; COMMIT;"
        )

    def _add_columns(self, database: sqlite3.Connection, names: tuple[str, ...]) -> None:
        """Bring a database of an older schema up to this one, from the lines still there.

        Rows whose lines were retired keep null in the new columns: they cannot be made anew.
        """
        (last,) = database.execute("SELECT line FROM position").fetchone()
        first = first_line_of(self._folder)
        database.execute("BEGIN IMMEDIATE")
        try:
            for name in names:
                database.execute(f"ALTER TABLE verdicts ADD COLUMN {name} {_VERDICT_COLUMNS[name]}")
            values = ", ".join(f"{name} = ?" for name in names)
            with Tail(self._folder, after_line=(first or 1) - 1) as tail:
                while tail.line < last and (lines := tail.read(BATCH_LINES)):
                    database.executemany(
                        f"UPDATE verdicts SET {values} WHERE line = ? AND sha256 = ?",
                        [
                            (
                                *(_stored(line.document.get(name)) for name in names),
                                line.line,
                                line.sha256,
                            )
                            for line in lines
                            if line.kind == "verdict"
                        ],
                    )
            database.execute(f"PRAGMA user_version = {DATABASE_SCHEMA}")
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        logger.info("%s: the columns %s were added", self._path, ", ".join(names))

    def _tail_of(self, database: sqlite3.Connection) -> Tail:
        line, sha256 = database.execute("SELECT line, sha256 FROM position").fetchone()
        return Tail(self._folder, after_line=line, after_sha256=sha256 or None)

    def _take_back(self, database: sqlite3.Connection, why: DivergedError) -> None:
        """Forget lines that the journal no longer holds, back to the last one that it does."""
        common, sha256 = 0, ""
        for line, known in database.execute(
            "SELECT line, sha256 FROM verdicts UNION ALL SELECT line, sha256 FROM triggers "
            "UNION ALL SELECT line, sha256 FROM events ORDER BY line DESC"
        ):
            found = read_line(self._folder, line)
            if found is not None and found.sha256 == known:
                common, sha256 = line, known
                break
        else:
            raise StorageError(
                f"{self._path}: is of another journal than the one in {self._folder}; move it "
                "away, it is made anew"
            ) from why
        logger.warning("%s; the database goes back to line %d", why, common)
        database.execute("BEGIN IMMEDIATE")
        for table in ("verdicts", "triggers", "events"):
            database.execute(f"DELETE FROM {table} WHERE line > ?", (common,))
        database.execute("UPDATE position SET line = ?, sha256 = ?", (common, sha256))
        database.execute("COMMIT")
        self._tail.close()
        self._tail = self._tail_of(database)

    def _insert(self, database: sqlite3.Connection, lines: Iterable[TailLine]) -> None:
        for line in lines:
            document = line.document
            if line.kind == "verdict":
                _insert_verdict(database, line, document)
            elif line.kind == "trigger":
                names = ("trigger_id", "source", "part_id", "trigger_at", "monotonic_ns", "boot_id")
                database.execute(
                    "INSERT INTO triggers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        document["sequence"],
                        line.line,
                        line.sha256,
                        *(_stored(document[name]) for name in names),
                    ),
                )
            else:
                database.execute(
                    "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        line.line,
                        line.sha256,
                        document["event"],
                        document["at"],
                        json.dumps(document["detail"], sort_keys=True),
                        document["monotonic_ns"],
                        document["boot_id"],
                    ),
                )


_INSERT_VERDICT = (
    f"INSERT INTO verdicts (sequence, line, sha256, {', '.join(_VERDICT_COLUMNS)}, "
    f"{', '.join(_TIMING_COLUMNS)}) VALUES "
    f"({', '.join('?' * (3 + len(_VERDICT_COLUMNS) + len(_TIMING_COLUMNS)))})"
)


def _insert_verdict(
    database: sqlite3.Connection, line: TailLine, document: Mapping[str, object]
) -> None:
    timings, defects = document["timings_ms"], document["defects"]
    assert isinstance(timings, dict)
    assert isinstance(defects, list)
    sequence = document["sequence"]
    database.execute(
        _INSERT_VERDICT,
        (
            sequence,
            line.line,
            line.sha256,
            *(_stored(document.get(name)) for name in _VERDICT_COLUMNS),
            *(timings[stage] for stage in TIMING_STAGES),
        ),
    )
    database.executemany(
        "INSERT INTO defects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (sequence, number, *each["box_xyxy"], each["area_px"], each["peak"], each["mean"])
            for number, each in enumerate(defects)
        ],
    )


def _stored(value: object) -> object:
    """A name that is no UTF-8 (a file's) would be refused; its odd bytes become marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
