"""Train, evaluate, export, run: one decision on one picture, whoever is asked."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge_runtime import Package, ScoringRule, read_picture
from ssn_edge_runtime.sinks import verify_chain
from tests.end_to_end.chain import FRAME_HW, Project, judged, records, ssn_edge


@pytest.fixture(scope="module")
def decisions(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package over the test pictures, all pictures kept."""
    folder = tmp_path_factory.mktemp("line") / "decisions"
    outcome = ssn_edge(
        "run", "--device", "line", "--output", folder, "--keep", "all", cwd=project.root
    )
    assert outcome.code == 0, outcome.err
    return folder


def test_the_line_decides_as_evaluate_did(project: Project, decisions: Path) -> None:
    assert judged(decisions) == project.verdicts


def test_the_small_project_is_worth_its_name(project: Project) -> None:
    """Both verdicts occur, or the comparisons here would compare little."""
    assert {each["verdict"] for each in project.verdicts.values()} == {"pass", "fail"}


def test_checkpoint_and_package_score_the_pictures_alike(project: Project) -> None:
    of_net, of_package = (
        {
            each["image"]: each["raw_score"]
            for each in project.outcomes[name].json()["verdicts_by_picture"]
        }
        for name in ("evaluate", "evaluate package")
    )
    assert of_net.keys() == of_package.keys()
    for image, score in of_net.items():
        assert of_package[image] == pytest.approx(score, abs=1e-3)


def test_checkpoint_and_package_have_the_same_metrics(project: Project) -> None:
    of_net, of_package = (
        project.outcomes[name].json()["metrics"] for name in ("evaluate", "evaluate package")
    )
    for head in ("classification", "map_max", "pixel"):
        assert of_package[head] == pytest.approx(of_net[head], abs=1e-3)


def test_the_journal_is_one_whole_chain(project: Project, decisions: Path) -> None:
    report = verify_chain(decisions / "decisions.jsonl")
    assert report.is_whole
    assert report.records == len(project.verdicts)


def test_the_records_name_the_package_that_decided(project: Project, decisions: Path) -> None:
    package_id = project.outcomes["export"].json()["package_id"]
    assert {each["package_id"] for each in records(decisions)} == {package_id}


