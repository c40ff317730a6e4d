"""One small project, trained, evaluated and exported once by the command line, for many tests."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ssn_edge.cli import app
from ssn_edge.data.samples import make_samples
from ssn_edge.data.surfaces import Surface

FRAME_HW = (96, 96)
TRAINING = [
    *("--backbone", "tf_efficientnet_lite0"),
    *("--device", "cpu"),
    *("--input-size", "64"),
    *("--batch-size", "16"),
    *("--epochs", "8"),
]
ROOMS = ("ssn_edge", "ssn_edge_export", "ssn_edge_calibrate", "ssn_edge_runtime")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


def ssn_edge(*arguments: str | Path, cwd: Path) -> Outcome:
    """The command line in this process, in a working directory."""
    levels = {name: logging.getLogger(name).level for name in ROOMS}
    try:
        with working_in(cwd), one_thread():
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class Project:
    """A project directory with a data set, a finished run and a package.

    Args:
        root: The directory.
        outcomes: Of train, evaluate, export and evaluate --package, each with --json.
        verdicts: By file name in `line`: what `evaluate --package` found.
    """

    root: Path
    outcomes: dict[str, Outcome]
    verdicts: dict[str, dict[str, Any]] = field(repr=False)

    @property
    def data(self) -> Path:
        return self.root / "tiles"

    @property
    def line(self) -> Path:
        """The test pictures side by side in one folder, as a line would record them."""
        return self.root / "line"

    @property
    def checkpoint(self) -> Path:
        return self.root / "runs" / "tiles" / "checkpoint.safetensors"

    @property
    def package(self) -> Path:
        return self.root / "part.ssn"


def shared_project(folders: pytest.TempPathFactory) -> Project:
    """The one project of a test run, whichever folder of tests asks for it, in whichever worker."""
    folder = folders.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the workers of one run have theirs side by side
    with (folder / "project.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make_project(folder / "project")


@functools.cache
def _make_project(root: Path) -> Project:
    made = root.with_suffix(".pickle")
    if made.exists():
        project = pickle.loads(made.read_bytes())
        assert isinstance(project, Project)
        return project
    shutil.rmtree(root, ignore_errors=True)  # of a worker that failed halfway
    make_samples(
        root / "tiles",
        surface=Surface.BRUSHED,
        normal_train=24,
        defective_train=6,
        normal_test=6,
        defective_test=6,
        size_hw=FRAME_HW,
    )
    outcomes = {}
    for name, arguments in {
        "train": ["train", "tiles", *TRAINING, "--output", "runs/tiles"],
        "evaluate": ["evaluate", "--max-false-reject", "10%"],
        "export": ["export", "--max-false-reject", "0.1"],
        "evaluate package": ["evaluate", "--package", "part.ssn"],
    }.items():
        outcomes[name] = ssn_edge(*arguments, "--json", cwd=root)
        assert outcomes[name].code == 0, outcomes[name].err
    found = outcomes["evaluate package"].json()["verdicts_by_picture"]
    verdicts = {}
    for each in found:
        name = line_name(each["image"])
        copy = root / "line" / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(root / "tiles" / each["image"], copy)
        verdicts[name] = {key: each[key] for key in ("verdict", "reason", "raw_score")}
    project = Project(root, outcomes, verdicts)
    made.write_bytes(pickle.dumps(project))
    return project


def line_name(image: str) -> str:
    """A test picture's name in one folder: `test/good/000.png` is `good_000.png`."""
    return "_".join(Path(image).parts[-2:])


def records(decisions: Path) -> list[dict[str, Any]]:
    """The decisions in the journal of a folder."""
    text = (decisions / "decisions.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line["kind"] == "verdict"]


def judged(decisions: Path) -> dict[str, dict[str, Any]]:
    """What the journal says of each part, in the words of `Project.verdicts`."""
    return {
        each["part_id"]: {key: each[key] for key in ("verdict", "reason", "raw_score")}
        for each in records(decisions)
    }


def listing(folder: Path) -> list[tuple[str, int]]:
    """Every file and folder below, with sizes."""
    return sorted((str(path), path.stat().st_size) for path in folder.rglob("*"))


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small tensors are faster so, above all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
