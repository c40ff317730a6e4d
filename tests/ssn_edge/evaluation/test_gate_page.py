"""The gate's page says what was refused, shows the worst pictures, and loads nothing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ssn_edge.evaluation.gate_page import render_gate_page, write_gate_page
from ssn_edge_export import GateLimits, GateReport, Refusal
from ssn_edge_export.gate_columns import Column, ColumnReport, Differences, Flip
from ssn_edge_export.gate_metrics import MetricChange
from ssn_edge_export.gate_worst import View, WorstPicture
from ssn_edge_runtime.decision import Thresholds


def column(precision: str, flips: tuple[Flip, ...] = ()) -> ColumnReport:
    return ColumnReport(
        column=Column(precision, "deploy-1", "openvino"),
        thresholds=Thresholds(0.5, 0.5),
        pictures=20,
        unjudged=(),
        shift=0.25,
        logits=0.1,
        map_relative=0.2,
        score=Differences(0.31, 0.3, 0.1),
        maps=Differences(0.62, 0.6, 0.2),
        mask_share=0.01,
        margin=0.05,
        flips=flips,
        metrics=(MetricChange("I-AUROC", 0.99, 0.985, (-0.012, 0.001)),),
        noise=0.1,
        spread=0.2,
        worst_score="bad/<1>.png",
        worst_map="bad/<1>.png",
    )


@pytest.fixture
def report() -> GateReport:
    rng = np.random.default_rng(0)
    anomaly_map = rng.normal(size=(32, 32)).astype(np.float32)
    mask = anomaly_map > 1
    flip = Flip("bad/<1>.png", 1, "fail", "pass", 0.4, -0.2, True)
    views = (
        View("trained net in torch", "fail", 0.4, anomaly_map, mask),
        View("int8 deploy-1 on openvino", "pass", -0.2, anomaly_map - 1, mask & False),
        View("fp16 deploy-1 on openvino", "unknown", None, None, None, "the engine gave nan"),
    )
    return GateReport(
        name="tiles",
        columns=(column("fp16"), column("int8", (flip,))),
        skipped=(("fp32 deploy-1 on openvino", "cannot load"),),
        refusals=(Refusal("int8", "INT8 does not decide as the net"),),
        worst=(
            WorstPicture(
                "bad/<1>.png",
                1,
                rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
                ("another verdict by int8",),
                mask,
                views,
            ),
        ),
        limits=GateLimits(),
        pictures={"test normal": 12, "test anomalous": 8},
        pixel_threshold=0.5,
        notes=("int8: all layers in INT8",),
    )


def test_the_page_says_what_was_refused_and_why(report: GateReport) -> None:
    page = render_gate_page(report)
    assert "INT8 does not decide as the net" in page
    assert "cannot load" in page
    assert "int8: all layers in INT8" in page
    assert "\N{MINUS SIGN}0.50 (\N{MINUS SIGN}1.20 to +0.10)" in page


def test_the_worst_picture_is_shown_by_every_judge(report: GateReport) -> None:
    page = render_gate_page(report)
    assert len(re.findall(r'<img src="data:image/jpeg', page)) == 3  # input, net and one model
    assert "the engine gave nan" in page
    assert page.count('class="turned"') == 2


def test_a_name_is_text_and_nothing_is_loaded(report: GateReport) -> None:
    page = render_gate_page(report)
    assert "bad/&lt;1&gt;.png" in page
    assert "<1>" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page


def test_a_page_without_pictures_is_a_page(report: GateReport, tmp_path: Path) -> None:
    empty = GateReport("tiles", (), (), (), (), GateLimits(), {}, 0.0)
    path = write_gate_page(empty, tmp_path / "part.gate.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]
