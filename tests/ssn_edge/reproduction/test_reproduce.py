"""Whole reproductions in small: real training and evaluation on tiny trees of the data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ssn_edge.model.variant import Variant
from ssn_edge.reproduction import (
    Observer,
    PublishedDataset,
    Reproduction,
    ReproductionRequest,
    reproduce,
)
from ssn_edge.reproduction.result import RESULT_NAME
from ssn_edge.reproduction.runner import NUMBERS_NAME, SETTINGS_NAME, TABLE_NAME
from ssn_edge.training.checkpoint import CHECKPOINT_NAME, STATE_NAME, load_checkpoint
from ssn_edge_runtime.errors import CheckpointError, ConfigError, DatasetError
from tests.ssn_edge.data import published_trees as trees

Ask = Callable[..., ReproductionRequest]
MVTEC, VISA, KSDD2, SENSUM = PublishedDataset
CATEGORIES = ("bottle", "tile")


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "mvtec"
    for category in CATEGORIES:
        trees.mvtec_category(root / category)
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reproduction]:
    """The reproduction that several tests look at, once it was made."""
    return {}


@pytest.fixture
def done(
    finished: dict[str, Reproduction],
    mvtec: Path,
    ask: Ask,
    tmp_path_factory: pytest.TempPathFactory,
) -> Reproduction:
    if "mvtec" not in finished:
        output = tmp_path_factory.mktemp("out") / "mvtec"
        finished["mvtec"] = reproduce(ask(MVTEC, mvtec, groups=CATEGORIES), output)
    return finished["mvtec"]


@pytest.fixture
def copied(done: Reproduction, tmp_path: Path) -> Path:
    """A copy of the finished reproduction's folder that a test may break."""
    return shutil.copytree(done.output, tmp_path / "copied")


def files(folder: Path, name: str) -> list[str]:
    return sorted(file.parent.relative_to(folder).as_posix() for file in folder.rglob(name))


ALL_RUNS = ["bottle/seed-0", "bottle/seed-1", "tile/seed-0", "tile/seed-1"]


def test_every_part_is_trained_and_evaluated_with_every_seed(done: Reproduction) -> None:
    assert files(done.output, CHECKPOINT_NAME) == ALL_RUNS
    assert files(done.output, RESULT_NAME) == ALL_RUNS
    assert (done.failures, done.was_stopped, done.exit_code) == ((), False, 0)
    for result in done.results:
        assert (result.test_pictures, result.test_anomalous) == (4, 2)
        assert all(value is not None and 0 <= value <= 100 for value in result.values)


def test_nothing_is_held_out_of_training(done: Reproduction) -> None:
    header = load_checkpoint(done.output / "tile/seed-1" / CHECKPOINT_NAME).header
    parts = {name: len(rows) for name, rows in header["listing"]["parts"].items()}
    assert parts == {"train": 4, "calibration": 0, "test": 4}
    assert header["request"]["interpolation"] == "linear"


def test_the_table_is_the_aggregate_of_the_runs(done: Reproduction) -> None:
    rows = {row.name: row for row in done.comparison.rows}
    assert list(rows) == ["bottle", "tile", "mean of 2 of 15"]
    values = [result.values[0] for result in done.results if result.part == "tile"]
    assert rows["tile"].ours is not None
    assert rows["tile"].ours.mean[0] == pytest.approx(sum(map(float, values)) / 2)  # type: ignore[arg-type]
    assert rows["tile"].published is not None
    assert rows["tile"].published.mean[0] == 99.13


def test_the_table_is_written_as_a_page_and_as_numbers(done: Reproduction) -> None:
    page = (done.output / TABLE_NAME).read_text(encoding="utf-8")
    assert "99.13 ± 0.78" in page
    assert "NOT THE PUBLISHED PROTOCOL: epochs: 1 instead of 300; backbone: test_resnet" in page
    assert json.loads((done.output / NUMBERS_NAME).read_text()) == json.loads(
        json.dumps(done.comparison.to_dict())
    )


def test_finished_runs_are_skipped_and_give_the_same_table(
    done: Reproduction, copied: Path, mvtec: Path, ask: Ask
) -> None:
    before = {file: file.stat().st_mtime_ns for file in copied.rglob(CHECKPOINT_NAME)}
    stages: list[str] = []
    again = reproduce(
        ask(MVTEC, mvtec, groups=CATEGORIES),
        copied,
        Observer(on_progress=lambda stage, *_: stages.append(stage)),
    )
    assert stages == []
    assert again.results == done.results
    assert again.comparison == done.comparison
    assert {file: file.stat().st_mtime_ns for file in copied.rglob(CHECKPOINT_NAME)} == before


def test_more_seeds_are_added_to_what_is_there(
    done: Reproduction, copied: Path, mvtec: Path, ask: Ask
) -> None:
    trained: list[str] = []
    more = reproduce(
        ask(MVTEC, mvtec, groups=("tile",), seeds=(0, 1, 2)),
        copied,
        Observer(on_progress=lambda stage, *_: trained.append(stage)),
    )
    assert [(result.part, result.seed) for result in more.results] == [
        ("tile", 0),
        ("tile", 1),
        ("tile", 2),
    ]
    assert trained.count("features") == 1  # one cache was filled: one run was made


