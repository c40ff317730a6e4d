from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.evaluation.axes import Axis, number_text, round_step, ticks
from ssn_edge.evaluation.curves import precision_recall_svg, roc_svg
from ssn_edge.evaluation.histogram import MOST_BINS, histogram_svg
from ssn_edge.evaluation.overlays import (
    PANEL_SIDE,
    HeatScale,
    fit_heat_scale,
    heat_colours,
    heat_panel,
    outline_panel,
    picture_panel,
)

scores = st.lists(st.floats(-1e4, 1e4), max_size=30)


def bars(svg: str, kind: str) -> list[tuple[float, int]]:
    """Left edge and count of each bar."""
    found = re.findall(rf'<rect class="bar {kind}" x="([\d.-]+)".*?<title>(\d+) at', svg)
    return [(float(left), int(count)) for left, count in found]


@given(scores, scores, st.floats(-100, 100))
@settings(deadline=None)
def test_the_bars_count_every_score_once_on_its_side_of_the_threshold(
    normal: list[float], anomalous: list[float], threshold: float
) -> None:
    svg = histogram_svg(normal, anomalous, threshold)
    line = float(re.findall(r'class="threshold" x1="([\d.]+)"', svg)[0])
    for kind, values in (("good", normal), ("defective", anomalous)):
        drawn = bars(svg, kind)
        assert sum(count for _, count in drawn) == len(values)
        failing = sum(value - threshold >= 0 for value in values)
        assert sum(count for left, count in drawn if left > line) == failing
    assert "nan" not in svg


def test_a_score_at_the_threshold_is_drawn_on_the_failing_side() -> None:
    svg = histogram_svg([1.5], [1.5], 1.5)
    line = float(re.findall(r'class="threshold" x1="([\d.]+)"', svg)[0])
    assert bars(svg, "good")[0][0] > line


@given(st.floats(1e-3, 1e6), st.integers(2, MOST_BINS))
def test_a_step_is_round_and_cuts_a_span_into_no_more_than_asked(span: float, count: int) -> None:
    step = round_step(span, count)
    assert span / step <= count * (1 + 1e-6)
    assert f"{step:.0e}"[0] in "125"


def test_ticks_are_round_and_within_the_axis() -> None:
    assert ticks(-7.3, 12.1, 8) == [-5, 0, 5, 10]
    assert number_text(-5.0) == "\N{MINUS SIGN}5"
    assert number_text(2.5, signed=True) == "+2.5"
    assert number_text(-0.0, signed=True) == "0"


def test_an_axis_may_be_turned_round() -> None:
    axis = Axis(0, 10, 100, 0)
    assert (axis.place(0), axis.place(10), axis.place(2.5)) == (100, 0, 75)


def test_the_roc_curve_is_straight_and_the_precision_recall_curve_steps() -> None:
    roc = roc_svg(((0, 0), (0, 0.5), (0, 1), (1, 1)), None)
    assert 'class="curve" d="M44.0 254.0L44.0 12.0L286.0 12.0"' in roc
    steps = precision_recall_svg(((0.5, 1.0), (1.0, 0.5)), (0.5, 1.0))
    assert 'class="curve" d="M44.0 12.0L165.0 12.0L165.0 133.0L286.0 133.0"' in steps
    assert steps.count("<circle") == 1


def test_curves_without_points_are_empty_frames() -> None:
    assert 'class="curve" d=""' in roc_svg((), None)
    assert 'class="curve" d=""' in precision_recall_svg((), None)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((640, 320), (320, 160, 3)), ((40, 80, 3), (160, 320, 3)), ((1, 5000), (1, 320, 3))],
)
def test_the_longer_side_of_a_panel_is_always_the_same(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    picture = np.full(shape, 100, dtype=np.uint8)
    panel = picture_panel(picture)
    assert panel.shape == expected
    assert not np.shares_memory(panel, picture)


def test_noise_on_good_parts_is_not_painted_like_a_defect() -> None:
    quiet = np.random.default_rng(0).normal(-5, 0.1, (64, 64)).astype(np.float32)
    scale = fit_heat_scale([quiet], pixel_threshold=0.0)
    assert scale.high > 2
    assert scale.share(quiet).max() < 0.1


@pytest.mark.parametrize("value", [-3.0, 0.0, 3.0, np.nan])
def test_a_flat_map_gets_a_scale_all_the_same(value: float) -> None:
    flat = np.full((4, 4), value, dtype=np.float32)
    scale = fit_heat_scale([flat], pixel_threshold=0.0)
    assert scale.low <= scale.pixel_threshold <= scale.high
    assert np.isfinite(scale.share(flat)).all()


def test_what_is_below_the_scale_keeps_the_grey_picture() -> None:
    panel = picture_panel(np.full((32, 32), 120, dtype=np.uint8))
    cold = np.full((8, 8), -9, dtype=np.float32)
    np.testing.assert_array_equal(heat_panel(panel, cold, HeatScale(-5, 5, 0)), panel)
    hot = np.full((8, 8), 9, dtype=np.float32)
    assert np.ptp(heat_panel(panel, hot, HeatScale(-5, 5, 0))[0, 0]) > 50  # a colour


def test_the_scale_of_the_legend_runs_from_dark_to_light() -> None:
    brightness = [sum(bytes.fromhex(colour[1:])) for colour in heat_colours(9)]
    assert brightness == sorted(brightness)


def test_an_outline_runs_round_the_mask_and_leaves_what_is_inside() -> None:
    panel = np.full((PANEL_SIDE, PANEL_SIDE, 3), 128, dtype=np.uint8)
    mask = np.zeros((PANEL_SIDE, PANEL_SIDE), dtype=bool)
    mask[100:140, 100:140] = True
    drawn = outline_panel(panel, mask, (255, 0, 0))
    assert (drawn[mask] == 128).all()
    assert (drawn[96, 120] == (0, 0, 255)).all()
    assert (panel == 128).all()


def test_a_defect_thinner_than_a_pixel_of_the_panel_is_still_outlined() -> None:
    panel = np.full((PANEL_SIDE, PANEL_SIDE, 3), 128, dtype=np.uint8)
    mask = np.zeros((4000, 4000), dtype=bool)
    mask[2003, 1000:3000] = True
    assert (outline_panel(panel, mask, (255, 0, 0)) == (0, 0, 255)).all(axis=2).any()
