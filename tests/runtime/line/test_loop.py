from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.errors import ConfigError, SourceError, StorageError
from ssn_edge_runtime.loop import Judge, ReopenBudget, run_line
from ssn_edge_runtime.record import DecisionRecord, TriggerRecord, frame_sha256
from ssn_edge_runtime.sinks import Follower, Journal, PictureNames, verify_chain
from ssn_edge_runtime.sources import FolderSource, Frame, open_source
from ssn_edge_runtime.sources.reader import Reader
from ssn_edge_runtime.summary import LineSummary

Surface = Callable[..., ByteImage]
Surfaces = Callable[[int], list[ByteImage]]
Records = Callable[[Path], list[dict[str, Any]]]

QUICK = ReopenBudget(attempts=3, pause_s=0.01)
END = SourceError("end of the script")
"""Ends the reader without a wait; a run that has its frames by then never looks at it."""


def run(source: Any, judge: Judge, output: Path, **options: Any) -> LineSummary:
    options.setdefault("reopen", QUICK)
    if source.is_live:
        options.setdefault("on_decision", lambda *_: source.decided.release())
    with source, Journal(output) as journal:
        return run_line(source, judge, journal, **options)


def reasons(records: list[dict[str, Any]]) -> list[str]:
    return [record["reason"] for record in records]


def test_each_frame_of_a_recording_gets_one_record_in_order(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, records: Records
) -> None:
    images = surfaces(20)
    summary = run(scripted(images, is_live=False), judge, output)
    found = records(output)
    assert [record["sequence"] for record in found] == list(range(1, 21))
    assert [record["frame_index"] for record in found] == list(range(20))
    assert [record["verdict"] for record in found] == [
        "fail" if seed % 3 == 0 else "pass" for seed in range(20)
    ]
    assert [record["frame_sha256"] for record in found] == [frame_sha256(i) for i in images]
    assert (summary.frames, summary.records, summary.dropped) == (20, 20, 0)
    assert summary.verdicts == {"pass": 13, "fail": 7, "unknown": 0}
    assert summary.reasons == {"none": 13, "defect": 7}
    assert verify_chain(output / "decisions.jsonl").is_whole


