"""What goes to stdout, what to stderr, and what is written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssn_edge.project import CHECKPOINT_NAME, UNFINISHED_NAME
from ssn_edge.settings import Settings, read_settings
from ssn_edge.training.log import LOG_NAME
from tests.end_to_end.chain import TRAINING, Project, listing, ssn_edge


@pytest.mark.parametrize("verb", ["train", "evaluate", "export", "evaluate package"])
def test_json_alone_is_on_stdout(project: Project, verb: str) -> None:
    outcome = project.outcomes[verb]
    assert json.loads(outcome.out)
    assert outcome.out.startswith("{")
    assert outcome.err != ""


def test_a_run_and_a_look_into_a_package_print_json_alone_too(
    project: Project, tmp_path: Path
) -> None:
    run = ssn_edge("run", "--device", "line", "--output", tmp_path, "--json", cwd=project.root)
    assert run.json()["frames"] == len(project.verdicts)
    info = ssn_edge("info", "--json", cwd=project.root)
    assert info.json()["package_id"] == project.outcomes["export"].json()["package_id"]


def test_people_read_a_result_on_stdout_and_the_rest_on_stderr(
    project: Project, tmp_path: Path
) -> None:
    outcome = ssn_edge("run", "--device", "line", "--output", tmp_path, cwd=project.root)
    assert outcome.out.startswith("12 frames in ")
    assert "p99" in outcome.out
    assert "judging with part.ssn" in outcome.err
    assert f"decisions: {tmp_path}/decisions.jsonl" in outcome.err


def test_quiet_leaves_the_result_only(project: Project, tmp_path: Path) -> None:
    outcome = ssn_edge("-q", "run", "--device", "line", "--output", tmp_path, cwd=project.root)
    assert outcome.err == ""
    assert outcome.out != ""


def test_a_result_names_what_it_wrote(project: Project) -> None:
    train, evaluate, export = (
        project.outcomes[verb].json() for verb in ("train", "evaluate", "export")
    )
    assert project.root / train["checkpoint"] == project.checkpoint
    assert train["regime"] == "full"
    assert (project.root / evaluate["report"]).is_file()
    assert project.root / export["package"] == project.package
    columns = export["precisions"]["fp32"]["columns"]
    assert columns
    assert all(each["flips"] == [] for each in columns)


def test_the_report_says_how_to_repeat_it(project: Project) -> None:
    page = (project.checkpoint.parent / "report.html").read_text(encoding="utf-8")
    assert f"ssn-edge evaluate --checkpoint runs/tiles/{CHECKPOINT_NAME} --package part.ssn" in page


def test_init_writes_a_file_that_reads_back_to_the_defaults(tmp_path: Path) -> None:
    outcome = ssn_edge("init", cwd=tmp_path)
    assert outcome.code == 0
    assert "ssn-edge.toml" in outcome.err
    assert read_settings(tmp_path / "ssn-edge.toml") == Settings()


def test_init_notes_the_data_set(tmp_path: Path) -> None:
    ssn_edge("init", "data/tiles", cwd=tmp_path)
    assert read_settings(tmp_path / "ssn-edge.toml").data.path == "data/tiles"


def test_init_writes_over_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ssn-edge.toml"
    file.write_text("# mine\n")
    outcome = ssn_edge("init", cwd=tmp_path)
    assert outcome.code == 2
    assert "is there already" in outcome.err
    assert file.read_text() == "# mine\n"


def test_the_first_training_notes_its_options(project: Project) -> None:
    assert "noted these settings in ssn-edge.toml" in project.outcomes["train"].err
    settings = read_settings(project.root / "ssn-edge.toml")
    assert settings.data.path == "tiles"
    assert settings.train.input_size == [64, 64]
    assert settings.train.epochs == 8
    assert settings.train.device == "cpu"
    assert settings.export == Settings().export


def test_an_option_beats_the_file_and_the_file_the_default(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "ssn-edge.toml").write_text(
        f"""
[data]
path = {json.dumps(str(project.data))}
[train]
backbone = "tf_efficientnet_lite0"
device = "cpu"
input_size = [32, 32]
epochs = 2
batch_size = 1000
[run]
keep = "none"
"""
    )
    before = (tmp_path / "ssn-edge.toml").read_bytes()
    by_file, by_option = (
        ssn_edge("train", *options, "--max-normal", "4", "--max-anomalous", "0", "--json",
                 cwd=tmp_path)
        for options in ([], ["--epochs", "1"])
    )  # fmt: skip
    assert by_file.json()["steps"] == 2
    assert by_option.json()["steps"] == 1
    assert by_file.json()["checkpoint"] != by_option.json()["checkpoint"]
    assert "noted" not in by_file.err
    assert (tmp_path / "ssn-edge.toml").read_bytes() == before

    arguments = ["run", "--device", project.line, "--package", project.package]
    ssn_edge(*arguments, "--output", "a", cwd=tmp_path)
    ssn_edge(*arguments, "--output", "b", "--keep", "all", cwd=tmp_path)
    assert not (tmp_path / "a" / "pictures").exists()
    assert any((tmp_path / "b" / "pictures").iterdir())


def test_the_newest_run_is_meant_when_none_is_named(project: Project, tmp_path: Path) -> None:
    for name, age in (("old", 2), ("new", 1)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / CHECKPOINT_NAME).write_bytes(b"broken")
        at = project.checkpoint.stat().st_mtime - age
        os.utime(folder / CHECKPOINT_NAME, (at, at))
    assert f"runs/new/{CHECKPOINT_NAME}" in ssn_edge("export", cwd=tmp_path).err


def files(folder: Path) -> set[str]:
    return {Path(name).name for name, _ in listing(folder)}


def test_ctrl_c_saves_says_how_to_go_on_and_resume_finishes(
    project: Project, tmp_path: Path
) -> None:
    arguments = ["train", str(project.data), *TRAINING, "--epochs", "30", "--input-size", "32"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", *arguments, "--output", "runs/long"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("noted these settings"):  # the first step is done
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(said) + err
    assert out == ""
    assert "Traceback" not in err
    stopped = re.search(r"stopped after (\d+) of (\d+) steps and saved. Go on: (.+)", err)
    assert stopped is not None
    assert 1 <= int(stopped[1]) < int(stopped[2])
    assert stopped[3] == "ssn-edge train --resume runs/long"
    assert files(tmp_path / "runs" / "long") == {UNFINISHED_NAME, LOG_NAME}

    outcome = ssn_edge("train", "--resume", "runs/long", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert outcome.json()["steps"] == int(stopped[2])
    assert files(tmp_path / "runs" / "long") == {CHECKPOINT_NAME, LOG_NAME}
    rows = (tmp_path / "runs" / "long" / LOG_NAME).read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, int(stopped[2]) + 1))
