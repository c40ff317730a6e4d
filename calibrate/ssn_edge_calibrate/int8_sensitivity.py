"""What each layer's INT8 does to the scores, and which layers are better left in float.

The yardstick is the net itself: how far a logit moves, in deviations of that logit over the same
pictures. What moves a score as far as one picture differs from the next decides differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
from ssn_edge_runtime.errors import CalibrationError

SENSITIVITY_PICTURES = 16
"""Pictures that a layer's effect is measured on, evenly out of those for the ranges."""
SMALLEST_DEVIATION = 1e-3
"""Of a logit over the pictures; less is rounding."""
GROWTH = 1.5
"""Each try leaves so many times as many layers in float as the one before, at least one more."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What a layer in INT8, all others in float, does to the logits.

    Args:
        name: Of the layer.
        classification: Mean change of the classification logit, without its sign.
        map_max: The same of the map's maximum.
        harm: The larger of the two in deviations of its logit over the pictures; infinite if a
            logit is not finite any more.
    """

    name: str
    classification: float
    map_max: float
    harm: float


@dataclass(frozen=True, slots=True, eq=False)
class Int8Search:
    """What a search for layers to leave in float ended with.

    Args:
        int8: The model that was accepted, with its report.
        float_layers: Layers left in float, the most harmful first.
        sensitivities: Of all layers, the most harmful first; empty if none had to be left.
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
    judged: Sequence[ByteImage] | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[LayerSensitivity, ...]:
    """Measure each layer's effect on the scores.

    Args:
        model: As exported, in float.
        pixels: Pictures for the ranges; see `ssn_edge_calibrate.int8_model.observe_model`.
        ranges: How ranges are chosen.
        form: For whom the model is.
        judged: Pictures that the effect is measured on; None for some of those for the ranges.
        on_progress: Called after each picture and each layer.

    Returns:
        The most harmful first.

    Raises:
        CalibrationError: See `observe_model`; or the float model's own logits are not finite.
    """
    observed = observe_model(model, pixels, form=form, on_progress=on_progress)
    return _sensitivities(observed, ranges, judged, on_progress)


def search_float_layers(
    model: bytes,
    pixels: Sequence[ByteImage],
    accept: Callable[[bytes], bool],
    *,
    ranges: RangeMethod = DEFAULT_RANGES,
    form: Int8Form = Int8Form.TENSORRT,
    judged: Sequence[ByteImage] | None = None,
    on_progress: OnProgress | None = None,
) -> Int8Search:
    """Leave the most harmful layers in float until the model is accepted.

    The first offer is all in INT8; then the most harmful layer stays in float, then the two, three,
    five ... most harmful ones, and at last all but the least harmful one.

    Args:
        model: As exported, in float.
        pixels: Pictures for the ranges; see `ssn_edge_calibrate.int8_model.observe_model`.
        accept: Given a model, says whether its decisions are good enough.
        ranges: How ranges are chosen.
        form: For whom the model is.
        judged: Pictures that harm is measured on; None for some of those for the ranges.
        on_progress: Called after each picture and each layer.

    Raises:
        CalibrationError: No model was accepted; the message names the most harmful layers.
    """
    observed = observe_model(model, pixels, form=form, on_progress=on_progress)
    offer = observed.quantised(ranges=ranges)
    if accept(offer.model):
        return Int8Search(offer, (), (), 1)
    found = _sensitivities(observed, ranges, judged, on_progress)
    names = tuple(each.name for each in found)
    tries = 1
    for count in _growing(len(names)):
        offer = observed.quantised(ranges=ranges, float_layers=names[:count])
        tries += 1
        if accept(offer.model):
            return Int8Search(offer, names[:count], found, tries)
    worst = ", ".join(f"{each.name} ({each.harm:.2g} deviations)" for each in found[:3])
    raise CalibrationError(
        f"INT8 was not accepted with any of {tries} choices out of {len(names)} layers, the most "
        f"harmful being {worst}; export fp16 instead, or look at the pictures that the ranges are "
        "from: they must be of the same kind as those that are judged"
    )


def _sensitivities(
    observed: ObservedModel,
    ranges: RangeMethod,
    judged: Sequence[ByteImage] | None,
    on_progress: OnProgress | None,
) -> tuple[LayerSensitivity, ...]:
    pictures = _some(observed.pixels) if judged is None else judged
    wanted = logits_of(observed.model, pictures)
    if not np.isfinite(wanted).all():
        raise CalibrationError(
            "a logit of the float model is NaN or infinite; the net or its export is broken"
        )
    # Layers whose input was never seen stay in float in any case.
    names = observed.quantised(ranges=ranges).report.int8_layers
    found = []
    for done, name in enumerate(names, start=1):
        others = [each for each in names if each != name]
        alone = observed.quantised(ranges=ranges, float_layers=others)
        found.append(_sensitivity(name, wanted, logits_of(alone.model, pictures)))
        if on_progress is not None:
            on_progress("INT8 sensitivity", done, len(names))
    return tuple(sorted(found, key=lambda each: (-each.harm, each.name)))


def _sensitivity(
    name: str, wanted: npt.NDArray[np.float64], found: npt.NDArray[np.float64]
) -> LayerSensitivity:
    if not np.isfinite(found).all():
        return LayerSensitivity(name, np.inf, np.inf, np.inf)
    deviations = np.maximum(wanted.std(axis=0), SMALLEST_DEVIATION)
    changes = np.abs(found - wanted).mean(axis=0)
    classification, map_max = (float(each) for each in changes)
    return LayerSensitivity(name, classification, map_max, float((changes / deviations).max()))


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
