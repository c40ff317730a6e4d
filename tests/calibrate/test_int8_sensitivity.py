"""The layers that hurt are found, and no more than these stay in float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ssn_edge_calibrate.int8_model import observe_model
from ssn_edge_calibrate.int8_run import logits_of
from ssn_edge_calibrate.int8_sensitivity import layer_sensitivities, search_float_layers
from ssn_edge_runtime.arrays import ByteImage, FloatArray
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
    assert [each.harm for each in found] == sorted((each.harm for each in found), reverse=True)
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
