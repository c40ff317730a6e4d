"""The drift monitor looks at all judged parts of one judge, and says what it found."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.supervision.drift import DriftAlarm, DriftMonitor
from ssn_edge_runtime.supervision.drift_store import DRIFT_NAME, MOST_WATCHED

EVERY = 1_000_000


def record(sequence: int, raw_score: float | None, brightness: float | None) -> DecisionRecord:
    return DecisionRecord(
        sequence=sequence,
        source="camera",
        decided_at=datetime(2026, 11, 28, tzinfo=timezone.utc),
        verdict=Verdict.FAIL,
        reason=Reason.DEFECT,
        raw_score=raw_score,
        brightness=brightness,
        timings_ms={},
        package_id="0" * 64,
        engine_sha256="1" * 64,
        monotonic_ns=sequence,
    )


def feed(
    monitor: DriftMonitor, first: int, count: int, *, score: float = 0.0, light: float = 100.0
) -> list[DriftAlarm]:
    chance = random.Random(first)
    found: list[DriftAlarm] = []
    for sequence in range(first, first + count):
        part = record(sequence, chance.gauss(score, 1), chance.gauss(light, 4))
        found += monitor.add(part)
    return found


def test_each_quantity_raises_once_and_says_where_to_how_far_and_since_when() -> None:
    monitor = DriftMonitor(EVERY)
    assert feed(monitor, 1, 1000) == []
    dim, scored = feed(monitor, 1001, 500, light=88), feed(monitor, 1501, 500, score=3, light=88)
    (dim_alarm,), (score_alarm,) = dim, scored
    detail = dim_alarm.detail
    assert detail["alarm"] == "brightness_drift"
    assert detail["direction"] == "down"
    assert detail["deviations"] == pytest.approx(-3, abs=1)
    assert detail["since_sequence"] == pytest.approx(1001, abs=20)
    assert 1001 < dim_alarm.sequence <= 1020
    assert detail["sequence"] == dim_alarm.sequence
    assert detail["false_alarm_every_parts"] == EVERY
    assert str(dim_alarm).startswith("the parts' brightness went down, by ")
    assert str(dim_alarm).endswith("(one false alarm in 1,000,000 parts at most)")
    assert (score_alarm.detail["alarm"], score_alarm.detail["direction"]) == ("score_drift", "up")
    assert detail["source"] == "camera"
    told = json.loads(json.dumps(monitor.to_dict()))["cameras"]["camera"]
    assert told["score"]["state"] == told["brightness"]["state"] == "drifted"
    assert told["brightness"]["median"] == pytest.approx(100, abs=1)
    assert told["brightness"]["deviation"] == pytest.approx(4, abs=1)


def test_values_that_are_none_or_no_number_are_not_there() -> None:
    plain, holed = DriftMonitor(EVERY), DriftMonitor(EVERY)
    chance = random.Random(4)
    for sequence in range(1, 1500):
        light = chance.gauss(100 if sequence < 1200 else 85, 4)
        part = record(sequence, chance.gauss(0, 1), light)
        for nothing in (None, float("nan"), float("inf"), float("-inf")):
            assert holed.add(record(sequence, nothing, nothing)) == ()
        assert plain.add(part) == holed.add(part)
    assert plain.to_dict() == holed.to_dict()


def test_the_verdict_does_not_select() -> None:
    one, other = DriftMonitor(EVERY), DriftMonitor(EVERY)
    chance = random.Random(5)
    for sequence in range(1, 600):
        part = record(sequence, chance.gauss(0, 1), None)
        passed = replace(part, verdict=Verdict.PASS, reason=Reason.NONE)
        assert one.add(part) == other.add(passed)
    assert one.to_dict() == other.to_dict()


@pytest.mark.parametrize(
    "change",
    [{"settings_id": "2" * 64}, {"recipe": "large"}, {"engine_sha256": "3" * 64}],
)
def test_another_judge_is_no_drift_and_is_learnt_anew(change: dict[str, str]) -> None:
    monitor = DriftMonitor(EVERY)
    assert feed(monitor, 1, 500) == []
    chance = random.Random(6)

    def changed(sequence: int, score: float) -> DecisionRecord:
        part = record(sequence, chance.gauss(score, 1), chance.gauss(50, 4))
        return replace(part, **change)  # type: ignore[arg-type]

    assert [monitor.add(changed(500 + each, 5)) for each in range(500)] == [()] * 500
    later = [alarm for each in range(200) for alarm in monitor.add(changed(1000 + each, 8))]
    assert [each.quantity.value for each in later] == ["score"]


def test_cameras_that_take_turns_are_watched_apart() -> None:
    monitor = DriftMonitor(EVERY)
    chance = random.Random(7)
    found = []
    for sequence in range(1, 2001):
        name, light = ("left", 100.0) if sequence % 2 else ("right", 150.0)
        if name == "right" and sequence > 1500:
            light = 140.0
        part = replace(record(sequence, chance.gauss(0, 1), chance.gauss(light, 4)), source=name)
        found += monitor.add(part)
    assert [(each.source, each.drift.direction.value) for each in found] == [("right", "down")]


def test_a_restart_keeps_the_reference_and_an_alarm_drops_its_own(tmp_path: Path) -> None:
    def start() -> DriftMonitor:
        monitor = DriftMonitor(EVERY, path=tmp_path / DRIFT_NAME)
        monitor.open()
        return monitor

    before = start()
    assert feed(before, 1, 1000) == []
    before.close()

    dimmed = start()
    (alarm,) = feed(dimmed, 1001, 300, light=88)
    assert alarm.sequence < 1021
    dimmed.close()

    again = start()
    assert feed(again, 1301, 1000, light=88) == []  # what a person left so is the new reference
    scored = feed(again, 2301, 100, light=88, score=3)
    assert [each.quantity.value for each in scored] == ["score"]


def test_a_line_that_was_killed_has_its_reference_all_the_same(tmp_path: Path) -> None:
    killed = DriftMonitor(EVERY, path=tmp_path / DRIFT_NAME)
    feed(killed, 1, 300)
    assert killed._store is not None
    killed._store.wait()
    after = DriftMonitor(EVERY, path=tmp_path / DRIFT_NAME)
    after.open()
    assert [each.quantity.value for each in feed(after, 400, 50, light=80)] == ["brightness"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"schema":1', b'"schema":2'),
        (b'"stride":1', b'"stride":0'),
        (b'"weights":[1', b'"weights":[0'),
        (b'"edges":[', b'"edges":[9999,'),
        (b'"deviation":', b'"deviation":null,"deviated":'),
        (b"}", b""),
    ],
)
def test_a_damaged_file_is_said_and_learnt_anew(
    tmp_path: Path, old: bytes, new: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / DRIFT_NAME
    monitor = DriftMonitor(EVERY, path=path)
    feed(monitor, 1, 300)
    monitor.close()
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    after = DriftMonitor(EVERY, path=path)
    after.open()
    assert "is learnt anew, it cannot be used" in caplog.text
    assert feed(after, 400, 100, light=80) == []


def test_a_disk_that_takes_nothing_does_not_hold_the_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monitor = DriftMonitor(EVERY, path=tmp_path / "file" / DRIFT_NAME)
    assert feed(monitor, 1, 1000) == []
    monitor.close()
    assert "what was learnt is lost at the next start" in caplog.text


def test_many_recipes_keep_the_file_small(tmp_path: Path) -> None:
    path = tmp_path / DRIFT_NAME
    monitor = DriftMonitor(EVERY, path=path, reference_parts=16)
    chance = random.Random(8)
    for recipe in range(3 * MOST_WATCHED):
        for sequence in range(60):
            part = record(sequence, chance.gauss(0, 1), chance.gauss(100, 4))
            monitor.add(replace(part, recipe=f"r{recipe}"))
    monitor.close()
    recipes = [each["recipe"] for each in json.loads(path.read_bytes())["watched"]]
    assert len(recipes) == MOST_WATCHED
    assert recipes[-1] == f"r{3 * MOST_WATCHED - 1}"
    assert path.stat().st_size < 512 * 1024


@pytest.mark.parametrize("every", [0, -1, 999])
def test_a_rate_that_would_drown_true_alarms_is_refused(every: int) -> None:
    with pytest.raises(ConfigError, match="1000 or more are wanted, or 0 for no alarms"):
        DriftMonitor(every)
