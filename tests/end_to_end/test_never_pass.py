"""Frames and engines that can say nothing about a part never let it pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ssn_edge_runtime import Inspector, Package, Verdict, read_picture
from ssn_edge_runtime.decision import Judgement
from ssn_edge_runtime.engines.fake import FakeEngine
from tests.end_to_end.chain import FRAME_HW, Project


@pytest.fixture(scope="module")
def inspector(project: Project) -> Iterator[Inspector]:
    with Inspector.open(project.package) as opened:
        yield opened


@pytest.mark.parametrize("shape", [FRAME_HW, (*FRAME_HW, 3)])
@pytest.mark.parametrize("level", [0, 255, 128])
def test_a_black_white_or_flat_grey_frame_never_passes(
    inspector: Inspector, shape: tuple[int, ...], level: int
) -> None:
    decision = inspector.inspect(np.full(shape, level, np.uint8))
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.reason == "bad_exposure"


def test_a_good_part_in_another_frame_size_than_in_training_never_passes(
    project: Project, inspector: Inspector
) -> None:
    good = read_picture(project.data / "train" / "good" / "000.png")
    assert inspector.inspect(good).verdict is not Verdict.UNKNOWN
    decision = inspector.inspect(np.repeat(np.repeat(good, 2, axis=0), 2, axis=1))
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.reason == "frame_size"


def test_a_flat_frame_at_the_very_level_of_training_never_passes(
    project: Project, inspector: Inspector
) -> None:
    good = read_picture(project.data / "train" / "good" / "000.png")
    decision = inspector.inspect(np.full(FRAME_HW, round(float(good.mean())), np.uint8))
    assert decision.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("shape", [(0, 96), (96, 96, 4), (96,), (96, 96, 1)])
def test_what_is_no_picture_never_passes(inspector: Inspector, shape: tuple[int, ...]) -> None:
    assert inspector.inspect(np.zeros(shape, np.uint8)).verdict is Verdict.UNKNOWN


def test_no_frame_never_passes(inspector: Inspector) -> None:
    assert inspector.inspect(None).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("where", ["classification", "map maximum", "map", "all"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_engine_that_gives_no_numbers_never_passes(
    project: Project, where: str, value: float
) -> None:
    with Package.open(project.package) as package:
        manifest, package_id = package.manifest, package.package_id
    size = manifest.geometry.input_size_hw
    low = manifest.precisions["fp32"].thresholds.pixel - 5.0
    anomaly_map = np.full(size, low, np.float32)
    if where in ("map", "all"):
        anomaly_map[3, 4] = value
    judgement = Judgement(
        classification_logit=value if where in ("classification", "all") else low,
        map_max_logit=value if where in ("map maximum", "all") else low,
        anomaly_map=anomaly_map,
        defect_mask=np.zeros(size, np.uint8),
    )
    engine = FakeEngine([judgement], input_size_hw=size)
    frame = read_picture(project.data / "train" / "good" / "000.png")
    with Inspector(engine, manifest, precision="fp32", package_id=package_id) as inspector:
        decision = inspector.inspect(frame)
    assert engine.calls == 1
    assert decision.verdict is Verdict.UNKNOWN
    assert decision.reason == "invalid_output"
