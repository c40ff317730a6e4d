"""Which run and which package is meant when none is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ssn_edge import project
from ssn_edge.project import find_checkpoint, find_package, new_run_folder
from ssn_edge.training import checkpoint
from ssn_edge_runtime.errors import CheckpointError, PackageError


def _run(runs: Path, name: str, file: str = project.CHECKPOINT_NAME, *, at: int = 1000) -> Path:
    path = runs / name / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    os.utime(path, (at, at))
    return path


def test_the_names_of_a_runs_files_are_those_that_training_writes() -> None:
    assert project.CHECKPOINT_NAME == checkpoint.CHECKPOINT_NAME
    assert project.UNFINISHED_NAME == checkpoint.STATE_NAME


def test_the_newest_finished_run_is_meant(tmp_path: Path) -> None:
    newest = _run(tmp_path, "a", at=3000)
    _run(tmp_path, "b", at=2000)
    _run(tmp_path, "c", project.UNFINISHED_NAME, at=4000)
    assert find_checkpoint(None, runs=tmp_path) == newest


def test_a_run_is_named_by_its_folder_or_by_its_file(tmp_path: Path) -> None:
    path = _run(tmp_path, "a")
    assert find_checkpoint(path.parent) == path
    assert find_checkpoint(path) == path


def test_an_interrupted_run_alone_is_told_with_how_to_go_on(tmp_path: Path) -> None:
    folder = _run(tmp_path, "a", project.UNFINISHED_NAME).parent
    for named in (None, folder):
        with pytest.raises(CheckpointError, match=f"ssn-edge train --resume {folder}"):
            find_checkpoint(named, runs=tmp_path)


def test_without_any_run_training_is_proposed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train first: ssn-edge train DATA"):
        find_checkpoint(None, runs=tmp_path / "runs")


def test_the_only_package_is_meant(tmp_path: Path) -> None:
    (tmp_path / "a.ssn").write_bytes(b"x")
    (tmp_path / "._a.ssn").write_bytes(b"a file manager's")
    (tmp_path / "folder.ssn").mkdir()
    assert find_package(None, folder=tmp_path) == tmp_path / "a.ssn"


def test_of_two_packages_none_is_guessed(tmp_path: Path) -> None:
    for name in ("b.ssn", "a.ssn"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PackageError, match=r"\(a\.ssn, b\.ssn\); name one: --package FILE"):
        find_package(None, folder=tmp_path)


def test_no_package_and_a_wrong_name_both_point_to_export(tmp_path: Path) -> None:
    for named in (None, tmp_path / "lost.ssn", tmp_path):
        with pytest.raises(PackageError, match="make one: ssn-edge export"):
            find_package(named, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "end"), [("tiles", "-tiles"), ("lot 7/\u00e4", "-lot-7"), ("..", "-run")]
)
def test_a_new_run_is_named_by_time_and_data(name: str, end: str, tmp_path: Path) -> None:
    folder = new_run_folder(name, runs=tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.endswith(end)
    assert not folder.exists()


def test_a_second_run_in_the_same_second_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = set()
    for _ in range(3):
        folder = new_run_folder("tiles", runs=tmp_path)
        folder.mkdir(parents=True)
        folders.add(folder)
    assert len(folders) == 3