def test_a_run_that_was_trained_and_not_evaluated_is_only_evaluated(
    done: Reproduction, copied: Path, mvtec: Path, ask: Ask
) -> None:
    (copied / "tile/seed-0" / RESULT_NAME).unlink()
    stages: set[str] = set()
    again = reproduce(
        ask(MVTEC, mvtec, groups=CATEGORIES),
        copied,
        Observer(on_progress=lambda stage, *_: stages.add(stage)),
    )
    assert stages == {"evaluate"}
    assert again.comparison == done.comparison


@pytest.mark.parametrize(
    ("stage", "left"), [("features", []), ("train", [STATE_NAME]), ("evaluate", [CHECKPOINT_NAME])]
)
def test_a_stopped_reproduction_goes_on_to_the_same_numbers(
    done: Reproduction, tmp_path: Path, mvtec: Path, ask: Ask, stage: str, left: list[str]
) -> None:
    """Stopped in the third of four runs."""
    request = ask(MVTEC, mvtec, groups=CATEGORIES)
    output = tmp_path / "out"
    stopping: list[bool] = []

    def on_progress(name: str, *_: object) -> None:
        if name == stage and len(files(output, RESULT_NAME)) == 2:
            stopping.append(True)

    stopped = reproduce(
        request, output, Observer(on_progress=on_progress, should_stop=lambda: bool(stopping))
    )
    assert (stopped.was_stopped, len(stopped.results), stopped.failures) == (True, 2, ())
    third = [name for name in (STATE_NAME, CHECKPOINT_NAME, RESULT_NAME)
             if (output / "bottle/seed-1" / name).exists()]  # fmt: skip
    assert third == left
    assert "2 of 4 runs finished" in stopped.comparison.departures
    finished = reproduce(request, output)
    assert not finished.was_stopped
    assert [each.values for each in finished.results] == [each.values for each in done.results]


def test_a_broken_category_is_told_and_does_not_end_the_rest(tmp_path: Path, ask: Ask) -> None:
    root = tmp_path / "mvtec"
    trees.mvtec_category(root / "tile")
    trees.mvtec_category(root / "bottle")
    broken = root / "bottle/test/good/000.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    said: list[str] = []
    request = ask(MVTEC, root, groups=("bottle", "cable", "tile"))
    found = reproduce(request, tmp_path / "out", Observer(on_message=said.append))
    assert [(each.part, each.seed) for each in found.results] == [("tile", 0), ("tile", 1)]
    assert {each.run.part.name for each in found.failures} == {"bottle", "cable"}
    assert found.exit_code == DatasetError.exit_code
    told = found.comparison.failures
    assert len(told) == 2  # one line for both seeds of each
    assert told[0].startswith("bottle, seed 0, 1: ")
    assert "bottle/test/good/000.png: is cut short" in told[0]
    assert told[1].startswith("cable, seed 0, 1: ")
    assert "mvtec/cable: does not exist" in told[1]
    assert any(line.startswith("failed: bottle, seed 0: ") for line in said)
    assert "**FAILED: bottle" in (tmp_path / "out" / TABLE_NAME).read_text(encoding="utf-8")

    broken.write_bytes(whole)  # mended, the same call goes on with what failed
    mended = reproduce(request, tmp_path / "out")
    assert len(mended.results) == 4
    assert {each.run.part.name for each in mended.failures} == {"cable"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 2}, "runs with epochs 1, now it is 2"),
        ({"variant": Variant.CONFERENCE}, "runs with variant journal, now it is conference"),
        ({"input_size_hw": None}, r"runs with input_size_hw \[32, 32\], now it is None"),
    ],
)
def test_other_settings_than_the_folders_are_refused_and_change_nothing(
    done: Reproduction, mvtec: Path, ask: Ask, changes: dict[str, object], words: str
) -> None:
    before = {file: file.read_bytes() for file in done.output.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=words) as refused:
        reproduce(ask(MVTEC, mvtec, groups=CATEGORIES, **changes), done.output)
    assert "\n" not in str(refused.value)
    assert {file: file.read_bytes() for file in done.output.rglob("*") if file.is_file()} == before


def test_another_root_than_the_folders_is_refused(
    done: Reproduction, tmp_path: Path, ask: Ask
) -> None:
    trees.mvtec_category(tmp_path / "other/tile")
    with pytest.raises(ConfigError, match="runs with root "):
        reproduce(ask(MVTEC, tmp_path / "other", groups=("tile",)), done.output)