def test_a_record_says_what_decided_when_and_how_long_it_took(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    run(scripted([surface(1, defect=True)], is_live=False), judge, output)
    (record,) = records(output)
    assert record["package_id"] == judge.package_id
    assert record["precision"] == "fp32"
    assert record["engine"] == "brightness"
    assert record["engine_sha256"] == judge.engine_sha256
    assert record["raw_score"] >= record["threshold"]
    assert record["score"] > 0.5
    assert record["defect_count"] == len(record["defects"]) == 1
    assert record["captured_at"] < record["decided_at"]
    timings = record["timings_ms"]
    assert all(timings[stage] >= 0 for stage in ("capture", "deliver", "total"))


def test_a_second_run_into_the_same_folder_continues_the_chain(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any
) -> None:
    run(scripted(surfaces(3), is_live=False), judge, output)
    summary = run(scripted(surfaces(4), is_live=False), judge, output)
    assert (summary.first_sequence, summary.last_sequence) == (4, 7)
    assert verify_chain(output / "decisions.jsonl").records == 7


def test_a_folder_with_damaged_pictures_gives_an_unknown_for_each_and_goes_on(
    output: Path, tmp_path: Path, judge: Judge, surface: Surface, records: Records
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    whole = cv2.imencode(".jpg", surface(1))[1].tobytes()
    (folder / "1.jpg").write_bytes(whole)
    (folder / "2.jpg").write_bytes(whole[:-200])
    cv2.imwrite(str(folder / "3.png"), np.full((40, 60, 3), 3000, dtype=np.uint16))
    cv2.imwrite(str(folder / "4.png"), surface(1, defect=True))
    summary = run(FolderSource(folder), judge, output)
    found = records(output)
    assert [(record["part_id"], record["verdict"], record["reason"]) for record in found] == [
        ("1.jpg", "pass", "none"),
        ("2.jpg", "unknown", "bad_frame"),
        ("3.png", "unknown", "bad_frame"),
        ("4.png", "fail", "defect"),
    ]
    assert "2.jpg: is cut short" in found[1]["detail"]
    assert "16 bits" in found[2]["detail"]
    assert summary.frames == 4


def test_equal_pictures_of_a_recording_are_not_frozen(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    run(
        scripted([surface(1), surface(1), surface(1, size_hw=(50, 50))], is_live=False),
        judge,
        output,
    )
    assert reasons(records(output)) == ["none", "none", "none"]


def test_a_video_gives_a_record_for_each_frame(
    output: Path, tmp_path: Path, judge: Judge, surfaces: Surfaces, records: Records
) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (60, 40))
    for image in surfaces(12):
        writer.write(image)
    writer.release()
    summary = run(open_source(str(path)), judge, output)
    assert summary.records == 12
    assert summary.verdicts["fail"] == 4
    assert {record["source"] for record in records(output)} == {str(path)}


def test_a_camera_that_repeats_a_frame_is_unknown_at_the_first_repeat(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    still = surface(1)
    script: list[Any] = []
    for image in (surface(0), still, still.copy(), still.copy(), surface(2)):
        script += [image, None]
    run(scripted([*script, END], is_live=True), judge, output, max_frames=5)
    assert reasons(records(output)) == ["none", "none", "frozen_frame", "frozen_frame", "none"]


def test_a_frame_from_before_a_reopening_is_frozen_after_it(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    script = [surface(1), None, SourceError("lost"), None, surface(1), None, surface(2), END]
    run(scripted(script, is_live=True), judge, output, max_frames=3)
    assert reasons(records(output)) == ["none", "no_frame", "frozen_frame", "none"]


def test_a_camera_that_changes_its_size_is_unknown_until_it_changes_back(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    mono = np.ascontiguousarray(surface(2)[:, :, 0])
    tall = surface(1, size_hw=(80, 60))
    script = [surface(0), None, tall, None, mono, None, surface(3), END]
    run(scripted(script, is_live=True), judge, output, max_frames=4)
    found = records(output)
    assert reasons(found) == ["none", "frame_size", "frame_size", "none"]
    assert found[1]["detail"] == "the camera gives 80 x 60 x 3 now, it began with 40 x 60 x 3"


def test_a_camera_that_stalls_is_unknown_and_opened_again_until_the_budget_is_spent(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, records: Records
) -> None:
    script: list[Any] = []
    for image in surfaces(3):
        script += [image, None]
    source = scripted(script, is_live=True)
    summaries: list[LineSummary] = []
    with pytest.raises(SourceError, match="given up after 3 attempts") as caught:
        run(source, judge, output, frame_timeout_s=0.05, on_end=summaries.append)
    assert caught.value.exit_code == 5
    assert reasons(records(output)) == ["defect", "none", "none"] + ["no_frame"] * 4
    (summary,) = summaries
    assert (summary.frames, summary.records, summary.reopened) == (3, 7, 3)
    assert not source.is_open
    assert verify_chain(output / "decisions.jsonl").is_whole


def test_a_stall_is_seen_while_the_driver_still_holds_the_reader(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    script = [surface(0), None, 0.6, surface(1), surface(2), END]
    summary = run(scripted(script, is_live=True), judge, output, frame_timeout_s=0.3, max_frames=2)
    assert reasons(records(output)) == ["none", "no_frame", "none"]
    assert summary.reopened == 1


def test_a_reader_that_sits_in_the_driver_is_left_there_and_said_to_be_stuck(
    surface: Surface, scripted: Any
) -> None:
    with (
        Reader(
            scripted([0.4, surface(0)], is_live=True), timeout_s=0.05, stop_timeout_s=0.05
        ) as reader,
        pytest.raises(SourceError, match="stalled, no frame within"),
    ):
        reader.take(threading.Event())
    assert reader.is_stuck
    time.sleep(0.8)
    assert not reader.is_stuck


def test_a_camera_that_cannot_be_opened_again_is_given_up(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    source = scripted([surface(0), None, SourceError("cable out")], is_live=True, opens=1)
    with pytest.raises(SourceError, match=r"is gone \(given up after 3 attempts"):
        run(source, judge, output)
    assert reasons(records(output)) == ["none", "no_frame"]


def test_what_happens_besides_parts_is_in_the_journal(
    output: Path,
    judge: Judge,
    surface: Surface,
    scripted: Any,
    events: Callable[[Path], list[str]],
) -> None:
    script = [surface(1), None, SourceError("lost"), None, surface(2), END]
    run(scripted(script, is_live=True), judge, output, max_frames=2)
    assert events(output) == ["start", "source_lost", "source_back", "stop"]


def test_triggers_that_an_earlier_run_left_open_are_unknown(
    output: Path,
    judge: Judge,
    surface: Surface,
    scripted: Any,
    records: Records,
    make_trigger: Callable[..., TriggerRecord],
) -> None:
    with Journal(output) as journal:
        for trigger_id in (3, 4):
            journal.accept(make_trigger(journal, trigger_id))
    run(scripted([surface(1)], is_live=False), judge, output)
    found = records(output)
    assert [each["sequence"] for each in found] == [1, 2, 3]
    assert reasons(found) == ["restart", "restart", "none"]
    assert [each["trigger_id"] for each in found] == [3, 4, None]
    assert verify_chain(output / "decisions.jsonl").is_whole


def test_a_recording_that_fails_is_recorded_and_not_begun_again(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    source = scripted([surface(0), SourceError("disk gone"), surface(1)], is_live=False)
    with pytest.raises(SourceError, match="disk gone"):
        run(source, judge, output)
    assert reasons(records(output)) == ["none", "no_frame"]
    assert source.opened == 1


def test_a_reader_that_raises_anything_ends_the_line(
    output: Path, judge: Judge, surface: Surface, scripted: Any, records: Records
) -> None:
    source = scripted([surface(0), RuntimeError("driver bug")], is_live=False)
    with pytest.raises(SourceError, match="driver bug"):
        run(source, judge, output)
    assert reasons(records(output)) == ["none", "no_frame"]


class RaisingJudge:
    package_id = precision = engine_name = engine_sha256 = "x"

    def __init__(self, answers: list[object]) -> None:
        self.answers = answers

    def inspect(self, frame: ByteImage) -> Decision:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]


def test_a_judge_that_raises_is_unknown_and_the_line_goes_on(
    output: Path, surfaces: Surfaces, scripted: Any, records: Records
) -> None:
    passed = Decision(Verdict.PASS, Reason.NONE, score=0.1, raw_score=-1.0, threshold=0.0)
    judge = RaisingJudge([passed, RuntimeError("out of\nmemory"), MemoryError(), passed])
    summary = run(scripted(surfaces(4), is_live=False), judge, output)
    found = records(output)
    assert reasons(found) == ["none", "engine_error", "engine_error", "none"]
    assert "RuntimeError" in found[1]["detail"]
    assert summary.reasons["engine_error"] == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "pass",
        Decision(Verdict.PASS, Reason.NONE, score=float("nan")),
        Decision(Verdict.PASS, Reason.NONE, score=0.1, raw_score=float("-inf")),
        Decision(Verdict.PASS, Reason.NONE, raw_score=2.0, threshold=2.0),
        Decision(Verdict.PASS, Reason.DEFECT),
        Decision(Verdict.FAIL, Reason.NONE),
        Decision("pass", Reason.NONE),  # type: ignore[arg-type]
        Decision(Verdict.PASS, "none"),  # type: ignore[arg-type]
        Decision(Verdict.PASS, Reason.NONE, score="0.1"),  # type: ignore[arg-type]
        Decision(Verdict.PASS, Reason.NONE, score=np.float32(0.1)),  # type: ignore[arg-type]
        Decision(Verdict.PASS, Reason.NONE, defects=("dent",)),  # type: ignore[arg-type]
        Decision(Verdict.PASS, Reason.NONE, timings_ms={"infer": float("nan")}),
        Decision(Verdict.PASS, Reason.NONE, timings_ms=None),  # type: ignore[arg-type]
        Decision(Verdict.PASS, Reason.NONE, settings_id=b"ab"),  # type: ignore[arg-type]
        Decision(Verdict.PASS, Reason.NONE, recipe=7),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_no_sound_decision_never_passes(
    output: Path, surface: Surface, scripted: Any, records: Records, answer: object
) -> None:
    run(scripted([surface(1)], is_live=False), RaisingJudge([answer]), output)
    assert [(r["verdict"], r["reason"]) for r in records(output)] == [("unknown", "invalid_output")]


class FullJournal(Journal):
    """A disk that is full after three records."""

    def write(
        self, record: DecisionRecord, frame: Frame | None = None, decision: Decision | None = None
    ) -> None:
        if record.sequence > 3:
            raise StorageError("disk full")
        super().write(record, frame, decision)


@pytest.mark.parametrize("is_live", [False, True])
def test_nothing_is_told_that_was_not_journalled(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, is_live: bool
) -> None:
    script: list[Any] = []
    for image in surfaces(50):
        script += [image, 0.01]
    told: list[int] = []
    summaries: list[LineSummary] = []
    with (
        scripted(script, is_live=is_live) as source,
        FullJournal(output) as journal,
        pytest.raises(StorageError, match="disk full"),
    ):
        run_line(
            source,
            judge,
            journal,
            on_decision=lambda record, _: told.append(record.sequence),
            on_end=summaries.append,
        )
    assert told == [1, 2, 3]
    assert summaries[0].records == 3


class RecordingFollower(Follower):
    """Notes what it gets, and refuses a part if it is to."""

    shed = 0

    def __init__(self, journal: Path, *, refuses: Exception | None = None) -> None:
        self.journal = journal
        self.refuses = refuses
        self.seen: list[int] = []

    def open(self) -> None: ...

    def close(self) -> None: ...

    def plan(self, sequence: int, frame: Frame | None, decision: Decision) -> PictureNames:
        return PictureNames(mask=f"{sequence}.png")

    def write(self, record: DecisionRecord, frame: Frame | None, decision: Decision) -> None:
        if self.refuses is not None:
            raise self.refuses
        last = json.loads(self.journal.read_bytes().splitlines()[-1])
        assert last["sequence"] == record.sequence
        assert last["mask"] == f"{record.sequence}.png"
        self.seen.append(record.sequence)


def test_a_follower_gets_a_part_after_its_record_is_in_the_journal(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any
) -> None:
    follower = RecordingFollower(output / "decisions.jsonl")
    run(scripted(surfaces(5), is_live=False), judge, output, followers=[follower])
    assert follower.seen == [1, 2, 3, 4, 5]


def test_a_follower_whose_storage_fails_is_counted_and_the_line_goes_on(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    follower = RecordingFollower(output, refuses=StorageError("share is gone"))
    summary = run(scripted(surfaces(5), is_live=False), judge, output, followers=[follower])
    assert (summary.records, summary.followers_failed) == (5, 5)
    assert caplog.text.count("share is gone") == 1


@pytest.mark.parametrize("error", [OSError("share is gone"), KeyError("bug")])
def test_a_follower_that_cannot_plan_costs_a_part_its_pictures_but_not_its_record(
    output: Path,
    judge: Judge,
    surfaces: Surfaces,
    scripted: Any,
    records: Records,
    error: Exception,
) -> None:
    class PlanlessFollower(RecordingFollower):
        def plan(self, sequence: int, frame: Frame | None, decision: Decision) -> PictureNames:
            raise error

        def write(self, record: DecisionRecord, frame: Frame | None, decision: Decision) -> None:
            assert record.mask is None

    follower = PlanlessFollower(output)
    summary = run(scripted(surfaces(5), is_live=False), judge, output, followers=[follower])
    assert (summary.records, summary.followers_failed) == (5, 5)
    assert [record["mask"] for record in records(output)] == [None] * 5


def test_a_follower_with_a_bug_ends_the_line_with_its_record_written(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, records: Records
) -> None:
    follower = RecordingFollower(output, refuses=KeyError("bug"))
    with pytest.raises(KeyError):
        run(scripted(surfaces(50), is_live=False), judge, output, followers=[follower])
    assert len(records(output)) == 1


def test_a_camera_faster_than_the_judge_drops_the_oldest_and_counts_it(
    output: Path,
    judge: Judge,
    surfaces: Surfaces,
    scripted: Any,
    records: Records,
    events: Callable[[Path], list[str]],
) -> None:
    class SlowJudge(type(judge)):  # type: ignore[misc]
        def inspect(self, frame: ByteImage) -> Decision:
            time.sleep(0.05)
            return super().inspect(frame)

    script: list[Any] = []
    for image in surfaces(400):
        script += [image, 0.005]
    summary = run(scripted(script, is_live=True), SlowJudge(), output, max_frames=4)
    indices = [record["frame_index"] for record in records(output)]
    assert indices == sorted(set(indices))
    assert summary.dropped == indices[-1] - indices[0] + 1 - len(indices)
    assert events(output) == ["start", "drop_range", "stop"]
    assert summary.dropped > 0


def test_a_stopped_line_ends_after_the_part_in_hand(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any
) -> None:
    stop = threading.Event()

    def stop_at_three(record: DecisionRecord, decision: Decision) -> None:
        if record.sequence == 3:
            stop.set()

    source = scripted(surfaces(50), is_live=False)
    summary = run(source, judge, output, stop=stop, on_decision=stop_at_three)
    assert summary.records == 3


def test_a_line_that_waits_for_a_camera_can_be_stopped(
    output: Path, judge: Judge, surface: Surface, scripted: Any
) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    source = scripted([surface(0), None, SourceError("cable out")], is_live=True)
    started = time.monotonic()
    summary = run(source, judge, output, stop=stop, reopen=ReopenBudget(pause_s=30.0))
    timer.join()
    assert time.monotonic() - started < 5
    assert summary.reasons == {"none": 1, "no_frame": 1}


def test_a_run_ends_after_so_many_frames(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any
) -> None:
    summary = run(scripted(surfaces(9), is_live=False), judge, output, max_frames=4)
    assert summary.frames == 4


@pytest.mark.parametrize("options", [{"max_frames": 0}, {"frame_timeout_s": 0.0}])
def test_impossible_options_are_refused(
    output: Path, judge: Judge, scripted: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        run(scripted([], is_live=False), judge, output, **options)


def test_a_budget_without_a_pause_is_refused() -> None:
    with pytest.raises(ConfigError, match="no budget"):
        ReopenBudget(pause_s=0.0)


def test_the_summary_has_latencies_by_stage_and_is_json(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any
) -> None:
    summary = run(scripted(surfaces(10), is_live=False), judge, output)
    document = json.loads(json.dumps(summary.to_dict()))
    assert {"capture", "deliver", "write", "total"} <= set(document["latency_ms"])
    total = document["latency_ms"]["total"]
    assert total["count"] == 10
    assert 0 < total["p50"] <= total["p95"] <= total["p99"] <= total["p99_99"] <= total["max"]
    assert document["latency_histograms"]["total"]["count"] == 10
    assert document["throughput_fps"] == pytest.approx(10 / document["duration_s"])
