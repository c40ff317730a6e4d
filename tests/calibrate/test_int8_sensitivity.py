"""The layers that hurt are found, and no more than these stay in float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from ssn_edge_calibrate.int8_cost import multiplications
from ssn_edge_calibrate.int8_model import observe_model
from ssn_edge_calibrate.int8_run import logits_of
from ssn_edge_calibrate.int8_sensitivity import layer_sensitivities, search_float_layers
from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.decision import ScoringRule
from ssn_edge_runtime.errors import CalibrationError

HARMFUL = "net.backbone.second.weight"


def without_channel(bias: FloatArray) -> FloatArray:
    bias[0] = -1e4
    return bias


def with_outliers(weight: FloatArray) -> FloatArray:
    weight[:, 0] = 500.0
    return weight


@pytest.fixture(scope="module")
def harmful_model(edited: Callable[..., bytes]) -> bytes:
    """A net with a weight that only INT8 sees: its input channel is always zero.

    It stretches the steps of each output channel so far that all other weights become zero.
    """
    return edited(first_bias=without_channel, second_weight=with_outliers)


def change(model: bytes, int8: bytes, pictures: list[ByteImage]) -> float:
    return float(np.abs(logits_of(int8, pictures) - logits_of(model, pictures)).mean())


def test_a_harmful_layer_comes_first(
    harmful_model: bytes, pictures: list[ByteImage], other_pictures: list[ByteImage]
) -> None:
    found = layer_sensitivities(harmful_model, pictures, judged=other_pictures)
    observed = observe_model(harmful_model, pictures)
    assert {each.name for each in found} == {each.name for each in observed.layers}
    assert [each.price for each in found] == sorted((each.price for each in found), reverse=True)
    assert found[0].name == HARMFUL
    assert found[0].harm > 5 * found[1].harm


def test_the_search_leaves_the_harmful_layer_in_float_and_stops_there(
    harmful_model: bytes, pictures: list[ByteImage], other_pictures: list[ByteImage]
) -> None:
    offers = []

    def accept(int8: bytes) -> bool:
        offers.append(int8)
        return change(harmful_model, int8, other_pictures) < 0.03

    found = search_float_layers(harmful_model, pictures, accept)
    assert found.float_layers == (HARMFUL,)
    assert found.tries == len(offers) == 2
    assert found.int8.model == offers[-1]
    assert found.int8.report.float_layers == {HARMFUL: "chosen"}
    assert found.sensitivities[0].name == HARMFUL


@pytest.mark.parametrize("needed", [1, 4, 6])
def test_the_search_ends_with_the_fewest_layers_that_are_accepted(
    deploy_model: bytes, pictures: list[ByteImage], needed: int
) -> None:
    """Where more in float is never worse, which is what the halving takes for granted."""
    layers = len(observe_model(deploy_model, pictures).layers)
    assert layers > 11

    def accept(int8: bytes) -> bool:
        weights = sum(
            name.endswith("weight_quantised") or "weights" in name for name in stored(int8)
        )
        return weights <= layers - needed

    found = search_float_layers(deploy_model, pictures, accept)
    assert len(found.float_layers) == needed
    assert found.float_layers == tuple(each.name for each in found.sensitivities[:needed])
    assert len(found.int8.report.int8_layers) == layers - needed


def stored(int8: bytes) -> list[str]:
    """Names of the weights in INT8."""
    graph = onnx.load_from_string(int8).graph
    return [each.name for each in graph.initializer if each.name.endswith("_quantised")]


def test_harm_is_what_moves_the_score_that_decides(
    deploy_model: bytes, pictures: list[ByteImage]
) -> None:
    by_rule = {
        rule: {each.name: each for each in layer_sensitivities(deploy_model, pictures, rule=rule)}
        for rule in (None, ScoringRule.CLASSIFICATION, ScoringRule.MAP_MAX)
    }
    for name, worse in by_rule[None].items():
        harms = [by_rule[rule][name].harm for rule in by_rule if rule is not None]
        assert worse.harm == pytest.approx(max(harms), rel=1e-9)
    # The classification head's layers do nothing to the map.
    of_map = by_rule[ScoringRule.MAP_MAX]
    heads = [name for name in of_map if "classification" in name]
    assert heads
    assert all(of_map[name].harm == 0 for name in heads)


def test_multiplications_are_counted_as_by_hand(
    deploy_model: bytes, pictures: list[ByteImage]
) -> None:
    layers = observe_model(deploy_model, pictures).layers
    counts = multiplications(deploy_model, layers, pictures[0])
    assert set(counts) == {each.name for each in layers}
    # 32 x 32 pixels, strides of 2: 16, 8 and 4 to a side.
    assert counts["net.backbone.stem.weight"] == 16 * 16 * 6 * 3 * 9
    assert counts["net.backbone.second.weight"] == 8 * 8 * 8 * 8 * 9
    assert counts["net.backbone.depthwise.weight"] == 4 * 4 * 8 * 9
    assert counts["net.backbone.pointwise.weight"] == 4 * 4 * 12 * 8


def test_a_model_that_is_accepted_at_once_keeps_all_layers_in_int8(
    deploy_model: bytes, pictures: list[ByteImage]
) -> None:
    found = search_float_layers(deploy_model, pictures, lambda int8: True)
    assert (found.float_layers, found.sensitivities, found.tries) == ((), (), 1)
    assert found.int8.report.float_layers == {}


def test_a_search_without_success_names_the_most_harmful_layers(
    harmful_model: bytes, pictures: list[ByteImage]
) -> None:
    offers = []
    with pytest.raises(CalibrationError, match=rf"not accepted .*{HARMFUL} .*fp16"):
        search_float_layers(harmful_model, pictures, lambda int8: bool(offers.append(int8)))
    # All in INT8, then fewer and fewer, never the float model itself.
    assert len(offers) == len(set(offers)) > 4
    assert all(b"QuantizeLinear" in each for each in offers)


def test_ranges_from_noise_differ_and_do_more_harm(
    deploy_model: bytes,
    pictures: list[ByteImage],
    noise_pictures: list[ByteImage],
    other_pictures: list[ByteImage],
) -> None:
    own, foreign = (observe_model(deploy_model, each) for each in (pictures, noise_pictures))
    ranges = [each.quantised().report.tensors for each in (own, foreign)]
    assert all(ranges[0][name] != ranges[1][name] for name in ranges[0])
    assert own.quantised().report.pictures_sha256 != foreign.quantised().report.pictures_sha256
    harms = [
        sum(each.harm for each in layer_sensitivities(deploy_model, given, judged=other_pictures))
        for given in (pictures, noise_pictures)
    ]
    assert harms[1] > 1.5 * harms[0]


def test_equal_input_gives_equal_numbers(deploy_model: bytes, pictures: list[ByteImage]) -> None:
    one, other = (layer_sensitivities(deploy_model, pictures) for _ in range(2))
    assert one == other
