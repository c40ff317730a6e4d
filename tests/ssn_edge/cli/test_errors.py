"""Each mistake: its exit code, its one line on stderr, and nothing half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.chain import Project, listing, ssn_edge


@pytest.fixture(scope="module")
def workplace(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all kinds of broken things; no command may change it."""
    root = tmp_path_factory.mktemp("workplace")
    shutil.copytree(project.data, root / "tiles")
    shutil.copytree(project.line, root / "line")
    shutil.copytree(project.checkpoint.parent, root / "runs" / "tiles")
    shutil.copy(project.package, root / "part.ssn")

    (root / "papers").mkdir()
    (root / "papers" / "notes.txt").write_text("no pictures")
    (root / "hollow" / "train" / "good").mkdir(parents=True)
    (root / "nothing").mkdir()
    (root / "list.csv").write_text(
        "image,mask,label\ntiles/train/good/000.png,,good\n"
        "tiles/train/good/001.png,lost_mask.png,bad\n"
    )
    (root / "cut").mkdir()
    whole = project.checkpoint.read_bytes()
    (root / "cut" / "checkpoint.safetensors").write_bytes(whole[: len(whole) // 2])
    (root / "stopped").mkdir()
    (root / "stopped" / "unfinished.safetensors").write_bytes(b"half")
    (root / "packages").mkdir()
    changed = bytearray(project.package.read_bytes())
    changed[len(changed) // 2] ^= 1
    (root / "packages" / "changed.ssn").write_bytes(changed)
    (root / "packages" / "text.ssn").write_text("no package")
    return root


MISTAKES: dict[str, tuple[str, int, list[str]]] = {
    "an unknown data folder": ("train nowhere", 3, ["nowhere", "does not exist", "CSV"]),
    "a folder of no known layout": (
        "train papers",
        3,
        ["papers", "MVTec", "Kolektor", "CSV", "ground_truth", "--column"],
    ),
    "an empty folder": ("train nothing", 3, ["nothing", "MVTec"]),
    "zero pictures": ("train hollow", 3, ["hollow", "no pictures", ".png"]),
    "a missing mask": ("train list.csv", 3, ["list.csv, line 3", "lost_mask.png"]),
    "no data": ("train", 2, ["ssn-edge train DATA", "ssn-edge.toml"]),
    "half a region": ("train tiles --roi 1,2,3", 2, ["--roi 1,2,3", "X,Y,WIDTH,HEIGHT"]),
    "a region of words": ("train tiles --roi a,b,c,d", 2, ["--roi a,b,c,d"]),
    "a region left of the picture": ("train tiles --roi -1,0,50,50", 2, ["-1,0,50,50"]),
    "a region beyond the picture": (
        "train tiles --roi 50,50,64,64",
        3,
        ["tiles/train/", "50,50,64,64", "96 x 96"],
    ),
    "a size of words": ("train tiles --input-size big", 2, ["--input-size big", "640x232"]),
    "a size too small": ("train tiles --input-size 8", 2, ["8 x 8", "32"]),
    "an unknown variant": ("train tiles --variant new", 2, ["'new'", "journal, conference"]),
    "an unknown training device": ("train tiles --device gpu", 2, ["gpu", "auto, cpu or cuda"]),
    "a negative seed": ("train tiles --seed -1", 2, ["seed = -1", "0 or more"]),
    "no epochs": ("train tiles --epochs 0", 2, ["epochs (0)", "at least 1"]),
    "one head's width alone": ("train tiles --segmentation-width 8", 2, ["both or none"]),
    "a negative width": (
        "train tiles --segmentation-width -8 --classification-width 8",
        2,
        ["segmentation_width = -8"],
    ),
    "a mask value beyond 8 bits": ("train tiles --mask-above 300", 2, ["300", "254"]),
    "a column without a name": ("train tiles --column label", 2, ["label=defect"]),
    "a negative number of pictures": ("train tiles --max-normal -1", 2, ["--max-normal -1"]),
    "no normal pictures left": ("train tiles --max-normal 0", 3, ["normal"]),
    "an unknown backbone": ("train tiles --backbone resnet99", 2, ["'resnet99'"]),
    "missing weights": (
        "train tiles --backbone-weights lost.pth",
        3,
        ["lost.pth", "(1)", "(2)", "(3)", "--backbone-weights"],
    ),
    "a run in the way": ("train tiles --output runs/tiles", 2, ["runs/tiles", "another"]),
    "resuming nothing": ("train --resume nowhere", 3, ["nowhere", "no unfinished run"]),
    "resuming a finished run": ("train --resume runs/tiles", 3, ["runs/tiles", "finished"]),
    "resuming half a file": ("train --resume stopped", 3, ["unfinished.safetensors", "damaged"]),
    "resuming with data": ("train tiles --resume stopped", 2, ["leave DATA out"]),
    "a truncated checkpoint": ("evaluate --checkpoint cut", 3, ["cut/checkpoint", "cut short"]),
    "a checkpoint that is not there": ("export --checkpoint nowhere", 3, ["nowhere", "train"]),
    "a run that is not finished": (
        "export --checkpoint stopped",
        3,
        ["stopped is not finished", "ssn-edge train --resume stopped"],
    ),
    "exporting a truncated checkpoint": ("export --checkpoint cut", 3, ["cut/checkpoint"]),
    "data that are gone": ("export --data nothing", 3, ["nothing/", "--data"]),
    "8-bit integers of few pictures": ("export --int8", 4, ["32", "normal"]),
    "a graph that there is not": ("export --graph fast", 2, ["'fast'", "deploy or reference"]),
    "a margin that lets all pass": ("export --max-flip-margin 9", 2, ["max_flip_margin", "0 to 2"]),
    "a promise of nothing": ("export --max-false-reject 0", 2, ["--max-false-reject 0", "0.5%"]),
    "a promise in words": ("export --max-false-reject few", 2, ["few", "0.5%"]),
    "a folder as package": ("export --output tiles", 2, ["tiles is a folder", "tiles/part.ssn"]),
    "a promise for a package": (
        "evaluate --package part.ssn --max-false-reject 1%",
        2,
        ["--max-false-reject", "leave"],
    ),
    "evaluating a package that is not there": (
        "evaluate --package lost.ssn",
        3,
        ["lost.ssn", "ssn-edge export"],
    ),
    "evaluating a changed package": (
        "evaluate --package packages/changed.ssn",
        3,
        ["changed.ssn", "copy the package again"],
    ),
    "a camera that is not there": (
        "run --device /dev/video99",
        5,
        ["/dev/video99", "no such camera"],
    ),
    "a source that is not there": ("run --device nowhere", 5, ["nowhere", "/dev/video0"]),
    "a source without pictures": ("run --device papers", 5, ["papers", "no pictures"]),
    "a source of an unknown kind": ("run --device v4l:/dev/video0", 2, ["v4l", "v4l2"]),
    "a source that is no picture": ("run --device list.csv", 2, ["list.csv", ".avi", ".png"]),
    "a package that is not there": (
        "run --device line --package lost.ssn",
        3,
        ["lost.ssn", "ssn-edge export"],
    ),
    "a package with one changed byte": (
        "run --device line --package packages/changed.ssn",
        3,
        ["changed.ssn", "copy the package again"],
    ),
    "a file that is no package": (
        "run --device line --package packages/text.ssn",
        3,
        ["text.ssn", "export"],
    ),
    "an unknown keep": ("run --device line --keep some", 2, ["some", "all, rejects, none"]),
    "an unknown engine": ("run --device line --engine fast", 2, ["'fast'", "onnxruntime-cpu"]),
    "no frames": ("run --device line --max-frames 0", 2, ["--max-frames 0", "1 or more"]),
    "an output that is a file": ("run --device line --output list.csv", 5, ["list.csv"]),
    "looking into a changed package": ("info packages/changed.ssn", 3, ["changed.ssn"]),
    "looking into no package": ("info lost.ssn", 3, ["lost.ssn"]),
    "an unknown surface": ("demo --surface wood", 2, ["wood", "brushed, cast, woven"]),
    "a demo over other things": ("demo --folder tiles", 2, ["tiles", "--folder"]),
    "a demo of a negative seed": ("demo --seed -1", 2, ["--seed -1"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_code_and_leaves_nothing(workplace: Path, mistake: str) -> None:
    command, code, words = MISTAKES[mistake]
    before = listing(workplace)
    outcome = ssn_edge(*command.split(), cwd=workplace)
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    errors = outcome.err.splitlines()
    at = next(number for number, line in enumerate(errors) if line.startswith("error: "))
    assert "unexpected" not in errors[at]
    if "MVTec" not in words:  # the layouts are drawn over several lines
        assert at == len(errors) - 1
    for word in words:
        assert word in "\n".join(errors[at:])
    assert listing(workplace) == before


@pytest.mark.parametrize("command", ["export", "evaluate"])
def test_without_a_run_the_way_to_one_is_told(command: str, tmp_path: Path) -> None:
    outcome = ssn_edge(command, cwd=tmp_path)
    assert outcome.code == 3
    assert "no finished run under runs/" in outcome.err
    assert "ssn-edge train DATA" in outcome.err
    assert listing(tmp_path) == []


@pytest.mark.parametrize("command", ["run --device line", "info"])
def test_without_a_package_the_way_to_one_is_told(command: str, tmp_path: Path) -> None:
    outcome = ssn_edge(*command.split(), cwd=tmp_path)
    assert outcome.code == 3
    assert "ssn-edge export" in outcome.err
    assert listing(tmp_path) == []


@pytest.mark.parametrize("command", ["run --device line", "info"])
def test_of_two_packages_none_is_guessed(workplace: Path, command: str) -> None:
    outcome = ssn_edge(*command.split(), cwd=workplace / "packages")
    assert outcome.code == 3
    assert "changed.ssn, text.ssn" in outcome.err
    assert "--package FILE" in outcome.err


BROKEN_SETTINGS = {
    "[train]\nepoch = 3\n": ["[train] epoch is unknown", "'epochs'"],
    "[trian]\n": ["[trian] is unknown", "'train'"],
    "train = 3\n": ["train must be a section", "[train]"],
    "[train\n": ["is not TOML", "line 1"],
    '[train]\nepochs = "3"\n': ["[train] epochs = '3'", "300"],
    "[train]\nseed = -1\n": ["[train] seed = -1", "0 or more"],
    "[train]\nroi = [1, 2]\n": ["roi = [1, 2]", "width and height"],
    '[train]\ndevice = "gpu"\n': ["[train] device = 'gpu'", "cuda"],
    "[export]\nmax_false_reject = 5\n": ["[export] max_false_reject = 5", "0.01"],
}


@pytest.mark.parametrize("text", BROKEN_SETTINGS)
def test_a_broken_settings_file_is_told_with_file_and_key(
    project: Project, text: str, tmp_path: Path
) -> None:
    (tmp_path / "ssn-edge.toml").write_text(text)
    before = listing(tmp_path)
    outcome = ssn_edge("train", project.data, cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    for word in BROKEN_SETTINGS[text]:
        assert word in outcome.err
    if "roi" not in text:  # known as a list; what it must hold is found later
        assert "error: ssn-edge.toml: " in outcome.err
    assert listing(tmp_path) == before


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    quiet, loud = (
        ssn_edge("train", "x", cwd=tmp_path),
        ssn_edge("--debug", "train", "x", cwd=tmp_path),
    )
    assert "Traceback" not in quiet.err
    assert "Traceback" in loud.err
    assert loud.err.endswith(quiet.err)
    assert loud.code == quiet.code == 3


def test_what_nobody_foresaw_is_one_line_with_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(named: Path | None) -> Path:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("ssn_edge.project.find_package", fail)
    outcome = ssn_edge("info", cwd=tmp_path)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "ZeroDivisionError: by zero" in outcome.err
    assert "--debug" in outcome.err


def test_a_missing_extra_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(named: Path | None) -> Path:
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    monkeypatch.setattr("ssn_edge.project.find_checkpoint", fail)
    outcome = ssn_edge("export", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.err == (
        "error: torch is not installed; install it: pip install 'ssn-edge[train]'\n"
    )


def test_a_process_of_its_own_ends_with_the_code_and_one_line(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "ssn_edge", "run", "--device", "/dev/video99"],
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert answer.stderr.startswith("error: no package")
    assert answer.stderr.count("\n") == 1
    assert listing(tmp_path) == []
