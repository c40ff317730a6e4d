"""A finished run finds its pictures again, or says why it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ssn_edge.data.samples import make_samples
from ssn_edge.data.surfaces import Surface
from ssn_edge.trained import open_run
from ssn_edge_runtime.errors import DatasetError
from tests.end_to_end.chain import Project, shared_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return shared_project(tmp_path_factory)


@pytest.fixture
def moved(project: Project, tmp_path: Path) -> Path:
    return Path(shutil.copytree(project.data, tmp_path / "elsewhere"))


def test_data_that_moved_are_the_run_s_own(project: Project, moved: Path) -> None:
    here, there = open_run(project.checkpoint), open_run(project.checkpoint, moved)
    assert there.data_root == moved
    assert [item.image.relative_to(moved) for item in there.split.test] == [
        item.image.relative_to(project.data) for item in here.split.test
    ]


def change_a_pixel(folder: Path) -> None:
    path = sorted((folder / "test" / "good").iterdir())[0]
    path.write_bytes(sorted((folder / "test" / "good").iterdir())[1].read_bytes())


def remove_a_picture(folder: Path) -> None:
    sorted((folder / "train" / "good").iterdir())[0].unlink()


@pytest.mark.parametrize("spoil", [change_a_pixel, remove_a_picture])
def test_data_that_are_no_longer_what_was_trained_on_are_refused(
    project: Project, moved: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(moved)
    with pytest.raises(DatasetError, match=r"changed since training|is not there any more"):
        open_run(project.checkpoint, moved)


def test_another_data_set_is_judged_by_its_own_test_part(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_samples(
        other,
        surface=Surface.BRUSHED,
        normal_train=2,
        defective_train=0,
        normal_test=3,
        defective_test=2,
        size_hw=(96, 96),
        seed=9,
    )
    with pytest.raises(DatasetError):
        open_run(project.checkpoint, other)
    run = open_run(project.checkpoint, other, may_be_other=True)
    assert len(run.split.test) == 5
    assert all(item.image.is_relative_to(other) for item in run.split.test)
    assert all(item.image.is_relative_to(project.data) for item in run.split.calibration)


def test_pictures_that_training_saw_are_never_evaluated_as_another_data_set(
    project: Project, tmp_path: Path
) -> None:
    """The training pictures alone, without a test part, under their own names."""
    leaked = tmp_path / "leaked"
    shutil.copytree(project.data / "train" / "good", leaked / "train" / "good")
    (leaked / "list.csv").write_text(
        "image,label\n"
        + "".join(
            f"train/good/{path.name},0\n" for path in sorted((leaked / "train" / "good").iterdir())
        )
    )
    with pytest.raises(DatasetError):
        open_run(project.checkpoint, leaked / "list.csv", may_be_other=True)