def test_a_folder_of_other_things_is_refused(mvtec: Path, tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other things; name a new folder"):
        reproduce(ask(MVTEC, mvtec), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("make", [False, True])
def test_a_root_without_the_data_set_is_refused_at_once(
    tmp_path: Path, ask: Ask, make: bool
) -> None:
    root = tmp_path / "empty"
    if make:
        root.mkdir()
    with pytest.raises(DatasetError, match=r"holds none of the cat|is not a folder"):
        reproduce(ask(MVTEC, root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_backbone_weights_are_told_once_and_not_by_each_run(
    mvtec: Path, tmp_path: Path, ask: Ask
) -> None:
    request = ask(MVTEC, mvtec, groups=CATEGORIES, backbone_weights=tmp_path / "lost.pth")
    with pytest.raises(CheckpointError, match=r"lost\.pth do not exist"):
        reproduce(request, tmp_path / "out")


def test_several_processes_for_one_net_are_refused(
    mvtec: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="start it without torchrun"):
        reproduce(ask(MVTEC, mvtec), tmp_path / "out")


def test_categories_that_were_made_apart_come_together_in_one_folder(
    done: Reproduction, tmp_path: Path, mvtec: Path, ask: Ask
) -> None:
    for category in CATEGORIES:
        reproduce(ask(MVTEC, mvtec, groups=(category,)), tmp_path / "out")
    whole = reproduce(ask(MVTEC, mvtec, groups=CATEGORIES), tmp_path / "out")
    assert whole.comparison == done.comparison


def test_a_changed_result_is_refused_by_name(copied: Path, mvtec: Path, ask: Ask) -> None:
    (copied / "tile/seed-0" / RESULT_NAME).write_text('{"values": {"i_auroc": "good"}}')
    found = reproduce(ask(MVTEC, mvtec, groups=CATEGORIES), copied)
    assert len(found.results) == 3
    assert "tile/seed-0/result.json: cannot be used" in found.failures[0].message


def test_visa_is_reproduced_by_its_split_file(tmp_path: Path, ask: Ask) -> None:
    root = trees.visa(tmp_path / "VisA", ["candle", "pcb1"])
    found = reproduce(ask(VISA, root, groups=("candle", "pcb1")), tmp_path / "out")
    assert found.failures == ()
    assert [(row.name, row.runs) for row in found.comparison.rows] == [
        ("candle", 2),
        ("pcb1", 2),
        ("mean of 2 of 12", 2),
    ]
    header = load_checkpoint(tmp_path / "out/pcb1/seed-0" / CHECKPOINT_NAME).header
    assert header["request"]["settings"]["perlin_threshold"] == 0.6


@pytest.mark.parametrize(
    ("masks", "regime", "counts"),
    [(None, "unsupervised", (4, 0)), (0, "weak", (8, 0)), (16, "mixed", (8, 2)),
     (246, "full", (8, 4))],
)  # fmt: skip
def test_ksdd2_is_reproduced_in_every_regime(
    tmp_path: Path, ask: Ask, masks: int | None, regime: str, counts: tuple[int, int]
) -> None:
    root = trees.ksdd2(tmp_path / "KSDD2")
    found = reproduce(ask(KSDD2, root, masks=masks, seeds=(0,)), tmp_path / "out")
    assert found.failures == ()
    assert [result.regime for result in found.results] == [regime]
    header = load_checkpoint(tmp_path / "out/all/seed-0" / CHECKPOINT_NAME).header
    train = header["listing"]["parts"]["train"]
    assert (len(train), sum(row[1] == 1 and row[2] is not None for row in train)) == counts
    assert found.comparison.rows[0].published is not None


def test_an_interrupted_run_goes_on_with_its_published_split(tmp_path: Path, ask: Ask) -> None:
    root = trees.ksdd2(tmp_path / "KSDD2")
    request = ask(KSDD2, root, masks=16, seeds=(0,))
    stopping: list[bool] = []
    observer = Observer(
        on_progress=lambda stage, *_: stopping.append(True) if stage == "train" else None,
        should_stop=lambda: bool(stopping),
    )
    assert reproduce(request, tmp_path / "out", observer).was_stopped
    assert files(tmp_path / "out", STATE_NAME) == ["all/seed-0"]
    resumed = reproduce(request, tmp_path / "out").results[0]
    assert resumed.regime == "mixed"
    assert resumed.values == reproduce(request, tmp_path / "whole").results[0].values


def test_sensum_is_reproduced_fold_by_fold(tmp_path: Path, ask: Ask) -> None:
    root = trees.sensum(tmp_path / "SensumSODF")
    request = ask(SENSUM, root, masks=20, groups=("softgel",), seeds=(0,))
    found = reproduce(request, tmp_path / "out")
    assert found.failures == ()
    assert files(tmp_path / "out", RESULT_NAME) == [f"softgel-fold{n}/seed-0" for n in range(3)]
    assert {result.regime for result in found.results} == {"mixed"}
    assert found.comparison.rows[0].runs == 1


def test_settings_are_kept_beside_the_runs(done: Reproduction, mvtec: Path) -> None:
    settings = json.loads((done.output / SETTINGS_NAME).read_text())
    assert settings["root"] == str(mvtec.resolve())
    assert (settings["epochs"], settings["backbone"]) == (1, "test_resnet")