def test_masks_and_overlays_are_where_the_records_say(decisions: Path) -> None:
    named = set()
    for each in records(decisions):
        mask = cv2.imread(str(decisions / each["mask"]), cv2.IMREAD_UNCHANGED)
        overlay = cv2.imread(str(decisions / each["overlay"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == FRAME_HW
        assert set(np.unique(mask)) <= {0, 255}
        assert bool(mask.any()) == bool(each["defects"])
        assert overlay.shape == (*FRAME_HW, 3)
        named |= {each["mask"], each["overlay"]}
    written = {path.relative_to(decisions).as_posix() for path in decisions.glob("pictures/*")}
    assert written == named


def test_the_default_keeps_pictures_of_rejects_only(project: Project, tmp_path: Path) -> None:
    ssn_edge("run", "--device", "line", "--output", tmp_path, cwd=project.root)
    for each in records(tmp_path):
        assert (each["mask"] is None) == (each["verdict"] == "pass")


def test_a_video_of_the_pictures_gets_the_same_verdicts(project: Project, tmp_path: Path) -> None:
    pictures = sorted(project.line.iterdir())
    lossless = _write_video(tmp_path / "line.avi", pictures)
    outcome = ssn_edge(
        "run", "--device", tmp_path / "line.avi", "--output", tmp_path / "out", "--json",
        cwd=project.root,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = records(tmp_path / "out")
    assert [each["frame_index"] for each in found] == list(range(len(pictures)))
    if lossless:
        for each, picture in zip(found, pictures, strict=True):
            assert {key: each[key] for key in project.verdicts[picture.name]} == (
                project.verdicts[picture.name]
            )


def test_one_damaged_picture_gives_one_unknown_and_the_line_goes_on(
    project: Project, tmp_path: Path
) -> None:
    line = tmp_path / "line"
    shutil.copytree(project.line, line)
    damaged = sorted(line.iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    outcome = ssn_edge(
        "run", "--device", line, "--output", tmp_path / "out", "--json", cwd=project.root
    )
    assert outcome.code == 0
    found = judged(tmp_path / "out")
    assert found.pop(damaged.name) == {
        "verdict": "unknown",
        "reason": "bad_frame",
        "raw_score": None,
    }
    assert found == {name: each for name, each in project.verdicts.items() if name != damaged.name}
    counts = Counter(each["verdict"] for each in found.values())
    assert outcome.json()["verdicts"] == {**counts, "unknown": 1}


def test_grey_colour_and_other_sizes_in_one_folder_each_get_a_verdict(
    project: Project, tmp_path: Path
) -> None:
    name = next(name for name, each in project.verdicts.items() if each["verdict"] == "fail")
    grey = read_picture(project.line / name)
    assert grey.ndim == 2
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    opaque = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA)
    twice = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    deep = grey.astype(np.uint16) * 257
    folder = tmp_path / "mixed"
    folder.mkdir()
    for title, picture in {
        "grey": grey, "colour": colour, "opaque": opaque, "twice": twice, "deep": deep,
    }.items():  # fmt: skip
        assert cv2.imwrite(str(folder / f"{title}.png"), picture)
    outcome = ssn_edge("run", "--device", folder, "--output", tmp_path / "out", cwd=project.root)
    assert outcome.code == 0
    found = judged(tmp_path / "out")
    for same in ("grey.png", "colour.png", "opaque.png"):
        assert found[same] == project.verdicts[name]
    # Training saw frames of one size: another one comes from another camera, or another setting.
    assert found["twice.png"] == {
        "verdict": "unknown",
        "reason": "frame_size",
        "raw_score": None,
    }
    assert found["deep.png"]["reason"] == "bad_frame"


def test_the_run_ends_after_so_many_frames_and_the_next_one_goes_on_in_the_journal(
    project: Project, tmp_path: Path
) -> None:
    for _ in range(2):
        outcome = ssn_edge(
            "run", "--device", "line", "--output", tmp_path, "--max-frames", "2", "--json",
            cwd=project.root,
        )  # fmt: skip
        assert outcome.json()["frames"] == 2
    assert [each["sequence"] for each in records(tmp_path)] == [1, 2, 3, 4]
    assert verify_chain(tmp_path / "decisions.jsonl").is_whole


def test_a_run_leaves_a_signed_log_a_database_a_table_and_evidence_and_the_audit_passes(
    project: Project, tmp_path: Path
) -> None:
    outcome = ssn_edge(
        "run", "--device", "line", "--output", tmp_path / "log", "--json", "--evidence", "0.1",
        "--key", tmp_path / "device.key", "--sqlite", tmp_path / "line.sqlite",
        "--csv", tmp_path / "line.csv", cwd=project.root,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = records(tmp_path / "log")
    rejects = {each["sequence"] for each in found if each["verdict"] != "pass"}
    names = [path.name for path in (tmp_path / "log" / "evidence").iterdir()]
    assert rejects <= {int(name[:9]) for name in names}
    database = sqlite3.connect(tmp_path / "line.sqlite")
    rows = database.execute("SELECT sequence, part_id, verdict FROM verdicts").fetchall()
    database.close()
    assert rows == [(each["sequence"], each["part_id"], each["verdict"]) for each in found]
    assert len((tmp_path / "line.csv").read_text().splitlines()) == len(found) + 1
    audit = ssn_edge(
        "audit", tmp_path / "log", "--head", tmp_path / "log" / "decisions.head.json",
        "--key", tmp_path / "device.key.pub", "--json", cwd=project.root,
    )  # fmt: skip
    assert audit.code == 0, audit.err
    assert audit.json()["unproven"] == []


def test_without_defects_in_training_the_map_decides(unsupervised: Path) -> None:
    with Package.open(unsupervised / "part.ssn") as package:
        assert package.manifest.scoring_rule is ScoringRule.MAP_MAX
        assert package.manifest.regime == "unsupervised"


def test_with_drawn_defects_the_classification_head_decides(project: Project) -> None:
    with Package.open(project.package) as package:
        assert package.manifest.scoring_rule is ScoringRule.CLASSIFICATION
        assert package.manifest.regime == "full"


def test_export_and_evaluate_take_another_score_than_the_runs(
    project: Project, tmp_path: Path
) -> None:
    exported = ssn_edge(
        "export", "--checkpoint", project.checkpoint, "--scoring", "combined",
        "--output", tmp_path / "both.ssn", "--json", cwd=project.root,
    )  # fmt: skip
    assert exported.code == 0, exported.err
    with Package.open(tmp_path / "both.ssn") as package:
        assert package.manifest.scoring_rule.value == "combined"
    told = ssn_edge(
        "evaluate", "--checkpoint", project.checkpoint, "--scoring", "combined",
        "--report", tmp_path / "both.html", "--json", cwd=project.root,
    )  # fmt: skip
    assert told.json()["scoring_rule"] == "combined"
    wrong = ssn_edge("export", "--scoring", "mean", cwd=project.root)
    assert wrong.code == 2
    assert "classification or map_max or combined is wanted" in wrong.err


def test_a_region_of_interest_decides_as_pictures_cropped_before(
    project: Project, unsupervised: Path, tmp_path: Path
) -> None:
    """The same training, export and run, once with --roi and once on the cropped pictures."""
    framed, cropped = unsupervised, tmp_path / "cropped"
    for picture in project.data.rglob("*.png"):
        _write_cropped(picture, cropped / "tiles" / picture.relative_to(project.data))
    for picture in project.line.glob("*.png"):
        _write_cropped(picture, cropped / "line" / picture.name)
    _train_and_export(cropped)
    for folder, line in ((framed, project.line), (cropped, cropped / "line")):
        assert ssn_edge("run", "--device", line, "--keep", "all", cwd=folder).code == 0
    assert judged(framed / "decisions") == judged(cropped / "decisions")
    assert len({each["raw_score"] for each in records(framed / "decisions")}) > 1

    mask = read_picture(framed / "decisions" / records(framed / "decisions")[0]["mask"])
    assert mask.shape == FRAME_HW


ROI_XYWH = (20, 8, 64, 72)


@pytest.fixture(scope="module")
def unsupervised(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose package has a region of interest and saw no defect."""
    root = tmp_path_factory.mktemp("region")
    (root / "tiles").symlink_to(project.data)
    _train_and_export(root, "--roi", ",".join(map(str, ROI_XYWH)))
    return root


def _train_and_export(root: Path, *options: str) -> None:
    for arguments in (
        ["train", "tiles", "--max-anomalous", "0", "--input-size", "32", "--epochs", "2",
         "--backbone", "tf_efficientnet_lite0", "--device", "cpu", *options],
        ["export"],
    ):  # fmt: skip
        outcome = ssn_edge(*arguments, cwd=root)
        assert outcome.code == 0, outcome.err


def _write_cropped(source: Path, target: Path) -> None:
    x, y, width, height = ROI_XYWH
    target.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(target), read_picture(source)[y : y + height, x : x + width])


def _write_video(path: Path, pictures: list[Path]) -> bool:
    """Write pictures as a video; whether it gives back their very pixels."""
    height, width = FRAME_HW
    frames = [cv2.cvtColor(read_picture(each), cv2.COLOR_GRAY2BGR) for each in pictures]
    for codec in ("FFV1", "MJPG"):
        writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10.0, (width, height)
        )
        if not writer.isOpened():
            continue
        for frame in frames:
            writer.write(frame)
        writer.release()
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        back = [capture.read()[1] for _ in frames]
        capture.release()
        return all(map(np.array_equal, frames, back))
    pytest.skip("this OpenCV writes neither FFV1 nor MJPG")
