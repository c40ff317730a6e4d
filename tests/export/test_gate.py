"""What the gate calls a difference, a flip, a fall; and what it refuses."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_export.gate_columns import Column, ColumnReport, compare
from ssn_edge_export.gate_held_out import ImageScores, score_held_out
from ssn_edge_export.gate_judged import Judged, judge_pictures
from ssn_edge_export.gate_limits import GateLimits, spread_of
from ssn_edge_export.gate_metrics import MetricChange, image_changes
from ssn_edge_export.gate_pictures import GatePicture, Part, choose_pictures
from ssn_edge_export.gate_tolerance import Seen, seen_between, tolerance_of
from ssn_edge_export.gate_worst import worst_pictures
from ssn_edge_export.scoring import LabelledPicture, ScoredPicture
from ssn_edge_runtime.decision import Judgement, ScoringRule, Thresholds, Verdict
from ssn_edge_runtime.errors import ConfigError, EngineError, ExportError
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.preprocess import Geometry

SIDE = 32
GEOMETRY = Geometry((SIDE, SIDE))
RULE = ScoringRule.CLASSIFICATION
LIMITS = GateLimits()


def pictures(labels: list[int]) -> list[GatePicture]:
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    return [
        GatePicture(f"part/{index}.png", label, Part.TEST, pixels, (SIDE, SIDE))
        for index, label in enumerate(labels)
    ]


def judged(scores: list[float], threshold: float = 0.0, maps: list[float] | None = None) -> Judged:
    """By a judge that gives these scores, and maps of one value each."""
    values = iter(zip(scores, maps or scores, strict=True))

    def judge(_pixels, *, pixel_threshold):
        score, value = next(values)
        anomaly_map = np.full((SIDE, SIDE), value, np.float32)
        mask = (anomaly_map >= pixel_threshold).astype(np.uint8)
        return Judgement(score, value, anomaly_map, mask)

    return judge_pictures(
        judge,
        pictures([0] * len(scores)),
        thresholds=Thresholds(threshold, threshold),
        rule=RULE,
        geometry=GEOMETRY,
    )


def report(
    net: Judged,
    model: Judged,
    labels: list[int] | None = None,
    *,
    precision: str = "int8",
    limits: GateLimits = LIMITS,
    spread: float = 1.0,
) -> ColumnReport:
    return compare(
        Column(precision, "deploy-1", "openvino"),
        net,
        model,
        pictures(labels or [0] * len(net.verdicts)),
        rule=RULE,
        limits=limits,
        spread=spread,
    )


SCORES = [-3.0, -2.0, -1.0, 1.0, 2.0]


def test_a_model_that_is_the_net_has_no_differences():
    found = report(judged(SCORES), judged(SCORES), [0, 0, 0, 1, 1])
    assert found.findings(LIMITS) == ()
    assert (found.score.largest, found.maps.largest, found.flips) == (0, 0, ())
    assert [(each.name, each.change_points) for each in found.metrics] == [
        ("I-AUROC", 0),
        ("AP-det", 0),
    ]


def test_a_shift_of_all_scores_and_the_threshold_is_no_difference():
    found = report(judged(SCORES), judged([each + 5 for each in SCORES], threshold=5.0))
    assert found.score.largest == pytest.approx(0)
    assert found.shift == 5
    assert not found.flips


def test_a_shift_without_its_threshold_is():
    found = report(judged(SCORES), judged([each + 5 for each in SCORES]))
    assert [flip.picture for flip in found.flips] == [f"part/{index}.png" for index in (0, 1, 2)]
    assert "3 of 5 verdicts differ" in " ".join(found.findings(LIMITS))


def test_a_flip_within_the_margin_is_let_pass_and_shown():
    found = report(judged([-0.1, *SCORES]), judged([0.1, *SCORES]))
    assert found.margin == pytest.approx(0.2, abs=0.01)
    (flip,) = found.flips
    assert not flip.is_outside
    assert found.findings(LIMITS) == ()


def test_a_flip_beyond_the_margin_is_refused_with_numbers_and_name():
    found = report(judged([-0.4, *SCORES]), judged([0.1, *SCORES]))
    assert found.margin == 0.25  # the cap: a quarter of the spread
    (finding,) = found.findings(LIMITS)
    assert finding == (
        "1 of 6 verdicts differ, none may beyond 0.25 from the threshold; first part/0.png: pass "
        "(-0.4 from the threshold) became fail (+0.1)"
    )


def test_with_the_cap_at_zero_any_flip_is_refused():
    strict = GateLimits(max_flip_margin=0)
    found = report(judged([-0.001, *SCORES]), judged([0.001, *SCORES]), limits=strict)
    assert "1 of 6 verdicts differ, none may;" in found.findings(strict)[0]


def test_in_fp32_any_flip_and_a_thousandth_are_refused():
    near = report(judged([-1e-4, *SCORES]), judged([1e-4, *SCORES]), precision="fp32")
    assert "1 of 6 verdicts differ, none may;" in near.findings(LIMITS)[0]
    off = report(judged(SCORES), judged([-3.004, *SCORES[1:]]), precision="fp32")
    assert off.findings(LIMITS) == (
        "its score differs by 0.00133 on part/0.png, 0.001 is allowed",
        "its map differs by 0.00133 on part/0.png, 0.001 is allowed",
    )
    assert (
        report(judged(SCORES), judged([-3.002, *SCORES[1:]]), precision="fp32").findings(LIMITS)
        == ()
    )


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e9])
def test_what_gives_no_verdict_is_refused_and_shown(broken):
    found = report(judged(SCORES), judged([*SCORES[:4], broken]))
    assert found.unjudged[0][0] == "part/4.png"
    assert "1 of 5 pictures get no verdict, first part/4.png" in found.findings(LIMITS)[0]


def test_an_engine_that_fails_on_a_picture_gives_no_verdict():
    def fails(_pixels, *, pixel_threshold):
        raise EngineError("out of memory")

    model = judge_pictures(
        fails, pictures([0]), thresholds=Thresholds(0, 0), rule=RULE, geometry=GEOMETRY
    )
    assert model.verdicts == (Verdict.UNKNOWN,)
    assert "out of memory" in report(judged([1.0]), model).findings(LIMITS)[0]


def test_a_net_that_gives_no_score_is_no_measure():
    with pytest.raises(ExportError, match=r"part/0\.png: asked the net"):
        report(judged([float("nan")]), judged([0.0]))


def test_nothing_compared_is_not_equal():
    with pytest.raises(ExportError, match="no picture"):
        report(judged([]), judged([]))


def test_a_model_that_finds_nothing_is_refused_even_where_no_picture_is_anomalous():
    rng = np.random.default_rng(0)
    scores = rng.normal(-5, 1, 50).tolist()
    found = report(judged(scores), judged([-5.0] * 50), spread=spread_of(scores))
    assert not found.flips
    assert not found.metrics
    assert "normal pictures change by" in found.findings(LIMITS)[0]


def test_a_fall_that_the_pictures_can_tell_is_refused():
    """Of 4000 pictures 40 normal ones take the highest scores: a fall of one point."""
    labels = np.array([0] * 2000 + [1] * 2000)
    net = np.arange(4000, dtype=np.float64)
    model = net.copy()
    model[:40] = 5000 + np.arange(40)
    (auroc, ap_det) = image_changes(labels, net, model)
    assert auroc.change_points == pytest.approx(-2, abs=1e-6)
    assert auroc.is_beyond(0.2)
    assert ap_det.is_beyond(0.2)
    assert not auroc.is_beyond(5)


def test_a_fall_by_one_picture_of_few_is_an_accident():
    labels = np.array([0] * 10 + [1] * 10)
    net = np.arange(20, dtype=np.float64)
    model = net.copy()
    model[9] = 15.5
    auroc, _ = image_changes(labels, net, model)
    assert auroc.change_points == pytest.approx(-6)
    assert not auroc.can_tell(0.2)
    assert not auroc.is_beyond(0.2)


@pytest.mark.parametrize(
    ("interval", "is_beyond"),
    [((-0.004, -0.001), True), ((-0.004, 0.001), False), ((-0.0039, -0.0005), True)],
)
def test_where_too_few_can_tell_only_a_fall_that_is_no_accident_counts(interval, is_beyond):
    assert MetricChange("I-AUROC", 0.99, 0.987, interval).is_beyond(0.2) is is_beyond


def test_one_label_has_no_metrics():
    assert image_changes(np.zeros(3, np.int64), np.arange(3.0), np.arange(3.0)) == ()


def test_one_outlier_does_not_widen_the_margin():
    scores = [float(each) for each in range(20)]
    assert spread_of([*scores, 1e4]) < 1.3 * spread_of(scores)
    assert spread_of([1.0]) == 0


@pytest.mark.parametrize(
    "limits",
    [{"max_flip_margin": 3.0}, {"metric_points": -1}, {"max_pictures": 2}, {"exact": float("nan")}],
)
def test_limits_that_limit_nothing_are_refused(limits):
    with pytest.raises(ConfigError):
        GateLimits(**limits)


def tolerance(seen: Seen, spread: float = 1.0):
    return tolerance_of(
        seen, limits=LIMITS, spread=spread, thresholds=Thresholds(1.0, 0.0), rule=RULE
    )


def test_a_device_may_differ_by_twice_what_was_seen_here():
    assert tolerance(Seen(0.01, 0.004)).score == 0.02
    assert tolerance(Seen(0.01, 0.004)).mask_share == 0.008


def test_but_no_score_may_move_farther_than_the_margin_unless_an_engine_here_did():
    cap = 0.25 / 2  # at the threshold of 1, a logit may differ by twice the tolerance
    assert tolerance(Seen(0.1)).score == pytest.approx(cap)
    assert tolerance(Seen(0.2)).score == pytest.approx(0.202)


def test_nobody_is_allowed_less_than_fp32():
    assert tolerance(Seen()).score == 1e-3


def test_seen_is_the_largest_of_both_logits():
    deciding, other = judged([1.0, 2.0]), judged([1.0, 2.3], maps=[1.0, 2.6])
    assert seen_between(deciding, other).score == pytest.approx(0.2)


def test_pictures_that_refuse_a_precision_are_shown_first():
    flips = report(judged([-0.9, *SCORES]), judged([0.9, *SCORES]))
    same = replace(report(judged(SCORES), judged(SCORES)), worst_score="part/1.png")
    shown = worst_pictures([same, flips])
    assert next(iter(shown)) == "part/0.png"
    assert shown["part/0.png"][0] == "another verdict by int8 deploy-1 on openvino"
    assert "part/1.png" in shown


def scored(label: int, count: int, name: str) -> list[ScoredPicture]:
    return [
        ScoredPicture(LabelledPicture(Path(f"{name}/{index}.png"), label), index / count, 0.0)
        for index in range(count)
    ]


def chosen(calibration: list[ScoredPicture], test: list[ScoredPicture]) -> Counter[str]:
    found = choose_pictures(
        calibration,
        test,
        [LabelledPicture(Path(f"train/{index}.png"), 0) for index in range(20)],
        rule=RULE,
        threshold=0.5,
        most=40,
        input_size_hw=(SIDE, SIDE),
    )
    assert len({each.picture.path for each in found}) == len(found)
    return Counter(f"{each.part.value} {each.picture.label}" for each in found)


def test_pictures_are_half_of_each_label_and_of_each_part():
    calibration = scored(0, 50, "a") + scored(1, 50, "b")
    test = scored(0, 50, "c") + scored(1, 50, "d")
    assert set(chosen(calibration, test).values()) == {10}
    assert chosen(calibration[:53], test) == {
        "calibration 0": 10, "calibration 1": 3, "test 0": 10, "test 1": 17,
    }  # fmt: skip


def test_without_a_test_part_the_calibration_part_is_all_there_is():
    assert chosen(scored(0, 50, "a"), []) == {"calibration 0": 40}


def test_training_pictures_fill_up_only_where_too_few_are_held_out():
    assert chosen(scored(0, 3, "a"), []) == {"calibration 0": 3, "training 0": 5}
    assert chosen(scored(0, 8, "a"), []) == {"calibration 0": 8}


@given(
    points=st.floats(0.01, 2.0),
    distance=st.floats(0.01, 4.0),
)
def test_noise_within_the_metric_points_cannot_lower_i_auroc_further(points, distance):
    share = GateLimits(metric_points=points).noise_within_metric_points
    normal = NormalDist()
    fall = normal.cdf(distance) - normal.cdf(distance / math.sqrt(1 + share**2))
    assert 100 * fall <= points * 1.001


def test_the_limit_of_noise_is_no_stricter_than_it_must_be():
    share = GateLimits(metric_points=0.2).noise_within_metric_points
    normal = NormalDist()
    falls = [
        normal.cdf(each / 100) - normal.cdf(each / 100 / math.sqrt(1 + share**2))
        for each in range(1, 400)
    ]
    assert 100 * max(falls) > 0.19


class Scores:
    """An engine that gives these scores in turn."""

    def __init__(self, scores: list[float]) -> None:
        self._scores = iter(scores)

    def infer(self, _pixels, *, pixel_threshold):
        score = next(self._scores)
        anomaly_map = np.full((SIDE, SIDE), score, np.float32)
        return Judgement(
            score, score, anomaly_map, (anomaly_map >= pixel_threshold).astype(np.uint8)
        )


@pytest.fixture
def held_out(tmp_path: Path) -> list[ScoredPicture]:
    path = tmp_path / "part.png"
    path.write_bytes(encode_png(np.zeros((SIDE, SIDE, 3), np.uint8)))
    return [
        ScoredPicture(LabelledPicture(path, label), score, score)
        for label, score in ((0, -2.0), (0, -1.0), (1, 1.0), (1, 2.0))
    ]


def over_all(scores: list[float], held_out: list[ScoredPicture]) -> ImageScores:
    return score_held_out(
        Scores(scores), held_out, rule=RULE, geometry=GEOMETRY, on_progress=lambda *_: None
    )


def test_the_metrics_are_over_all_held_out_pictures(held_out):
    few = report(judged(SCORES), judged(SCORES), [0, 0, 0, 1, 1])
    found = over_all([-2.0, 3.0, 1.0, 2.0], held_out).in_report(few)
    auroc = next(each for each in found.metrics if each.name == "I-AUROC")
    assert (auroc.of_net, auroc.of_model) == (1.0, 0.5)
    assert [each.name for each in found.metrics].count("I-AUROC") == 1


def test_a_held_out_picture_without_a_score_is_a_finding(held_out):
    few = report(judged(SCORES), judged(SCORES), [0, 0, 0, 1, 1])
    found = over_all([-2.0, float("nan"), 1.0, 2.0], held_out).in_report(few)
    assert "get no verdict, first held-out pictures" in " ".join(found.findings(LIMITS))
