from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_edge_runtime import record as record_module
from ssn_edge_runtime.defects import Defect
from ssn_edge_runtime.record import (
    MAX_DEFECTS,
    TIMING_STAGES,
    DecisionRecord,
    EventKind,
    EventRecord,
    TriggerRecord,
    boot_id,
    canonical_json,
    clock_synchronised,
    frame_sha256,
)
from ssn_edge_runtime.sinks import Journal

# Written out once more, so that a field cannot leave the schema by accident.
FIELDS = {
    "schema",
    "kind",
    "sequence",
    "part_id",
    "source",
    "frame_index",
    "captured_at",
    "decided_at",
    "verdict",
    "reason",
    "detail",
    "score",
    "raw_score",
    "threshold",
    "zone",
    "brightness",
    "defects",
    "defect_count",
    "mask",
    "overlay",
    "timings_ms",
    "package_id",
    "settings_id",
    "recipe",
    "precision",
    "engine",
    "engine_sha256",
    "trigger_id",
    "trigger_at",
    "exposed_at",
    "monotonic_ns",
    "boot_id",
    "clock_synchronised",
    "deadline_met",
    "frame_sha256",
}


@pytest.fixture
def record(output: Path, make_record: Callable[[Journal], DecisionRecord]) -> DecisionRecord:
    return make_record(Journal(output))


def parsed(record: DecisionRecord) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(canonical_json(record.to_dict()))
    return document


def test_a_line_has_every_field_of_its_schema(record: DecisionRecord) -> None:
    assert set(parsed(record)) == FIELDS
    assert parsed(record)["schema"] == 2


def test_a_line_is_canonical(record: DecisionRecord) -> None:
    line = canonical_json(record.to_dict())
    again = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    assert line == again
    assert b"\n" not in line


def test_what_is_not_known_is_null(record: DecisionRecord) -> None:
    document = parsed(record)
    assert document["trigger_id"] is None
    assert document["timings_ms"] == {
        stage: 1.235 if stage == "infer" else None for stage in TIMING_STAGES
    }


def test_times_are_utc_with_microseconds(record: DecisionRecord) -> None:
    assert parsed(record)["decided_at"] == "2025-01-02T03:04:05.678901Z"


@pytest.mark.parametrize("part_id", ["Teil ä\n", "name\udcff.png", '"}\u2028'])
def test_any_file_name_can_be_a_part_id(record: DecisionRecord, part_id: str) -> None:
    line = canonical_json(replace(record, part_id=part_id).to_dict())
    assert line.isascii()
    assert json.loads(line)["part_id"] == part_id


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_number_that_is_not_finite_cannot_be_written(
    record: DecisionRecord, score: float
) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(replace(record, score=score).to_dict())


def test_a_line_stays_short_however_many_defects_there_are(record: DecisionRecord) -> None:
    defects = tuple(Defect((x, 0, x + 1, 1), 1.0, 0.75, 0.625) for x in range(5000))
    document = parsed(replace(record, defects=defects, defect_count=5000))
    assert len(document["defects"]) == MAX_DEFECTS
    assert document["defect_count"] == 5000
    assert document["defects"][7] == {
        "box_xyxy": [7, 0, 8, 1],
        "area_px": 1.0,
        "peak": 0.75,
        "mean": 0.625,
    }


def test_the_frame_hash_covers_shape_dtype_and_bytes() -> None:
    image = np.arange(24, dtype=np.uint8)
    hashes = {
        frame_sha256(each)
        for each in (
            image.reshape(4, 6),
            image.reshape(6, 4),
            image.reshape(2, 4, 3),
            image.reshape(4, 6)[::-1],
            image.view(np.uint16).reshape(4, 3).view(np.uint16),
        )
    }
    assert len(hashes) == 5


def test_the_frame_hash_does_not_depend_on_memory_layout() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert frame_sha256(image) == frame_sha256(np.asfortranarray(image))


def test_this_boot_has_an_id() -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", boot_id() or "")


def test_a_clock_service_that_may_not_be_looked_at_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_module, "_TIMESYNC", Path("x" * 300))  # stat fails: name too long
    assert clock_synchronised() is None


def test_a_trigger_is_read_back_as_it_was(output: Path, make_trigger: Any) -> None:
    trigger = make_trigger(Journal(output))
    again = TriggerRecord.from_dict(json.loads(canonical_json(trigger.to_dict())))
    assert again == trigger


@pytest.mark.parametrize(
    ("field", "value"),
    [("sequence", "1"), ("trigger_id", None), ("trigger_at", "yesterday"), ("part_id", 3)],
)
def test_a_line_that_is_no_sound_trigger_is_refused(
    output: Path, make_trigger: Any, field: str, value: object
) -> None:
    with pytest.raises(ValueError, match=r"no trigger|does not match"):
        TriggerRecord.from_dict({**make_trigger(Journal(output)).to_dict(), field: value})


def test_an_event_has_its_name_its_detail_and_its_time() -> None:
    document = EventRecord.now(EventKind.CLOCK_STEP, {"seconds": -3.5}).to_dict()
    assert set(document) == {
        "schema", "kind", "event", "detail", "at", "monotonic_ns", "boot_id",
    }  # fmt: skip
    assert (document["kind"], document["event"]) == ("event", "clock_step")
    assert document["detail"] == {"seconds": -3.5}
