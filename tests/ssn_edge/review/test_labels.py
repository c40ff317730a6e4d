"""The file of labels: only added to, the last word of each person, torn lines set aside."""

from __future__ import annotations

import json
import multiprocessing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ssn_edge.review.agreement import agreement
from ssn_edge.review.kept_pictures import Why, find_kept
from ssn_edge.review.labels import Label, LabelLine, append_label, check_who, read_labels
from ssn_edge.review.order import Order
from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.errors import ConfigError, DatasetError, StorageError
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord
from ssn_edge_runtime.sinks.journal import Journal
from tests.ssn_edge.review.conftest import Session


def line(label: Label | None, who: str = "anna", frame: str = "f" * 64) -> LabelLine:
    return LabelLine(label=label, who=who, at="2026-11-28T00:00:00.000000Z", picture="a.png",
                     frame_sha256=frame)  # fmt: skip


def says(*lines: LabelLine) -> tuple[Label | None, bool]:
    found = agreement(lines)
    return found.label, found.is_conflict


def test_the_last_word_of_a_person_counts(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    for label in (Label.GOOD, Label.DEFECTIVE, Label.UNSURE, Label.DEFECTIVE):
        append_label(path, line(label))
    assert [each.label for each in read_labels(path).about("f" * 64)] == [Label.DEFECTIVE]
    append_label(path, line(None))
    assert read_labels(path).about("f" * 64) == ()
    assert len(path.read_bytes().splitlines()) == 5, "nothing is ever taken out"


def test_two_people_who_contradict_each_other_are_a_conflict_and_unsure_is_none() -> None:
    good, bad = line(Label.GOOD), line(Label.DEFECTIVE, "ben")
    assert says(good, bad) == (None, True)
    assert says(good, line(Label.GOOD, "ben")) == (Label.GOOD, False)
    assert says(good, line(Label.UNSURE, "ben")) == (Label.GOOD, False)
    assert says(line(Label.UNSURE)) == (Label.UNSURE, False)
    assert says() == (None, False)


def test_a_torn_line_counts_for_nothing_and_tears_no_other(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    append_label(path, line(Label.GOOD, "anna"))
    path.write_bytes(path.read_bytes() + b'{"label":"defec')
    append_label(path, line(Label.GOOD, "ben"))
    book = read_labels(path)
    assert [each.who for each in book.about("f" * 64)] == ["anna", "ben"]
    assert book.torn_lines == 1


def test_another_file_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    path.write_text(json.dumps({"schema": 99}) + "\n")
    with pytest.raises(DatasetError, match=r"line 1: is no label of this version"):
        read_labels(path)


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "review.jsonl").mkdir()
    with pytest.raises(StorageError, match="the label cannot be written"):
        append_label(tmp_path / "review.jsonl", line(Label.GOOD))


def test_a_label_that_did_not_reach_the_disk_is_taken_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "review.jsonl"
    append_label(path, line(Label.GOOD))
    before = path.read_bytes()

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("ssn_edge.review.labels.os.fsync", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        append_label(path, line(Label.DEFECTIVE))
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "an\nna", "\u202eanna"])
def test_a_name_that_nobody_can_read_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="readable characters"):
        check_who(name)


def _append_many(path: Path, who: str) -> None:
    for index in range(60):
        append_label(path, line(Label.GOOD, who, f"{index:064d}"))


def test_several_people_write_one_file_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "review.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(path, who)) for who in ("anna", "ben")]
    for each in writers:
        each.start()
    for each in writers:
        each.join(120)
        assert each.exitcode == 0
    book = read_labels(path)
    assert (book.lines, book.torn_lines) == (120, 0)


def test_evidence_is_found_from_the_log_and_from_its_own_folder(log: Path) -> None:
    from_log, from_evidence = find_kept(log), find_kept(log / "evidence")
    assert from_log == from_evidence
    assert [each.why for each in from_log.pictures].count(Why.RANDOM) == 14
    for each in from_log.pictures:
        assert each.part is not None
        assert each.name.startswith(f"{each.part.sequence:09d}_{each.part.verdict}")
    assert from_log.logged.verdicts == {"pass": 14, "fail": 6, "unknown": 1}


def test_a_label_says_from_which_record_it_is(log: Path, session_of: Session) -> None:
    session = session_of(log)
    picture = find_kept(log).pictures[-2]
    assert picture.part is not None
    session.label(picture.key, Label.GOOD)
    (found,) = read_labels(log / "review.jsonl").about(picture.part.frame_sha256)
    assert (found.who, found.sequence, found.verdict) == ("anna", picture.part.sequence, "fail")
    assert (found.score, found.package_id) == (picture.part.score, picture.part.package_id)
    assert found.frame_sha256 == picture.part.frame_sha256


def test_a_hash_that_an_event_states_later_is_the_frames(log: Path, session_of: Session) -> None:
    """As a keeper in another process says it, after the verdict."""
    picture = log / "evidence" / "000000022_unknown.png"
    picture.write_bytes((log / "evidence" / "000000021_unknown.png").read_bytes())
    with Journal(log) as journal:
        journal.write(
            DecisionRecord(
                sequence=journal.next_sequence, source="camera", verdict=Verdict.UNKNOWN,
                decided_at=datetime.now(timezone.utc), reason=Reason.DEADLINE, timings_ms={},
                monotonic_ns=0,
            )
        )  # fmt: skip
        kept = {"sequence": 22, "frame_sha256": "0" * 64}
        journal.note(EventRecord.now(EventKind.KEPT, kept))
    part = find_kept(log).pictures[-1].part
    assert part is not None
    assert (part.sequence, part.frame_sha256) == (22, "0" * 64)
    session = session_of(log)
    with pytest.raises(DatasetError, match="is not the picture that the line judged"):
        session.label(find_kept(log).pictures[-1].key, Label.GOOD)


def test_undo_brings_back_what_was_said_before(log: Path, session_of: Session) -> None:
    session = session_of(log)
    key = find_kept(log).pictures[0].key
    session.label(key, Label.GOOD)
    session.label(key, Label.DEFECTIVE, ((1, 2, 30, 40),))
    assert session.label(key, Label.UNSURE)["regions"] == []
    back = session.undo()
    assert back is not None
    assert (back["label"], back["regions"]) == ("defective", [[1, 2, 30, 40]])
    session.undo()
    last = session.undo()
    assert last is not None
    assert last["label"] is None
    assert session.undo() is None
    other = session_of(log, "ben")
    assert other.undo() is None, "another person's labels are not ours to take back"


def test_the_most_useful_pictures_come_first(log: Path, session_of: Session) -> None:
    anna, ben = session_of(log), session_of(log, "ben")
    by_name = {each.name: each.key for each in find_kept(log).pictures}
    quarrel, missed = sorted(name for name in by_name if "random" in name)[3:5]
    anna.label(by_name[quarrel], Label.GOOD)
    ben.label(by_name[quarrel], Label.DEFECTIVE)
    anna.label(by_name[missed], Label.DEFECTIVE)
    shown = anna.listing()["pictures"]
    assert isinstance(shown, list)
    assert [each["name"] for each in shown[:2]] == [quarrel, missed]
    assert all(each["why"] == "pass_random" for each in shown[-12:])
    scores = [each["part"]["score"] for each in shown[2:-12] if each["part"]["score"] is not None]
    assert scores == sorted(scores, key=lambda score: abs(score - 0.5))
    timed = session_of(log, order=Order.TIME).listing()["pictures"]
    assert isinstance(timed, list)
    assert [each["part"]["sequence"] for each in timed] == list(range(1, 22))
