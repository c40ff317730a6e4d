"""Which pictures may set a threshold: those that training did not see, as far as anybody knows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssn_edge.data.layouts import read_dataset
from ssn_edge.data.split import Split, fingerprint, split_dataset
from ssn_edge.training.checkpoint import save_tensors
from ssn_edge.training.checkpoint_header import read_header
from ssn_edge.training.listing import listing_from_split
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import CheckpointError
from ssn_edge_runtime.pictures import encode_png
from tests.end_to_end.chain import Outcome, ssn_edge
from tests.runtime.conftest import make_package, part  # noqa: F401

LOOSE = ("--engine", "onnxruntime-cpu", "--max-false-reject", "60%")


def draw(
    folder: Path,
    seeds: range,
    part: Callable[..., ByteImage],  # noqa: F811
    *,
    defect: bool = False,
) -> None:
    folder.mkdir(parents=True)
    for seed in seeds:
        (folder / f"{seed:03d}.png").write_bytes(encode_png(part(900 + seed, defect=defect)))


class Project:
    """A data set, a run that was "trained" on it, and the package of that run."""

    def __init__(
        self,
        root: Path,
        make: Callable[..., Path],
        part: Callable[..., ByteImage],  # noqa: F811
    ) -> None:
        self.root = root
        self.make = make
        self.data = root / "tiles"
        draw(self.data / "train" / "good", range(20), part)
        draw(self.data / "test" / "good", range(20, 24), part)
        draw(self.data / "test" / "spot", range(24, 28), part, defect=True)
        dataset = read_dataset(self.data)
        self.split: Split = split_dataset(dataset)
        self.header: dict[str, Any] = {
            "training_data": fingerprint(dataset, self.split),
            "listing": listing_from_split(dataset, self.split),
        }
        self.run("first", self.header)
        package = make(training_data=self.header["training_data"])
        (root / "part.ssn").write_bytes(package.read_bytes())

    def run(self, name: str, header: dict[str, Any]) -> Path:
        folder = self.root / "runs" / name
        folder.mkdir(parents=True)
        save_tensors(folder / "checkpoint.safetensors", {"weight": torch.zeros(3)}, header)
        return folder

    def calibrate(self, *arguments: str, code: int = 0) -> Outcome:
        done = ssn_edge("calibrate", *LOOSE, *arguments, cwd=self.root)
        assert done.code == code, done.err
        return done

    @property
    def normals(self) -> int:
        return sum(not item.is_anomalous for item in self.split.calibration)


@pytest.fixture
def project(
    tmp_path: Path,
    make_package: Callable[..., Path],  # noqa: F811
    part: Callable[..., ByteImage],  # noqa: F811
) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    return Project(root, make_package, part)


def test_in_a_project_the_calibration_part_of_the_package_s_run_is_taken(project: Project) -> None:
    project.run("newer", {**project.header, "training_data": "f" * 64})
    found = project.calibrate("--json").json()
    assert found["good"] == project.normals == 4
    assert found["pictures"] == len(project.split.calibration)
    assert found["notes"] == []


def test_a_run_that_is_not_the_package_s_is_refused(project: Project) -> None:
    other = project.run("newer", {**project.header, "training_data": "f" * 64})
    done = project.calibrate("--checkpoint", str(other), code=3)
    assert "was trained on other data than the package" in done.err


def test_data_that_moved_are_the_run_s_own(project: Project) -> None:
    moved = project.root / "elsewhere"
    shutil.move(project.data, moved)
    gone = project.calibrate(code=3)
    assert "is not there any more" in gone.err
    assert project.calibrate("--data", "elsewhere", "--json").json()["good"] == project.normals


def test_a_picture_that_was_trained_on_is_refused_under_any_name(
    project: Project,
    part: Callable[..., ByteImage],  # noqa: F811
) -> None:
    fresh = project.root / "fresh"
    draw(fresh / "train" / "good", range(50, 56), part)
    draw(fresh / "test" / "good", range(56, 60), part)
    found = project.calibrate("--data", "fresh", "--json").json()
    assert (found["good"], found["notes"]) == (10, [])
    seen = next(item for item in project.split.train if not item.is_anomalous)
    shutil.copy(seen.image, fresh / "test" / "good" / "a-new-name.png")
    done = project.calibrate("--data", "fresh", code=3)
    assert "1 of 11 pictures of fresh were trained on" in done.err
    assert "a-new-name.png" in done.err


def test_where_training_s_pictures_are_gone_it_says_that_it_cannot_know(project: Project) -> None:
    fresh = project.root / "fresh" / "good"
    fresh.mkdir(parents=True)
    for number, item in enumerate(project.split.test):
        if not item.is_anomalous:
            shutil.copy(item.image, fresh / f"{number}.png")
    shutil.rmtree(project.data)
    done = project.calibrate("--data", "fresh")
    assert "nobody can tell whether some of these were among them" in done.out


def test_names_that_training_saw_with_other_pixels_are_refused(project: Project) -> None:
    train = [item for item in project.split.train if not item.is_anomalous]
    shutil.copy(train[0].image, train[1].image)
    done = project.calibrate("--data", "tiles", code=3)
    assert "by the names of those that training saw" in done.err


def test_a_net_from_elsewhere_is_said_to_have_seen_nobody_knows_what(project: Project) -> None:
    shutil.rmtree(project.root / "runs")
    project.run("imported", {**project.header, "imported_from": {}})
    assert "trained elsewhere: nobody here can tell" in project.calibrate().out


def test_a_picture_that_is_good_and_defective_is_refused(project: Project) -> None:
    both = project.root / "both"
    for kind in ("good", "scratch"):
        (both / kind).mkdir(parents=True)
        shutil.copy(project.split.test[0].image, both / kind / "000.png")
    done = project.calibrate("--data", "both", code=3)
    assert "are the same picture, one of them a good part and one a defect" in done.err


@pytest.mark.parametrize(
    "content", [b"", b"\x10\0\0\0\0\0\0\0{}", b"\xff" * 400, b"\x02" + b"\0" * 7 + b"[]"]
)
def test_a_file_that_is_no_checkpoint_has_no_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint of ssn-edge"):
        read_header(path)


def test_calibrating_loads_no_pytorch(project: Project) -> None:
    """A device judges and counts; it need not have what training needs."""
    import subprocess
    import sys

    code = (
        "import sys; from ssn_edge.cli import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    print('LOADED', 'torch' in sys.modules, end.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "calibrate", *LOOSE],
        capture_output=True,
        text=True,
        check=True,
        cwd=project.root,
        timeout=60,
    )
    assert done.stdout.rstrip().endswith("LOADED False 0"), done.stderr


def test_another_list_beside_the_one_that_was_trained_on_is_another_data_set(
    project: Project,
    part: Callable[..., ByteImage],  # noqa: F811
) -> None:
    """Both lists have one folder; the pictures that are named decide, not the folder."""
    draw(project.root / "fresh", range(40, 50), part)
    own = [path for path in project.data.rglob("*.png") if path.parent.name == "good"]
    for name, pictures in (
        ("trained.csv", own),
        ("fresh.csv", (project.root / "fresh").iterdir()),
        ("both.csv", [*own, *(project.root / "fresh").iterdir()]),
    ):
        rows = [f"{path.relative_to(project.root)},0" for path in sorted(pictures)]
        (project.root / name).write_text("\n".join(["image,label", *rows]))
    dataset = read_dataset(project.root / "trained.csv")
    split = split_dataset(dataset)
    header = {
        "training_data": fingerprint(dataset, split),
        "listing": listing_from_split(dataset, split),
    }
    run = project.run("of_a_list", header)
    package = project.make(training_data=header["training_data"])
    (project.root / "part.ssn").write_bytes(package.read_bytes())
    given = ("--checkpoint", str(run), "--json", "--data")
    assert project.calibrate(*given, "fresh.csv").json()["pictures"] == 10
    of_the_run = project.calibrate(*given, "trained.csv").json()
    assert of_the_run["pictures"] == len(split.calibration) != 10
    assert "were trained on" in project.calibrate(*given, "both.csv", code=3).err
