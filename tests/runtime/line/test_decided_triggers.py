"""What a journal tells of the triggers that earlier runs decided."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord, TriggerRecord
from ssn_edge_runtime.sinks import Journal
from ssn_edge_runtime.sinks.decided_triggers import DecidedTrigger, decided_triggers

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc)


def write(
    folder: Path, trigger: str, ids: Iterable[int | None], *, segment_bytes: int = 2**20
) -> list[int]:
    """One run: a decision for each id, the part's own number where it is None."""
    written = []
    with Journal(folder, segment_bytes=segment_bytes) as journal:
        journal.note(EventRecord.now(EventKind.START, {"trigger": trigger}))
        for trigger_id in ids:
            sequence = journal.next_sequence
            which = sequence if trigger_id is None else trigger_id
            journal.accept(
                TriggerRecord(
                    sequence=sequence, trigger_id=which, source="cam", trigger_at=NOW,
                    monotonic_ns=1,
                )
            )  # fmt: skip
            journal.write(
                DecisionRecord(
                    sequence=sequence, source="cam", decided_at=NOW, verdict=Verdict.FAIL,
                    reason=Reason.DEFECT, detail=f"of {which}", timings_ms={}, trigger_id=which,
                    monotonic_ns=2,
                )
            )  # fmt: skip
            written.append(sequence)
    return written


def ids(found: tuple[DecidedTrigger, ...]) -> list[int]:
    return [each.trigger_id for each in found]


def test_the_newest_triggers_are_read_back_over_segments_and_runs(tmp_path: Path) -> None:
    assert decided_triggers(tmp_path / "none", 5) == ()
    write(tmp_path, "software", range(101, 141), segment_bytes=4000)
    write(tmp_path, "software", range(201, 205), segment_bytes=4000)
    assert len(list(tmp_path.glob("decisions-*.jsonl"))) > 3
    assert ids(decided_triggers(tmp_path, 8)) == [137, 138, 139, 140, 201, 202, 203, 204]
    assert ids(decided_triggers(tmp_path, 1000)) == [*range(101, 141), *range(201, 205)]
    (*_, last) = decided_triggers(tmp_path, 3)
    assert last == DecidedTrigger(204, 44, "cam", Verdict.FAIL, Reason.DEFECT, "of 204")


def test_numbers_of_parts_that_nobody_gave_are_not_known(tmp_path: Path) -> None:
    write(tmp_path, "software", [7, 8])
    write(tmp_path, "rate", [None] * 4)
    assert ids(decided_triggers(tmp_path, 100)) == [7, 8]


def test_ids_that_are_the_numbers_of_their_parts_by_chance_are_known(tmp_path: Path) -> None:
    write(tmp_path, "software", range(1, 30))  # a controller and a journal that both begin with 1
    assert ids(decided_triggers(tmp_path, 5)) == [25, 26, 27, 28, 29]
    write(tmp_path, "camera", [None])
    assert ids(decided_triggers(tmp_path, 5)) == [25, 26, 27, 28, 29]


def test_reading_back_ends_at_its_limit(tmp_path: Path) -> None:
    write(tmp_path, "software", range(1000, 1100))
    assert 0 < len(decided_triggers(tmp_path, 100, limit_bytes=20_000)) < 40


def test_lines_that_are_torn_or_of_another_time_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "software", [500, 501])
    with (tmp_path / "decisions.jsonl").open("ab") as file:
        file.write(b'{"kind":"verdict","trigger_id":9}\n')
        file.write(b'{"kind":"verdict","trigger_id":9,"verdict":"maybe","reason":"none"}\n')
        file.write(b'"kind":"verdict"\n{"kind":"verdict","torn')
    assert ids(decided_triggers(tmp_path, 100)) == [500, 501]
