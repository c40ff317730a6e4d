"""Learning curves: where they are read, and how the page draws them."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from ssn_edge.evaluation.of_run import evaluate_checkpoint
from ssn_edge.evaluation.report_numbers import report_numbers
from ssn_edge.evaluation.report_page import render_report
from ssn_edge.evaluation.training_charts import training_charts
from ssn_edge.evaluation.training_curves import (
    MOST_POINTS,
    TrainingCurves,
    curves_beside,
    curves_from_log,
    curves_from_losses,
)
from ssn_edge.trained import open_run
from ssn_edge.training.checkpoint import load_tensors
from ssn_edge.training.log import LOG_NAME, TERMS, LogRow, TrainingLog, read_training_log
from ssn_edge.training.trainer import Progress
from tests.end_to_end.chain import Project, one_thread


def row(step: int, loss: float = 0.5, separation: float | None = 0.9) -> LogRow:
    return LogRow(
        step=step,
        epoch=1 + step // 10,
        loss=loss,
        l1_normal=loss / 4,
        l1_anomalous=loss / 2,
        focal=loss / 8,
        classification=loss / 8,
        separation=separation,
        learning_rate=2e-4 if step < 50 else 8e-5,
        seconds=60.0 * step,
    )


@pytest.fixture
def curves() -> TrainingCurves:
    return curves_from_log(
        [row(step, 2 / step, None if step < 3 else 0.9) for step in range(1, 61)]
    )


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def line(svg: str, style: str) -> str:
    (path,) = re.findall(rf'<path class="line {style}" d="([^"]*)"', svg)
    return str(path)


def test_a_short_log_is_drawn_row_by_row(curves: TrainingCurves) -> None:
    assert curves.at == tuple(range(1, 61))
    assert curves.losses["loss"][3] == 0.5
    assert set(curves.losses) == {"loss", *TERMS}
    assert curves.separation[:3] == (None, None, 0.9)
    assert curves.source == "training.csv of the run: 60 steps, 7 epochs, 60 minutes"


def test_a_long_log_is_averaged() -> None:
    curves = curves_from_log([row(step, float(step % 2)) for step in range(1, 8 * MOST_POINTS + 1)])
    assert len(curves.at) == MOST_POINTS
    assert curves.at[-1] == 8 * MOST_POINTS
    assert set(curves.losses["loss"]) == {0.5}


def test_lines_fall_with_the_loss_and_stay_within_the_axes(curves: TrainingCurves) -> None:
    charts = training_charts(curves)
    drawn = points(line(charts.losses, "loss"))
    assert drawn[0][1] < drawn[-1][1]  # SVG counts downwards
    for svg, styles in (
        (charts.losses, ["loss", "l1-normal", "l1-anomalous", "focal", "classification"]),
        (charts.separation, ["separation"]),
        (charts.learning_rate, ["learning-rate"]),
    ):
        assert svg is not None
        width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', svg)[0])
        for style in styles:
            for x, y in points(line(svg, style)):
                assert 0 < x < width
                assert 0 < y < height
        assert "nan" not in svg
    assert charts.legend[0][1] == "loss"


def test_a_spike_of_the_first_steps_does_not_flatten_the_rest() -> None:
    spiked = curves_from_log([row(step, 50.0 if step < 3 else 0.5) for step in range(1, 101)])
    drawn = points(line(training_charts(spiked).losses, "loss"))
    top, settled = drawn[0][1], drawn[-1][1]
    assert settled - top < 200  # of 272 units: two thirds up the axis


def test_an_unknown_separation_leaves_a_gap() -> None:
    rows = [row(step, separation=None if step == 3 else 0.5) for step in range(1, 6)]
    charts = training_charts(curves_from_log(rows))
    assert charts.separation is not None
    assert line(charts.separation, "separation").count("M") == 2
    never = training_charts(curves_from_log([row(step, separation=None) for step in (1, 2)]))
    assert never.separation is None


def test_epoch_losses_give_one_line() -> None:
    charts = training_charts(curves_from_losses([0.9, 0.5, 0.4]))
    assert [name for name, _ in charts.legend] == ["sum"]
    assert ">epochs</text>" in charts.losses
    assert charts.separation is charts.learning_rate is None


@pytest.mark.parametrize("loss", [0.0, 1e-12])
def test_a_loss_of_nothing_is_drawn_all_the_same(loss: float) -> None:
    assert "nan" not in training_charts(curves_from_losses([loss, loss])).losses


@pytest.fixture
def copy(project: Project, tmp_path: Path) -> Path:
    """The project's checkpoint without what lies beside it."""
    return Path(shutil.copy(project.checkpoint, tmp_path))


def test_without_a_log_the_checkpoint_s_own_losses_are_drawn(copy: Path) -> None:
    curves = curves_beside(copy)
    assert curves is not None
    assert curves.unit == "epochs"
    assert list(curves.losses["loss"]) == load_tensors(copy)[1]["losses"]


def test_the_report_of_a_run_draws_the_log_beside_its_checkpoint(copy: Path) -> None:
    with TrainingLog(copy.parent) as log:
        for step in range(1, 13):
            log.add(Progress(
                step=step, steps=12, epoch=1, loss=1.0, terms={"focal": 1 / step},
                learning_rate=1e-3, separation=None, seconds_left=0.0,
            ))  # fmt: skip
    with one_thread():
        report = evaluate_checkpoint(open_run(copy), max_false_reject=0.5).report
    assert report.training == curves_from_log(read_training_log(copy.parent / LOG_NAME))
    page = render_report(report)
    assert "<h2>Training</h2>" in page
    assert "12 steps, 1 epoch," in page
    assert page.count('<path class="line ') == 6  # five losses and the learning rate
    numbers = report_numbers(report)["training"]
    assert isinstance(numbers, dict)
    assert numbers["at"] == tuple(range(1, 13))
    without = render_report(dataclasses.replace(report, training=None))
    assert "<h2>Training</h2>" not in without
