"""From labels to a training set: whole, without doubles, with its origin, and it trains."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssn_edge.data import read_dataset
from ssn_edge.model.backbone import Backbone
from ssn_edge.model.heads import HeadWidths
from ssn_edge.review.agreement import OnConflict
from ssn_edge.review.export import Export, export_labelled
from ssn_edge.review.kept_pictures import find_kept
from ssn_edge.review.labels import Label, read_labels
from ssn_edge.review.session import ReviewSession
from ssn_edge.training.request import RunRequest
from ssn_edge.training.run import train
from ssn_edge.training.settings import TrainingSettings
from ssn_edge_runtime.errors import DatasetError, StorageError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry
from ssn_edge_runtime.record import frame_sha256
from ssn_edge_runtime.sinks.audit import audit_log
from tests.end_to_end.chain import ssn_edge
from tests.ssn_edge.review.conftest import HOSTILE, Session

REGION = (32, 40, 56, 56)


def label_all(session: ReviewSession, *, names: Sequence[str] = ()) -> None:
    """As an expert would: passes are good, fails defective, with a mark on one."""
    for index, each in enumerate(session.kept.pictures):
        if names and each.name not in names:
            continue
        assert each.part is not None
        if each.part.verdict == "pass":
            session.label(each.key, Label.GOOD)
        elif each.part.verdict == "fail":
            session.label(each.key, Label.DEFECTIVE, (REGION,) if index == 15 else ())


def export(log: Path, folder: Path, on_conflict: OnConflict = OnConflict.REFUSE) -> Export:
    return export_labelled(
        find_kept(log), read_labels(log / "review.jsonl"), folder, on_conflict=on_conflict
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "provenance.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def labelled(log: Path, session_of: Session) -> Path:
    """The log, all but the black picture labelled by Anna."""
    label_all(session_of(log))
    return log


def test_each_row_says_where_its_picture_is_from(labelled: Path, tmp_path: Path) -> None:
    done = export(labelled, tmp_path / "next")
    assert (done.added, done.good, done.defective, done.with_mask) == (20, 14, 6, 1)
    assert done.left_out["unlabelled"] == 1
    head = audit_log(labelled).head
    assert audit_log(labelled, heads=[head]).is_whole
    parts = {each.part.frame_sha256: each for each in find_kept(labelled).pictures if each.part}
    for row in rows(tmp_path / "next"):
        picture = parts[row["frame_sha256"]]
        assert picture.part is not None
        assert row["sequence"] == str(picture.part.sequence)
        assert row["log_head"] == head
        assert (row["labelled_by"], row["verdict"]) == ("anna", picture.part.verdict)
        assert row["package_id"] == picture.part.package_id
        copied = read_picture(tmp_path / "next" / row["image"])
        assert frame_sha256(copied) == row["frame_sha256"]


def test_a_hostile_part_id_becomes_a_group_that_harms_nobody(
    labelled: Path, tmp_path: Path
) -> None:
    export(labelled, tmp_path / "next")
    groups = {row["group"] for row in rows(tmp_path / "next")}
    assert HOSTILE in groups, "a text that fits into a cell stays"
    from ssn_edge.review.listing import cell

    for text in ('=HYPERLINK("http://evil")', "a\nb", "a\u2028b", " a", "@x", "\udcff", "-1"):
        assert cell(text).startswith("text-")
        assert cell(text) == cell(text)


def test_a_mark_becomes_the_mask(labelled: Path, tmp_path: Path) -> None:
    export(labelled, tmp_path / "next")
    (row,) = [each for each in rows(tmp_path / "next") if each["mask"]]
    mask = read_picture(tmp_path / "next" / row["mask"])
    wanted = np.zeros((96, 128), np.uint8)
    wanted[40:56, 32:56] = 255
    assert np.array_equal(mask, wanted)


def test_a_second_export_adds_without_doubles(
    log: Path, tmp_path: Path, session_of: Session
) -> None:
    session = session_of(log)
    names = [each.name for each in session.kept.pictures]
    label_all(session, names=names[:8])
    first = export(log, tmp_path / "next")
    before = contents(tmp_path / "next")
    again = export(log, tmp_path / "next")
    assert (again.added, again.changed, again.kept) == (0, 0, 8)
    assert contents(tmp_path / "next") == before
    label_all(session)
    second = export(log, tmp_path / "next")
    assert (first.added, second.added, second.kept) == (8, 12, 8)
    frames = [row["frame_sha256"] for row in rows(tmp_path / "next")]
    assert len(frames) == len(set(frames)) == 20


def test_the_same_frame_is_kept_once_whatever_it_is_called(
    labelled: Path, tmp_path: Path, session_of: Session
) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(labelled / "evidence", copies)
    other = session_of(copies, "ben")
    for each in other.kept.pictures[1:4]:
        other.label(each.key, Label.GOOD)
    shutil.copy(copies / other.kept.pictures[1].name, copies / "twice.png")
    again = session_of(copies, "ben")
    again.label(again.kept.pictures[-1].key, Label.GOOD)
    export(labelled, tmp_path / "next")
    done = export(copies, tmp_path / "next")
    assert (done.added, done.kept, done.left_out["same_frame"]) == (0, 20, 1)
    assert {row["log"] for row in rows(tmp_path / "next")} == {str(labelled)}


def test_contradictions_are_refused_or_settled_as_asked(
    labelled: Path, tmp_path: Path, session_of: Session
) -> None:
    ben = session_of(labelled, "ben")
    picture = ben.kept.pictures[1]
    ben.label(picture.key, Label.DEFECTIVE)
    with pytest.raises(DatasetError, match=r"contradicting labels: 0.*anna: good, ben: defective"):
        export(labelled, tmp_path / "next")
    assert not (tmp_path / "next").exists()
    assert export(labelled, tmp_path / "without", OnConflict.LEAVE_OUT).good == 13
    latest = export(labelled, tmp_path / "latest", OnConflict.LATEST)
    assert (latest.good, latest.defective) == (13, 7)


def test_another_folder_that_contradicts_an_earlier_export_is_a_contradiction_too(
    labelled: Path, tmp_path: Path, session_of: Session
) -> None:
    export(labelled, tmp_path / "next")
    before = contents(tmp_path / "next")
    copies = Path(shutil.copytree(labelled / "evidence", tmp_path / "copies"))
    ben = session_of(copies, "ben")
    ben.label(ben.kept.pictures[1].key, Label.DEFECTIVE)
    with pytest.raises(DatasetError, match=r"ben: defective, anna: good, in the earlier export"):
        export(copies, tmp_path / "next")
    assert contents(tmp_path / "next") == before
    later = export(copies, tmp_path / "next", OnConflict.LATEST)
    assert (later.changed, later.good, later.defective) == (1, 13, 7)
    export(labelled, tmp_path / "other")
    without = export(copies, tmp_path / "other", OnConflict.LEAVE_OUT)
    assert (without.removed, without.good, without.defective) == (1, 13, 6)


def test_a_label_that_changed_changes_the_set_and_one_taken_back_leaves_it(
    labelled: Path, tmp_path: Path, session_of: Session
) -> None:
    export(labelled, tmp_path / "next")
    anna = session_of(labelled)
    first, second, third = anna.kept.pictures[1:4]
    anna.label(first.key, Label.DEFECTIVE)
    anna.label(second.key, Label.UNSURE)
    anna.label(third.key, Label.DEFECTIVE)
    third.path.unlink()  # evicted since
    done = export(labelled, tmp_path / "next")
    assert (done.changed, done.removed, done.kept, done.added) == (2, 1, 17, 0)
    assert (done.good, done.defective) == (11, 8)


@pytest.mark.parametrize("name", ["notes.txt", "images/cat.png", "train/good/000.png"])
def test_a_folder_with_something_else_is_left_alone(
    labelled: Path, tmp_path: Path, name: str
) -> None:
    other = tmp_path / "next" / name
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    with pytest.raises(DatasetError, match="which no export wrote"):
        export(labelled, tmp_path / "next")
    assert list(contents(tmp_path / "next")) == [name]


def test_a_list_that_is_not_ours_is_left_alone(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "provenance.csv").write_text("image,label\n")
    with pytest.raises(DatasetError, match="is not a list that ssn-edge review"):
        export(labelled, tmp_path / "next")
    assert list(contents(tmp_path / "next")) == ["provenance.csv"]


@pytest.mark.parametrize("is_second", [False, True])
def test_a_disk_that_fills_up_leaves_the_set_as_it_was(
    labelled: Path, tmp_path: Path, session_of: Session,
    monkeypatch: pytest.MonkeyPatch, is_second: bool,
) -> None:  # fmt: skip
    from ssn_edge.review import export as module

    black = find_kept(labelled).pictures[-1]
    if is_second:
        export(labelled, tmp_path / "next")
        session_of(labelled).label(black.key, Label.GOOD)
    before = contents(tmp_path / "next")
    whole, done = module.write_whole, [0]

    def full(path: Path, data: bytes, *, durable: bool = False) -> None:
        done[0] += 1
        if done[0] == (2 if is_second else 9):
            raise StorageError(f"{path} cannot be written: no space left")
        whole(path, data, durable=durable)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(StorageError):
        export(labelled, tmp_path / "next")
    assert contents(tmp_path / "next") == before
    assert (tmp_path / "next").exists() == is_second
    monkeypatch.undo()
    assert export(labelled, tmp_path / "next").added == (1 if is_second else 20)


def test_an_export_that_was_killed_is_taken_up_again(labelled: Path, tmp_path: Path) -> None:
    export(labelled, tmp_path / "whole")
    image = next((tmp_path / "whole" / "images").iterdir())
    (tmp_path / "next" / "images").mkdir(parents=True)
    shutil.copy(image, tmp_path / "next" / "images" / image.name)
    (tmp_path / "next" / "images" / f".{image.name}.x1y2").write_bytes(b"half")
    with pytest.raises(DatasetError):
        read_dataset(tmp_path / "next")  # without its list it is no data set
    assert export(labelled, tmp_path / "next").added == 20


def test_a_picture_that_changed_since_it_was_labelled_is_refused(
    tmp_path: Path, labelled: Path, session_of: Session
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(labelled / "evidence", plain)
    session = session_of(plain)
    first, second = session.kept.pictures[:2]
    session.label(first.key, Label.GOOD)
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(DatasetError, match="changed since anna labelled it"):
        export(plain, tmp_path / "next")
    assert not (tmp_path / "next").exists()


def test_without_a_label_there_is_nothing_to_export(log: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no picture here has a label yet"):
        export(log, tmp_path / "next")


def test_the_command_exports_a_set_that_is_checked_and_trains(
    labelled: Path, tmp_path: Path
) -> None:
    done = ssn_edge("review", labelled, "--export", "next", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json()["export"]["added"] == 20
    checked = ssn_edge("data", "check", "next", "--json", cwd=tmp_path)
    assert checked.code == 0, checked.out + checked.err
    dataset = read_dataset(tmp_path / "next")
    assert (len(dataset.normals), len(dataset.anomalous)) == (14, 6)
    assert {each.group for each in dataset.items} >= {HOSTILE, "serial-000.png"}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_file(Backbone("test_resnet").extractor.state_dict(), tmp_path / "tiny.safetensors")
    result = train(
        RunRequest(
            data=tmp_path / "next",
            backbone="test_resnet",
            backbone_weights=tmp_path / "tiny.safetensors",
            geometry=Geometry((64, 64)),
            widths=HeadWidths(8, 6),
            device="cpu",
            settings=TrainingSettings(epochs=1, batch_size=6, seed=0),
        ),
        tmp_path / "run",
    )
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    assert result is not None


def test_the_rate_of_escapes_is_exact_and_counts_what_is_open_both_ways(
    log: Path, session_of: Session, tmp_path: Path
) -> None:
    anna = session_of(log)
    drawn = [each for each in anna.kept.pictures if "random" in each.name]
    told = ssn_edge("review", log, "--summary", "--json", cwd=tmp_path).json()["escapes"]
    assert (told["pictures"], told["open"], told["low"], told["high"]) == (14, 14, 0.0, 1.0)
    for each in drawn:
        anna.label(each.key, Label.GOOD)
    told = ssn_edge("review", log, "--summary", "--json", cwd=tmp_path).json()["escapes"]
    assert told["low"] == 0.0
    assert told["high"] == pytest.approx(1 - 0.025 ** (1 / 14))
    anna.label(drawn[0].key, Label.DEFECTIVE)
    found = ssn_edge("review", log, "--summary", "--json", cwd=tmp_path).json()
    assert (found["missed"], found["escapes"]["defective"]) == (1, 1)
    assert found["escapes"]["low"] == pytest.approx(1 - 0.975 ** (1 / 14))
    text = ssn_edge("review", log, "--summary", cwd=tmp_path).out
    assert "1 of 14 drawn by lot" in text
    assert "what is wrong among them is no rate of the line" in text
    assert "fail: 6 of 6 in the log: 6 unlabelled" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 3, "there is no such folder"),
        (["empty"], 3, "holds no picture"),
        (["decisions", "--order", "luck"], 2, "one of useful, time is wanted"),
        (["decisions", "--export", "x", "--on-conflict", "dice"], 2, "refuse, leave-out, latest"),
        (["decisions", "--who", "\n"], 2, "readable characters"),
        (["decisions", "--page", "99999"], 5, "the port cannot be used"),
    ],
)
def test_wrong_calls_end_in_one_line(
    log: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    ended = ssn_edge("review", *arguments, cwd=tmp_path)
    assert ended.code == code
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1


def test_json_of_a_summary_is_one_document(log: Path, tmp_path: Path) -> None:
    out = ssn_edge("review", log, "--summary", "--json", cwd=tmp_path).out
    assert json.loads(out)["by_why"]["fail"]["unlabelled"] == 6
