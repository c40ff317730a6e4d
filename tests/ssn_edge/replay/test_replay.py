from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest

from ssn_edge.logged_verdicts import MatchedBy, PictureKeys, match_log
from ssn_edge.replay import Replay, ReplayRequest, replay
from ssn_edge_runtime import read_picture
from ssn_edge_runtime.errors import ConfigError, DatasetError
from ssn_edge_runtime.record import frame_sha256
from tests.runtime import conftest as runtime


def verdicts(found: Replay) -> dict[str, str]:
    return {each.picture: each.now.verdict for each in found.pictures}


def changes(found: Replay) -> dict[str, tuple[str, str]]:
    return {
        each.picture: (each.before.verdict, each.now.verdict)
        for each in found.changed
        if each.before is not None
    }


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_alone_is_judged_as_the_line_would(strict: Path, parts: Path) -> None:
    found = replay(ReplayRequest(parts, strict))
    assert verdicts(found) == {
        "0.png": "pass", "1.png": "fail", "2.png": "pass", "3.png": "fail",
        "4.png": "unknown", "5.png": "unknown",
    }  # fmt: skip
    assert found.verdicts() == {"pass": 2, "fail": 2, "unknown": 2}
    assert found.reasons() == {"none": 2, "defect": 2, "bad_exposure": 1, "bad_frame": 1}
    assert (found.against, found.compared) == (None, ())


def test_the_package_of_the_log_changes_nothing_against_it(
    strict: Path, parts: Path, log: Path
) -> None:
    found = replay(ReplayRequest(parts, strict, log))
    assert len(found.compared) == 6
    assert found.changed == ()
    for each in found.compared:
        assert each.before == each.now
    assert [each.sequence for each in found.pictures] == [1, 2, 3, 4, 5, 6]


def test_another_package_shows_which_verdicts_change(lenient: Path, parts: Path, log: Path) -> None:
    before = contents(log)
    found = replay(ReplayRequest(parts, lenient, log))
    assert changes(found) == {"1.png": ("fail", "pass"), "3.png": ("fail", "pass")}
    assert found.transitions()["fail"] == {"pass": 2, "fail": 0, "unknown": 0}
    assert found.transitions()["unknown"] == {"pass": 0, "fail": 0, "unknown": 2}
    (first, _) = found.changed
    assert first.before is not None
    assert (first.before.threshold, first.now.threshold) == (2.0, 9.0)
    assert first.before.raw_score == first.now.raw_score
    assert found.against is not None
    assert found.against["matched_by"] == {"frame": 5, "part_id": 1}, "the torn one has no pixels"
    assert contents(log) == before, "a replay writes nothing into a log"


def test_two_packages_are_compared_without_a_log(strict: Path, lenient: Path, parts: Path) -> None:
    found = replay(ReplayRequest(parts, strict, lenient))
    assert changes(found) == {"1.png": ("pass", "fail"), "3.png": ("pass", "fail")}
    assert found.against is not None
    assert found.against["kind"] == "package"
    assert found.against["package_id"] != found.package["package_id"]


