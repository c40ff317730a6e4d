"""The learnt references of a line, in a file beside its journal: a restart does not forget them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.record import DecisionRecord, canonical_json
from ssn_edge_runtime.strict_json import Fields
from ssn_edge_runtime.supervision.drift_reference import Reference

DRIFT_NAME = "drift.json"
DRIFT_SCHEMA = 1
MOST_WATCHED = 64
"""Cameras times settings times recipes, the newest: more would make a file that grows."""
LARGEST_FILE_BYTES = 4 * 1024 * 1024

logger = logging.getLogger(__name__)


class Watched(NamedTuple):
    """Whose scores can be compared with each other: those of one camera and one judge."""

    source: str
    package_id: str | None
    engine_sha256: str | None
    settings_id: str | None
    recipe: str | None

    @classmethod
    def of(cls, record: DecisionRecord) -> Watched:
        """Of a record that was judged."""
        return cls(
            record.source,
            record.package_id,
            record.engine_sha256,
            record.settings_id,
            record.recipe,
        )


References = Mapping[Watched, Mapping[str, Reference]]
"""By whose they are, and by the name of the quantity."""


class DriftStore:
    """Reads and writes the file. What goes wrong with it is logged: the line runs without it.

    Args:
        path: The file; need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._newest: bytes | None = None  # that no thread has begun to write
        self._writer: Thread | None = None

    def read(self) -> dict[Watched, dict[str, Reference]]:
        """What an earlier run learnt; nothing if there is no file, or none of ours."""
        try:
            if self._path.stat().st_size > LARGEST_FILE_BYTES:
                raise ValueError("it is too large")
            return _references(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, StorageError) as error:
            logger.warning("%s: is learnt anew, it cannot be used: %s", self._path, error)
            return {}

    def write(self, references: References) -> None:
        """Replace the file, in a thread: a disk that is slow must not hold a part."""
        data = canonical_json(
            {
                "schema": DRIFT_SCHEMA,
                "watched": [_to_dict(*each) for each in [*references.items()][-MOST_WATCHED:]],
            }
        )
        with self._lock:
            self._newest = data
            if self._writer is None:
                self._writer = Thread(target=self._write, name="drift-store", daemon=True)
                self._writer.start()

    def wait(self, timeout_s: float = 5.0) -> None:
        """Until what was given is written."""
        with self._lock:
            writer = self._writer
        if writer is not None:
            writer.join(timeout_s)

    def _write(self) -> None:
        while True:
            with self._lock:
                data, self._newest = self._newest, None
                if data is None:
                    self._writer = None
                    return
            try:
                write_whole(self._path, data)
            except StorageError as error:
                logger.warning("what was learnt is lost at the next start: %s", error)


def _to_dict(watched: Watched, references: Mapping[str, Reference]) -> dict[str, object]:
    return {
        **watched._asdict(),
        "references": {
            name: {
                "bins": len(each.weights),
                "edges": [value for value, _ in each.edges],
                "places": [place for _, place in each.edges],
                "weights": list(each.weights),
                "stride": each.stride,
                "centre": each.centre,
                "deviation": each.deviation,
            }
            for name, each in references.items()
        },
    }


def _references(document: object) -> dict[Watched, dict[str, Reference]]:
    file = Fields(document, "the file", refusal=StorageError)
    if file.whole("schema") != DRIFT_SCHEMA:
        raise ValueError(f"its schema is not {DRIFT_SCHEMA}")
    found = {}
    for item in file.items("watched"):
        entry = Fields(item, "watched", refusal=StorageError)
        watched = Watched(
            source=entry.text("source"),
            package_id=entry.text_or_none("package_id"),
            engine_sha256=entry.text_or_none("engine_sha256"),
            settings_id=entry.text_or_none("settings_id"),
            recipe=entry.text_or_none("recipe"),
        )
        found[watched] = {
            name: _reference(Fields(each, name, refusal=StorageError))
            for name, each in entry.entries("references").items()
        }
    return found


def _reference(fields: Fields) -> Reference:
    bins = fields.whole("bins")
    values, places = fields.numbers("edges", bins - 1), fields.numbers("places", bins - 1)
    return Reference(
        edges=tuple(zip(values, places, strict=True)),
        weights=tuple(int(each) for each in fields.numbers("weights", bins)),
        stride=fields.whole("stride"),
        centre=fields.number("centre"),
        deviation=fields.number("deviation"),
    )
