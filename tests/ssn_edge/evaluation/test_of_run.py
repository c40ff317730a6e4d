"""Evaluating a finished run: its checkpoint, or a package as the line would run it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.evaluation.judges import CheckpointJudge, rule_from_normals
from ssn_edge.evaluation.of_run import evaluate_checkpoint, evaluate_package
from ssn_edge.evaluation.report_numbers import report_numbers
from ssn_edge.evaluation.report_page import render_report
from ssn_edge.trained import ExportOptions, TrainedRun, export_run, open_run
from ssn_edge.training.checkpoint import load_tensors, save_tensors
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Reason, ScoringMethod, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.errors import (
    CalibrationError,
    CheckpointError,
    DatasetError,
    PackageError,
    PictureError,
)
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.preprocess import Geometry
from tests.end_to_end.chain import Project, one_thread, ssn_edge


@pytest.fixture(scope="module")
def run(project: Project) -> TrainedRun:
    return open_run(project.checkpoint)


def test_a_package_of_other_data_is_refused(project: Project, run: TrainedRun) -> None:
    other = dataclasses.replace(run, training_data="0" * 64)
    with pytest.raises(PackageError, match=r"part\.ssn was trained on other data") as refused:
        evaluate_package(other, project.package)
    assert "--checkpoint" in str(refused.value)


def test_the_facts_of_a_package_are_its_own(project: Project, run: TrainedRun) -> None:
    """Another run on the same data has the same fingerprint, and another net."""
    other = dataclasses.replace(run, geometry=Geometry((128, 96)), regime="weak")
    with one_thread():
        facts = evaluate_package(other, project.package).report.facts
    assert facts["network input"] == "64 x 64 pixels"
    assert facts["regime"] == "full"
    with Inspector.open(project.package, self_test=False) as inspector:
        assert facts["package id"] == inspector.package_id[:16]


def test_the_notes_say_that_few_pictures_carry_no_promise(run: TrainedRun) -> None:
    with one_thread():
        few = evaluate_checkpoint(run, max_false_reject=0.001)
    assert any("more than so few pictures can promise" in note for note in few.report.notes)
    assert few.report.risk is not None
    assert not few.report.risk.supported


def test_verdicts_are_named_by_the_data_set_s_own_paths(project: Project, run: TrainedRun) -> None:
    with one_thread():
        found = evaluate_package(run, project.package).verdicts(run.data_root)
    assert {str(each["image"]) for each in found} == {
        path.relative_to(project.data).as_posix() for path in project.data.glob("test/*/*.png")
    }


def test_a_list_of_pictures_that_lie_elsewhere_is_judged_by_their_names(
    project: Project, tmp_path: Path
) -> None:
    pictures = sorted(project.data.glob("test/*/*.png"))
    rows = [f"{path},{int(path.parent.name != 'good')}" for path in pictures]
    (tmp_path / "day").mkdir()
    trained = sorted(project.data.glob("train/good/*.png"))
    (tmp_path / "day" / "trained.csv").write_text(f"image,label\n{trained[0]},0\n")
    done = ssn_edge(
        *("evaluate", "--checkpoint", project.checkpoint, "--data", "trained.csv"),
        cwd=tmp_path / "day",
    )
    assert done.code == 3
    assert "names pictures that training or calibration saw" in done.err
    copies = tmp_path / "day" / "copies"
    shutil.copytree(project.data / "test", copies)
    text = "\n".join(["image,label", *rows]).replace(str(project.data / "test"), str(copies))
    (tmp_path / "day" / "lists").mkdir()
    (tmp_path / "day" / "lists" / "fresh.csv").write_text(text)
    done = ssn_edge(
        *("evaluate", "--checkpoint", project.checkpoint, "--data", "lists/fresh.csv", "--json"),
        *("--report", "page.html"),
        cwd=tmp_path / "day",
    )
    assert done.code == 0, done.err
    assert done.json()["title"] == "Evaluation: lists"
    assert {each["image"] for each in done.json()["verdicts_by_picture"]} == {
        f"../copies/{path.parent.name}/{path.name}" for path in pictures
    }


def test_a_checkpoint_without_calibration_normals_cannot_be_judged(run: TrainedRun) -> None:
    bare = dataclasses.replace(run, split=dataclasses.replace(run.split, calibration=()))
    with pytest.raises(CalibrationError, match="no normal picture"):
        evaluate_checkpoint(bare, max_false_reject=0.1)


def test_a_calibration_picture_smaller_than_the_region_is_named(run: TrainedRun) -> None:
    too_large = dataclasses.replace(run, geometry=Geometry((64, 64), roi_xywh=(0, 0, 97, 10)))
    with pytest.raises(PictureError, match=r"good/\d+\.png: the region of interest 0,0,97,10"):
        evaluate_checkpoint(too_large, max_false_reject=0.1)


def test_a_checkpoint_and_its_package_answer_bad_frames_alike(
    project: Project, run: TrainedRun
) -> None:
    geometry = Geometry((64, 64), roi_xywh=(0, 0, 80, 80))
    judge = CheckpointJudge(run.net, geometry, ScoringRule.MAP_MAX, Thresholds(0.0, 0.0))
    small = judge.inspect(np.zeros((40, 40), np.uint8))
    assert (small.verdict, small.reason) == (Verdict.UNKNOWN, Reason.FRAME_SIZE)
    odd = judge.inspect(np.zeros((96, 96, 2), np.uint8))
    assert (odd.verdict, odd.reason) == (Verdict.UNKNOWN, Reason.BAD_FRAME)
    with Inspector.open(project.package, self_test=False) as inspector:
        assert inspector.inspect(np.zeros((96, 96, 2), np.uint8)).reason is odd.reason


def test_thresholds_lie_above_the_normals_they_were_fitted_to(run: TrainedRun) -> None:
    normals = [item.image for item in run.split.calibration if not item.is_anomalous]
    with one_thread():
        rule, thresholds, risk = rule_from_normals(run.net, run.geometry, run.scoring, normals, 0.1)
        judge = CheckpointJudge(run.net, run.geometry, rule, thresholds)
        verdicts = [judge.inspect(cv2.imread(str(path), -1)).verdict for path in normals]
    assert set(verdicts) == {Verdict.PASS}
    assert risk.normals == len(normals)


def test_a_data_set_that_moved_is_found_where_it_is_said_to_be(
    project: Project, run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").symlink_to(project.data)
    (tmp_path / "gone").mkdir()
    moved = open_run(project.checkpoint, tmp_path / "elsewhere")
    assert moved.data_root == tmp_path / "elsewhere"
    assert [item.label for item in moved.split.test] == [item.label for item in run.split.test]
    with pytest.raises(DatasetError, match="if the data moved, say where: --data FOLDER"):
        open_run(project.checkpoint, tmp_path / "gone")


def test_a_checkpoint_without_what_a_run_needs_is_refused(project: Project, tmp_path: Path) -> None:
    tensors, header = load_tensors(project.checkpoint)
    less = {key: header[key] for key in header.keys() - {"scoring_rule", "schema", "sha256"}}
    save_tensors(tmp_path / "c.safetensors", tensors, less)
    with pytest.raises(CheckpointError, match="lacks or misstates 'scoring_rule'"):
        open_run(tmp_path / "c.safetensors")


def test_the_combined_score_is_fitted_shown_and_exported_alike(
    run: TrainedRun, tmp_path: Path
) -> None:
    combined = dataclasses.replace(run, scoring=ScoringMethod.COMBINED)
    with one_thread():
        found = evaluate_checkpoint(combined, max_false_reject=0.1)
        result = export_run(combined, tmp_path / "part.ssn", ExportOptions(max_false_reject=0.1))
        line = evaluate_package(combined, result.package_path)
    page = render_report(found.report)
    assert "threshold on the combined score" in page
    assert "score minus threshold, in deviations" in page
    assert found.scoring_rule.method is ScoringMethod.COMBINED
    for each in found.evaluation.judged:
        decision = each.decision
        assert decision.classification_logit is not None
        assert decision.map_max_logit is not None
        assert decision.raw_score == found.scoring_rule.score(
            decision.classification_logit, decision.map_max_logit
        )
    assert [each["verdict"] for each in found.verdicts(run.data_root)] == [
        each["verdict"] for each in line.verdicts(run.data_root)
    ]
    for mine, packaged in (
        (found.scoring_rule.classification, line.scoring_rule.classification),
        (found.scoring_rule.map_max, line.scoring_rule.map_max),
        (found.scoring_rule.offset, line.scoring_rule.offset),
    ):
        assert mine == pytest.approx(packaged, rel=1e-3)


def test_the_report_names_its_data_and_shows_the_certificate_of_the_model_that_judged(
    project: Project, run: TrainedRun
) -> None:
    with one_thread():
        of_package = evaluate_package(run, project.package).report
        of_checkpoint = evaluate_checkpoint(run, max_false_reject=0.1).report
    assert of_package.data == of_checkpoint.data
    assert of_package.data is not None
    assert of_package.data.training == run.training_data
    test = of_package.data.parts[-1]
    assert (test.name, test.normal, test.anomalous, test.groups) == ("test", 6, 6, None)
    with Package.open(project.package) as package:
        entry = package.manifest.precisions["fp32"]
        document = json.loads(package.read(entry.certificate))
        model = hashlib.sha256(package.read(entry.model)).hexdigest()
    assert of_package.certificate is not None
    assert of_package.certificate.model_sha256 == model
    assert [each.pictures for each in of_package.certificate.engines] == [
        each["pictures"] for each in document["columns"]
    ]
    numbers = json.loads(json.dumps(report_numbers(of_package), allow_nan=False))
    assert numbers["certificate"] == document
    assert numbers["data"]["judged"] == of_package.data.judged != run.training_data
    page = render_report(of_package)
    for digest in (model, run.training_data, of_package.data.judged):
        assert digest in page
    assert of_checkpoint.certificate is None
    assert "a checkpoint judged" in render_report(of_checkpoint)


def test_the_fingerprint_of_what_was_judged_changes_with_a_picture(run: TrainedRun) -> None:
    fewer = dataclasses.replace(run, split=dataclasses.replace(run.split, test=run.split.test[1:]))
    with one_thread():
        both = [evaluate_checkpoint(each, max_false_reject=0.1).report for each in (run, fewer)]
    assert both[0].data is not None
    assert both[1].data is not None
    assert both[0].data.judged != both[1].data.judged
