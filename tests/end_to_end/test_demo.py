"""The demo, made small: the same way, with fewer and smaller pictures."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssn_edge import demo
from ssn_edge.data.samples import draw_sample, make_samples
from ssn_edge.data.surfaces import Surface
from ssn_edge.demo import Stages, run_demo
from ssn_edge_runtime.errors import ConfigError
from tests.end_to_end.chain import listing, one_thread, records, ssn_edge

SMALL = {
    "NORMAL_TRAIN": 10, "DEFECTIVE_TRAIN": 3, "NORMAL_TEST": 3, "DEFECTIVE_TEST": 3,
    "LINE_NORMAL": 3, "LINE_DEFECTIVE": 2, "INPUT_SIZE_HW": (32, 32), "EPOCHS": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in SMALL.items():
        monkeypatch.setattr(demo, name, value)
    for function in (make_samples, draw_sample):
        small = functools.partial(function, size_hw=(64, 64))
        monkeypatch.setattr(demo, function.__name__, small)
    with one_thread():
        yield


def test_the_demo_goes_the_whole_way_and_says_what_it_found(tmp_path: Path) -> None:
    outcome = ssn_edge("demo", "--surface", "woven", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    found = outcome.json()
    folder = tmp_path / "ssn-edge-demo"
    assert found["folder"] == "ssn-edge-demo"
    assert (tmp_path / found["package"]).is_file()
    page = (tmp_path / found["report"]).read_text(encoding="utf-8")
    assert "ssn-edge demo --surface woven --seed 0" in page
    assert found["line"]["frames"] == 5
    assert (found["line"]["defects"], found["line"]["good"]) == (2, 3)
    rejected = [each["verdict"] != "pass" for each in records(folder / "decisions")]
    assert sum(rejected) == found["line"]["defects_rejected"] + found["line"]["good_rejected"]
    assert set(found["seconds"]) == {"pictures", "training", "export", "evaluation", "line"}
    for auroc in (
        found["evaluation"]["metrics"]["map_max"]["i_auroc"],
        found["evaluation"]["baseline"]["i_auroc"],
    ):
        assert 0 <= auroc <= 1
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert numbers["metrics"] == found["evaluation"]["metrics"]
    assert numbers["metrics"]["classification"]["normal"] == SMALL["NORMAL_TEST"]
    for stage in ("1/5", "2/5", "3/5", "4/5", "5/5"):
        assert stage in outcome.err


def test_a_second_demo_takes_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def stopped(folder: Path, **_: object) -> None:
        folders.append(folder)
        folder.mkdir()

    monkeypatch.setattr(demo, "run_demo", stopped)
    for _ in range(2):
        assert ssn_edge("demo", cwd=tmp_path).code == 130
    assert [each.name for each in folders] == ["ssn-edge-demo", "ssn-edge-demo-2"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = listing(tmp_path)
    with pytest.raises(ConfigError, match="is there already; name another: --folder"):
        run_demo(tmp_path, surface=Surface.BRUSHED)
    assert listing(tmp_path) == before


def test_stopped_while_training_it_leaves_no_half_package(tmp_path: Path) -> None:
    stages: list[str] = []
    steps: list[int] = []

    def on_progress(stage: str, done: int, count: int, note: str) -> None:
        if stage == "train":
            steps.append(done)

    result = run_demo(
        tmp_path / "demo",
        surface=Surface.CAST,
        stages=Stages(stages.append, on_progress, lambda: bool(steps)),
    )
    assert result is None
    assert steps == [1]
    assert not any("3/5" in stage for stage in stages)
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"data", "line", "runs"}
    kept = {path.name for path in (tmp_path / "demo" / "runs" / "demo").iterdir()}
    assert kept == {"unfinished.safetensors", "training.csv"}


def test_stopped_before_training_it_does_not_train(tmp_path: Path) -> None:
    result = run_demo(
        tmp_path / "demo", surface=Surface.CAST, stages=Stages(should_stop=lambda: True)
    )
    assert result is None
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"data", "line"}


def test_the_line_s_parts_have_defects_in_between(tmp_path: Path) -> None:
    truth = list(demo._record_line(tmp_path, Surface.BRUSHED, 0).values())
    assert sum(truth) == SMALL["LINE_DEFECTIVE"]
    assert truth != sorted(truth)
