"""What each layer's INT8 does to the scores, and which layers are better left in float.

The yardstick is the net itself: how far the score moves from one picture to the next, in deviations
of the score over the same pictures. What moves it as far as pictures differ decides differently.
What all pictures share is no harm, since each precision has its own threshold.

Layers' errors add up like independent noise, by their squares, and a layer in INT8 saves time by
its multiplications. So layers are left in float in the order of squared harm a multiplication: what
is left of the noise is then smallest for the time that is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssn_edge_calibrate.int8_cost import multiplications
from ssn_edge_calibrate.int8_graph import Int8Form
from ssn_edge_calibrate.int8_model import (
    DEFAULT_RANGES,
    Int8Model,
    ObservedModel,
    OnProgress,
    observe_model,
)
from ssn_edge_calibrate.int8_ranges import RangeMethod
from ssn_edge_calibrate.int8_run import logits_of
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import ScoringRule
from ssn_edge_runtime.errors import CalibrationError

SENSITIVITY_PICTURES = 32
"""Pictures that a layer's effect is measured on, evenly out of those for the ranges."""
SMALLEST_DEVIATION = 1e-3
"""Of a score over the pictures; less is rounding."""
GROWTH = 1.5
"""Each try leaves so many times as many layers in float as the one before, at least one more."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What a layer in INT8, all others in float, does to the logits.

    Args:
        name: Of the layer.
        classification: Mean change of the classification logit, without its sign.
        map_max: The same of the map's maximum.
        harm: Deviation of the score's change, in deviations of the score over the pictures;
            infinite if a logit is not finite any more.
        multiplications: Of a picture, that run in INT8 with the layer.
    """

    name: str
    classification: float
    map_max: float
    harm: float
    multiplications: int

    @property
    def price(self) -> float:
        """Squared harm for each multiplication in INT8."""
        return self.harm**2 / max(self.multiplications, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Int8Search:
    """What a search for layers to leave in float ended with.

    Args:
        int8: The model that was accepted, with its report.
        float_layers: Layers left in float, those that cost most for what they save first.
        sensitivities: Of all layers, in the same order; empty if none had to be left.
        tries: Models that were offered, the accepted one among them.
    """

    int8: Int8Model
    float_layers: tuple[str, ...]
    sensitivities: tuple[LayerSensitivity, ...]
    tries: int


def layer_sensitivities(
    model: bytes,
    pixels: Sequence[ByteImage],
    *,
    ranges: RangeMethod = DEFAULT_RANGES,
    form: Int8Form = Int8Form.TENSORRT,
    rule: ScoringRule | None = None,
    judged: Sequence[ByteImage] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[LayerSensitivity, ...]:
    """Measure each layer's effect on the scores.

    Args:
        model: As exported, in float.
        pixels: Pictures for the ranges; see `ssn_edge_calibrate.int8_model.observe_model`.
        ranges: How ranges are chosen.
        form: For whom the model is.
        rule: What the score is; None for the worse of both logits.
        judged: Pictures that the effect is measured on; None for some of those for the ranges.
        on_progress: Called after each picture and each layer.

    Returns:
        Those that cost most for what they save first.

    Raises:
        CalibrationError: See `observe_model`; or the float model's own logits are not finite.
    """
    observed = observe_model(model, pixels, form=form, on_progress=on_progress)
    return _sensitivities(observed, ranges, rule, judged, on_progress)


def search_float_layers(
    model: bytes,
    pixels: Sequence[ByteImage],
    accept: Callable[[bytes], bool],
    *,
    ranges: RangeMethod = DEFAULT_RANGES,
    form: Int8Form = Int8Form.TENSORRT,
    rule: ScoringRule | None = None,
    judged: Sequence[ByteImage] | None = None,
    on_progress: OnProgress | None = None,
) -> Int8Search:
    """Leave as few layers in float as it takes for the model to be accepted.

    The first offer is all in INT8; then the layer that costs most for what it saves stays in float,
    then the first two, three, five ... of them, and at last all but one. Once one is accepted, what
    lies between it and the last refusal is halved until it is one layer.

    Args:
        model: As exported, in float.
        pixels: Pictures for the ranges; see `ssn_edge_calibrate.int8_model.observe_model`.
        accept: Given a model, says whether its decisions are good enough.
        ranges: How ranges are chosen.
        form: For whom the model is.
        rule: What the score is; None for the worse of both logits.
        judged: Pictures that harm is measured on; None for some of those for the ranges.
        on_progress: Called after each picture and each layer.

    Raises:
        CalibrationError: No model was accepted; the message names the most harmful layers.
    """
    observed = observe_model(model, pixels, form=form, on_progress=on_progress)
    offer = observed.quantised(ranges=ranges)
    if accept(offer.model):
        return Int8Search(offer, (), (), 1)
    found = _sensitivities(observed, ranges, rule, judged, on_progress)
    names = tuple(each.name for each in found)
    tries = 1

    def accepted(count: int) -> Int8Model | None:
        nonlocal tries
        tries += 1
        offer = observed.quantised(ranges=ranges, float_layers=names[:count])
        return offer if accept(offer.model) else None

    refused = 0
    for count in _growing(len(names)):
        best = accepted(count)
        if best is None:
            refused = count
            continue
        while count - refused > 1:
            middle = (count + refused) // 2
            found_fewer = accepted(middle)
            if found_fewer is None:
                refused = middle
            else:
                best, count = found_fewer, middle
        return Int8Search(best, names[:count], found, tries)
    most_harmful = sorted(found, key=lambda each: -each.harm)[:3]
    worst = ", ".join(f"{each.name} ({each.harm:.2g} deviations)" for each in most_harmful)
    raise CalibrationError(
        f"INT8 was not accepted with any of {tries} choices out of {len(names)} layers, the most "
        f"harmful being {worst}; export fp16 instead, or look at the pictures that the ranges are "
        "from: they must be of the same kind as those that are judged"
    )


def _sensitivities(
    observed: ObservedModel,
    ranges: RangeMethod,
    rule: ScoringRule | None,
    judged: Sequence[ByteImage] | None,
    on_progress: OnProgress | None,
) -> tuple[LayerSensitivity, ...]:
    pictures = _some(observed.pixels) if judged is None else judged
    wanted = logits_of(observed.model, pictures)
    if not np.isfinite(wanted).all():
        raise CalibrationError(
            "a logit of the float model is NaN or infinite; the net or its export is broken"
        )
    costs = multiplications(observed.model, observed.layers, pictures[0])
    # Layers whose input was never seen stay in float in any case.
    names = observed.quantised(ranges=ranges).report.int8_layers
    found = []
    for done, name in enumerate(names, start=1):
        others = [each for each in names if each != name]
        alone = observed.quantised(ranges=ranges, float_layers=others)
        logits = logits_of(alone.model, pictures)
        found.append(_sensitivity(name, wanted, logits, rule, costs))
        if on_progress is not None:
            on_progress("INT8 sensitivity", done, len(names))
    return tuple(sorted(found, key=lambda each: (-each.price, each.name)))


def _sensitivity(
    name: str,
    wanted: npt.NDArray[np.float64],
    found: npt.NDArray[np.float64],
    rule: ScoringRule | None,
    costs: Mapping[str, int],
) -> LayerSensitivity:
    if not np.isfinite(found).all():
        return LayerSensitivity(name, np.inf, np.inf, np.inf, costs[name])
    changes = found - wanted
    classification, map_max = (float(each) for each in np.abs(changes).mean(axis=0))
    # (scores, 2): each row weighs the logits of one score.
    weights = np.eye(2) if rule is None else np.array([[rule.classification, rule.map_max]])
    deviations = np.maximum((wanted @ weights.T).std(axis=0), SMALLEST_DEVIATION)
    harm = float(((changes @ weights.T).std(axis=0) / deviations).max())
    return LayerSensitivity(name, classification, map_max, harm, costs[name])


def _some(pixels: Sequence[ByteImage]) -> list[ByteImage]:
    """Evenly out of all."""
    count = min(SENSITIVITY_PICTURES, len(pixels))
    return [pixels[index * len(pixels) // count] for index in range(count)]


def _growing(count: int) -> Iterator[int]:
    """Numbers of layers to leave in float: 1, 2, 3, 5, ..., and last all but one."""
    tried = 1
    while tried < count - 1:
        yield tried
        tried = max(tried + 1, int(np.ceil(tried * GROWTH)))
    if count > 1:
        yield count - 1