def test_pictures_are_found_by_their_pixels_under_any_name(
    lenient: Path, parts: Path, log: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    cv2.imwrite(str(tmp_path / "kept" / "renamed.bmp"), read_picture(parts / "3.png"))
    cv2.imwrite(str(tmp_path / "1.png"), runtime._part(99))
    found = replay(ReplayRequest(tmp_path, lenient, log))
    assert changes(found) == {"kept/renamed.bmp": ("fail", "pass")}
    other = found.pictures[0]
    assert other.picture == "1.png"
    assert other.before is None, "the same name with other pixels is another part"


def with_lines(folder: Path, name: str, *documents: dict[str, Any] | bytes) -> None:
    folder.mkdir(exist_ok=True)
    lines = [
        each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in documents
    ]
    (folder / name).write_bytes(b"".join(lines))


def record(sequence: int, verdict: str = "pass", **more: object) -> dict[str, Any]:
    return {"schema": 2, "kind": "verdict", "sequence": sequence, "verdict": verdict,
            "reason": "none", "raw_score": 1.5, "threshold": 2, **more}  # fmt: skip


def test_a_logs_own_evidence_is_replayed_and_found_by_number_where_no_hash_was_made(
    strict: Path, parts: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "decisions"
    good, bad = read_picture(parts / "0.png"), read_picture(parts / "1.png")
    with_lines(
        folder, "decisions.jsonl",
        record(1, frame_sha256=frame_sha256(good)), record(2, "fail"), record(3, "unknown"),
    )  # fmt: skip
    (folder / "evidence").mkdir()
    cv2.imwrite(str(folder / "evidence" / "000000001_pass_near.png"), good)
    cv2.imwrite(str(folder / "evidence" / "000000002_fail.png"), bad)
    cv2.imwrite(str(folder / "evidence" / "000000003_unknown.png"), good)
    found = replay(ReplayRequest(folder, strict))
    assert [(each.sequence, each.matched_by) for each in found.pictures] == [
        (1, "frame"), (2, "sequence"), (1, "frame"),
    ]  # fmt: skip
    assert found.against is not None
    assert found.against["path"] == str(folder)
    assert found.changed == ()


def test_a_log_over_several_segments_is_read_in_order_and_the_last_record_counts(
    tmp_path: Path,
) -> None:
    with_lines(tmp_path, "decisions-000000000001.jsonl", record(1, "pass", part_id="a"))
    with_lines(tmp_path, "decisions-000000000002.jsonl", record(2, "fail", part_id="a"))
    with_lines(tmp_path, "decisions.jsonl", record(3, "unknown", part_id="b"))
    keys = [PictureKeys(None, name, is_evidence=False) for name in ("a", "b", "c")]
    match = match_log(tmp_path, keys)
    assert [each and each.verdict for each in match.verdicts] == ["fail", "unknown", None]
    assert match.records == 3


def test_a_record_of_the_very_pixels_wins_over_one_of_the_same_name(tmp_path: Path) -> None:
    by_pixels = record(1, "fail", frame_sha256="ab" * 32, part_id="x")
    for order in ((by_pixels, record(2, "pass", part_id="a")),
                  (record(2, "pass", part_id="a"), by_pixels)):  # fmt: skip
        with_lines(tmp_path, "decisions.jsonl", *order)
        (found,) = match_log(tmp_path, [PictureKeys("ab" * 32, "a", is_evidence=False)]).verdicts
        assert found is not None
        assert (found.verdict, found.matched_by) == ("fail", MatchedBy.FRAME)


def test_a_frame_that_was_hashed_after_its_verdict_is_found_by_its_pixels(tmp_path: Path) -> None:
    """The guarded line's keeper hashes behind the record, and says so in an event."""
    kept = {"kind": "event", "event": "kept", "line": 3}
    with_lines(
        tmp_path, "decisions.jsonl",
        record(1, "fail", part_id="a", frame_sha256=None), record(2, "pass", part_id="b"),
        {**kept, "detail": {"sequence": 1, "frame_sha256": "cd" * 32, "file": "1_fail.png"}},
        {**kept, "detail": {"sequence": 2, "frame_sha256": 7}}, {**kept, "detail": "kept"},
    )  # fmt: skip
    renamed = PictureKeys("cd" * 32, "elsewhere/x", is_evidence=False)
    other_pixels = PictureKeys("ef" * 32, "a", is_evidence=False)
    by_name = PictureKeys("ef" * 32, "b", is_evidence=False)
    match = match_log(tmp_path, [renamed, other_pixels, by_name])
    assert [each and (each.sequence, each.matched_by) for each in match.verdicts] == [
        (1, MatchedBy.FRAME), None, (2, MatchedBy.PART_ID),
    ]  # fmt: skip
    assert (match.records, match.unreadable_lines) == (2, 0)


def test_lines_that_are_no_verdicts_are_passed_over_and_torn_ones_counted(tmp_path: Path) -> None:
    with_lines(
        tmp_path, "decisions.jsonl",
        {"schema": 2, "kind": "trigger", "sequence": 1, "line": 1},
        {"schema": 2, "kind": "event", "event": "start", "line": 2},
        record(1, part_id="a"), b"not json\n", b"[1]\n", b'{"sequence": "x", "verdict": 1}\n',
        b"[" * 100_000 + b"\n", record(2, frame_sha256=["x"], part_id={"y": 1}), b'{"sequence": 3',
    )  # fmt: skip
    match = match_log(tmp_path, [PictureKeys(None, "a", is_evidence=False)])
    assert (match.records, match.unreadable_lines) == (2, 5)
    assert match.verdicts[0] is not None


def test_a_video_is_judged_frame_by_frame(strict: Path, parts: Path, tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (128, 96))
    for name in ("0.png", "1.png"):
        writer.write(read_picture(parts / name))
    writer.release()
    assert verdicts(replay(ReplayRequest(path, strict))) == {"0": "pass", "1": "fail"}


@pytest.mark.parametrize(
    ("source", "against", "error", "says"),
    [
        ("nowhere", None, DatasetError, "there is nothing of that name"),
        ("/dev/null", None, ConfigError, "replay judges what was recorded"),
        ("empty", None, DatasetError, "holds no pictures"),
        ("text", None, DatasetError, "cannot be opened as a video"),
        ("log", None, DatasetError, "this log kept no pictures"),
        ("parts", "empty", DatasetError, "holds no decision log"),
        ("parts", "nowhere", DatasetError, "--against nowhere: there is nothing"),
        ("parts", "/dev/null", DatasetError, "--against /dev/null"),
        ("parts", "parts/0.png", ConfigError, "a log or a package"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_one_line(
    strict: Path, parts: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    source: str, against: str | None, error: type[Exception], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text").write_text("no picture")
    shutil.copytree(parts, "parts")
    shutil.copytree(log, "log")
    request = ReplayRequest(Path(source), strict, None if against is None else Path(against))
    with pytest.raises(error) as caught:
        replay(request)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
