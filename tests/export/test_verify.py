from dataclasses import replace

import numpy as np
import pytest

from ssn_edge_export.verify import NetJudge, PreparedPicture, compare, require_equal
from ssn_edge_runtime.decision import Judgement, ScoringRule, Thresholds
from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine
from ssn_edge_runtime.errors import ExportError
from ssn_edge_runtime.preprocess import Geometry

GEOMETRY = Geometry((64, 64))


def judge(score, map_value=None):
    """A judge that says the same of every picture."""
    anomaly_map = np.full((64, 64), score if map_value is None else map_value, np.float32)

    def infer(_pixels, *, pixel_threshold):
        mask = (anomaly_map >= pixel_threshold).astype(np.uint8)
        return Judgement(score, float(anomaly_map.max()), anomaly_map, mask)

    return infer


def pictures(count=1):
    return [
        PreparedPicture(f"good/{index}.png", np.zeros((64, 64, 3), np.uint8), (64, 64))
        for index in range(count)
    ]


def compared(torch_judge, onnx_judge, *, image=5.0, pixel=5.0, prepared=None):
    return compare(
        torch_judge,
        onnx_judge,
        prepared or pictures(),
        thresholds=Thresholds(image, pixel),
        rule=ScoringRule.CLASSIFICATION,
        geometry=GEOMETRY,
    )


def test_an_exported_net_is_equal_to_its_net(small_net, model, surface):
    prepared = [
        PreparedPicture(f"{spots}.png", surface(spots=spots), (64, 64)) for spots in range(8)
    ]
    with OnnxRuntimeEngine(model(), input_size_hw=(64, 64)) as engine:
        comparison = compared(
            NetJudge(small_net()), engine.infer, image=0.1, pixel=0.0, prepared=prepared
        )
    require_equal(comparison)
    assert comparison.pictures == 8
    assert comparison.max_score_difference < 1e-5
    assert comparison.max_map_difference < 1e-5


@pytest.mark.parametrize(
    ("found", "is_equal"), [(2.0, True), (2.0019, True), (2.0021, False), (1.9979, False)]
)
def test_a_thousandth_of_the_value_is_allowed(found, is_equal):
    assert compared(judge(2.0), judge(found)).is_equal is is_equal
    assert compared(judge(0.0, 2.0), judge(0.0, found)).is_equal is is_equal


def test_below_one_a_thousandth_is_absolute():
    assert compared(judge(0.01), judge(0.0109)).is_equal
    assert not compared(judge(0.01), judge(0.0121)).is_equal


def test_a_flipped_verdict_is_refused_however_small_the_difference():
    comparison = compared(judge(0.5), judge(0.50001), image=0.500005)
    assert comparison.max_score_difference < 1e-4
    with pytest.raises(ExportError, match=r"1 of 1 verdicts differ.*good/0.png: pass.*fail"):
        require_equal(comparison)


def test_the_refusal_names_the_worst_picture_the_finding_the_limit_and_the_remedy():
    worse = iter([1.0, 1.25, 1.1])
    comparison = compared(
        judge(1.0),
        lambda pixels, *, pixel_threshold: judge(next(worse))(
            pixels, pixel_threshold=pixel_threshold
        ),
        prepared=pictures(3),
    )
    with pytest.raises(ExportError) as refused:
        require_equal(comparison)
    assert refused.value.exit_code == 4
    for part in ("good/1.png", "0.25", "0.001 is allowed", "No package", "Export again"):
        assert part in str(refused.value)


def test_nan_is_refused_and_says_whose(surface):
    with pytest.raises(ExportError, match="asked the exported graph"):
        compared(judge(1.0), judge(float("nan")))
    with pytest.raises(ExportError, match="asked the net"):
        compared(judge(float("nan")), judge(1.0))


def test_nothing_compared_is_not_equal():
    with pytest.raises(ExportError, match="no picture"):
        compare(
            judge(0.0),
            judge(0.0),
            [],
            thresholds=Thresholds(0, 0),
            rule=ScoringRule.MAP_MAX,
            geometry=GEOMETRY,
        )


def test_a_comparison_is_ready_for_json():
    comparison = compared(judge(0.5), judge(0.6), image=0.55)
    document = comparison.to_dict()
    assert document["pictures"] == 1
    assert document["flips"][0]["onnx_verdict"] == "fail"
    assert not comparison.is_equal
    assert replace(comparison, flips=(), tolerance=1.0).is_equal
