from __future__ import annotations

import csv
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ssn_edge.training.log import (
    COLUMNS,
    EVENTS_FOLDER,
    LOG_NAME,
    MOST_ROWS,
    TrainingLog,
    read_training_log,
)
from ssn_edge.training.trainer import Progress
from ssn_edge_runtime.errors import ConfigError, StorageError

TERMS = {"l1_normal": 0.1, "l1_anomalous": 0.2, "focal": 0.03, "classification": 0.004}


@dataclass(frozen=True)
class Step:
    """What the log reads of a step."""

    step: int
    steps: int = 10
    epoch: int = 1
    terms: Mapping[str, float] = field(default_factory=lambda: dict(TERMS))
    learning_rate: float = 2e-4
    separation: float | None = 0.75


def write(folder: Path, first: int, last: int, *, steps: int = 10) -> None:
    with TrainingLog(folder, start_step=first - 1) as log:
        for step in range(first, last + 1):
            log.add(Step(step, steps))


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_step_is_a_row_of_named_columns(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "run") as log:
        log.add(Step(1, separation=None))
        log.add(Step(2, epoch=2))
    first, second = lines(tmp_path / "run")
    assert tuple(first) == COLUMNS
    assert first["step"] == "1"
    assert first["separation"] == ""
    assert (second["epoch"], second["separation"]) == ("2", "0.75")
    assert {name: float(second[name]) for name in TERMS} == TERMS
    assert float(second["loss"]) == pytest.approx(0.334)
    assert float(second["learning_rate"]) == 2e-4
    assert 0 <= float(first["seconds"]) <= float(second["seconds"]) < 60


def test_the_trainer_s_progress_is_such_a_step(tmp_path: Path) -> None:
    progress = Progress(
        step=1, steps=3, epoch=1, loss=0.3, terms=TERMS, learning_rate=0.1, separation=None,
        seconds_left=1.0,
    )  # fmt: skip
    with TrainingLog(tmp_path) as log:
        log.add(progress)
    (row,) = read_training_log(tmp_path / LOG_NAME)
    assert (row.step, row.focal, row.separation) == (1, 0.03, None)


def test_a_row_is_on_the_disk_at_once(tmp_path: Path) -> None:
    with TrainingLog(tmp_path) as log:
        log.add(Step(1))
        assert len(read_training_log(tmp_path / LOG_NAME)) == 1


def test_a_long_run_writes_means_every_so_many_steps_and_its_last_one(tmp_path: Path) -> None:
    steps = 3 * MOST_ROWS + 1  # every 4th
    with TrainingLog(tmp_path) as log:
        for step in range(1, steps + 1):
            log.add(Step(step, steps, terms={**TERMS, "focal": float(step)}))
    rows = read_training_log(tmp_path / LOG_NAME)
    assert len(rows) <= MOST_ROWS
    assert [row.step for row in rows[:2]] == [4, 8]
    assert rows[0].focal == 2.5
    assert rows[1].focal == 6.5
    assert rows[1].loss == pytest.approx(6.5 + 0.304)
    assert rows[-1].step == steps


def test_a_step_beyond_a_million_is_read_back(tmp_path: Path) -> None:
    with TrainingLog(tmp_path) as log:
        log.add(Step(12_345_678, 12_345_678))
    assert read_training_log(tmp_path / LOG_NAME)[0].step == 12_345_678


def test_a_resumed_run_goes_on_and_drops_what_is_done_again(tmp_path: Path) -> None:
    write(tmp_path, 1, 7)
    before = read_training_log(tmp_path / LOG_NAME)
    write(tmp_path, 5, 10)  # resumed after step 4
    rows = read_training_log(tmp_path / LOG_NAME)
    assert [row.step for row in rows] == list(range(1, 11))
    assert rows[:4] == before[:4]
    assert rows[4].seconds >= rows[3].seconds
    assert len(lines(tmp_path)) == 10


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    write(tmp_path, 1, 7)
    write(tmp_path, 1, 2)
    assert [row.step for row in read_training_log(tmp_path / LOG_NAME)] == [1, 2]


@pytest.mark.parametrize("kept", [1, 8, 20])
def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path, kept: int) -> None:
    write(tmp_path, 1, 4)
    path = tmp_path / LOG_NAME
    *whole, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole) + last[:kept])
    assert [row.step for row in read_training_log(path)] == [1, 2, 3]
    write(tmp_path, 5, 6)
    assert [row.step for row in read_training_log(path)] == [1, 2, 3, 5, 6]


@pytest.mark.parametrize("text", ["", "step,loss\n1,2\n", "no table at all", "\x00\xff"])
def test_a_file_of_another_form_has_no_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / LOG_NAME).write_text(text)
    assert read_training_log(tmp_path / LOG_NAME) == ()
    write(tmp_path, 5, 5)
    assert [row.step for row in read_training_log(tmp_path / LOG_NAME)] == [5]


@pytest.mark.parametrize("cell", ["nan", "inf", "much"])
def test_a_row_that_holds_no_number_ends_the_log(tmp_path: Path, cell: str) -> None:
    write(tmp_path, 1, 3)
    path = tmp_path / LOG_NAME
    text = path.read_text().splitlines(keepends=True)
    text[2] = text[2].replace("0.334", cell)
    path.write_text("".join(text))
    assert [row.step for row in read_training_log(path)] == [1]


def test_a_missing_log_has_no_rows(tmp_path: Path) -> None:
    assert read_training_log(tmp_path / LOG_NAME) == ()


def test_a_log_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StorageError, match="cannot be"):
        TrainingLog(tmp_path / "run")


def test_without_the_option_nothing_of_tensorboard_is_written(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    assert [each.name for each in tmp_path.iterdir()] == [LOG_NAME]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of an events folder as TensorBoard would show it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / EVENTS_FOLDER)).Reload()
    return {
        name: [(each.step, each.value) for each in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_was_written_and_hides_what_is_done_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: ssn-edge[tensorboard]")
    with TrainingLog(tmp_path, tensorboard=True) as log:
        for step in (1, 2, 3):
            log.add(Step(step, separation=None if step == 1 else 0.5))
    with TrainingLog(tmp_path, start_step=2, tensorboard=True) as log:
        for step in (3, 4):
            log.add(Step(step, terms={**TERMS, "focal": 1.0}))
    found = scalars(tmp_path)
    assert set(found) == {
        "learning_rate",
        "separation",
        "loss/total",
        *(f"loss/{name}" for name in TERMS),
    }
    assert [step for step, _ in found["separation"]] == [2, 3, 4]
    assert [step for step, _ in found["loss/focal"]] == [1, 2, 3, 4]
    assert [value for _, value in found["loss/focal"]] == pytest.approx([0.03, 0.03, 1, 1])
    assert math.isclose(found["loss/total"][0][1], 0.334, rel_tol=1e-6)


def test_without_tensorboard_the_way_to_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"pip install 'ssn-edge\[tensorboard\]'"):
        TrainingLog(tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()
