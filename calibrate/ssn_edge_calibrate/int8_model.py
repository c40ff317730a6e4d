"""An exported graph in INT8, by ranges from the user's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ssn_edge_calibrate.int8_bias import bias_shifts
from ssn_edge_calibrate.int8_equalisation import channel_sizes, equalised, extreme_pictures
from ssn_edge_calibrate.int8_graph import Int8Form, Placement, placement, quantised_graph
from ssn_edge_calibrate.int8_layers import Int8Layer, Wiring, int8_layers
from ssn_edge_calibrate.int8_pictures import checked_pictures
from ssn_edge_calibrate.int8_ranges import MagnitudeHistogram, RangeMethod, range_of
from ssn_edge_calibrate.int8_run import logits_of, outputs_of
from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.errors import CalibrationError

if TYPE_CHECKING:
    import onnx

DEFAULT_RANGES = RangeMethod.RETURN_LEVEL
"""Nothing that was seen is clipped, nor what is to be expected of the next pictures: clipped values
are the far ones, and a defect is far. Percentiles, entropy and squares clip; on all trained nets
looked at they did worse (README)."""

BIAS_PICTURES = 32
"""Pictures that biases are corrected on, as many as there must be at the least."""

SIZE_PICTURES = 64
"""Pictures that channels are equalised by, at most, evenly out of those for the ranges."""
SAME_LOGITS = 1e-3
"""Relative to the larger of 1 and the logit: more is no rounding."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is done, how many of it are, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class Int8Report:
    """What runs in INT8 and by which numbers.

    Args:
        ranges: How each range was chosen.
        pictures: Pictures that the ranges are from.
        pictures_sha256: Of their pixels.
        copies: Pictures left out because they were given twice.
        blank: Pictures left out because all their pixels are alike.
        int8_layers: Layers that run in INT8, by their weights' names.
        float_layers: Layers that could and do not, each with the reason.
        tensors: Range and largest magnitude seen of each quantised tensor.
        equalised: Tensors whose channels were scaled to one another first.
    """

    ranges: RangeMethod
    pictures: int
    pictures_sha256: str
    copies: int
    blank: int
    int8_layers: tuple[str, ...]
    float_layers: Mapping[str, str]
    tensors: Mapping[str, tuple[float, float]]
    equalised: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """All of it by name, ready for JSON."""
        return {
            "ranges": self.ranges.value,
            "pictures": self.pictures,
            "pictures_sha256": self.pictures_sha256,
            "copies": self.copies,
            "blank": self.blank,
            "int8_layers": list(self.int8_layers),
            "float_layers": dict(self.float_layers),
            "equalised": list(self.equalised),
            "tensors": {
                name: {"range": chosen, "largest": largest}
                for name, (chosen, largest) in self.tensors.items()
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class Int8Model:
    """A model with Q/DQ nodes, and what was decided for it.

    Args:
        model: Serialised ONNX; what is not in INT8 is in float32.
        report: What is in INT8.
    """

    model: bytes
    report: Int8Report


@dataclass(frozen=True, slots=True, eq=False)
class ObservedModel:
    """A float model with what its tensors were seen to hold; quantises any number of times.

    Args:
        model: Serialised ONNX, in float, with its channels equalised.
        layers: Those that can run in INT8.
        histograms: Of every tensor that may be quantised.
        pixels: Pictures that they are from.
        pictures_sha256: Of these pictures.
        copies: Pictures left out because they were given twice.
        blank: Pictures left out because all their pixels are alike.
        form: For whom it will be quantised.
        equalised: Tensors whose channels were scaled to one another.
    """

    model: bytes
    layers: tuple[Int8Layer, ...]
    histograms: Mapping[str, MagnitudeHistogram]
    pixels: tuple[ByteImage, ...]
    pictures_sha256: str
    copies: int
    blank: int
    form: Int8Form = Int8Form.TENSORRT
    equalised: tuple[str, ...] = ()
    _shifts: dict[RangeMethod, dict[str, FloatArray]] = field(default_factory=dict, init=False)

    def quantised(
        self, *, ranges: RangeMethod = DEFAULT_RANGES, float_layers: Collection[str] = ()
    ) -> Int8Model:
        """The model in INT8, but for some layers.

        Raises:
            CalibrationError: A name is no layer's, or no layer is left.
        """
        left = {name: "chosen" for name in sorted(set(float_layers))}
        for layer in self.layers:
            if not self._silent.isdisjoint(layer.inputs):
                left.setdefault(layer.name, "its input was zero in all pictures")
        model = _parsed(self.model)
        plan = self._plan(model, left)
        chosen = {name: range_of(self.histograms[name], ranges) for name in plan.tensors}
        result = quantised_graph(model, plan, chosen, self._bias_shifts(model, ranges))
        return Int8Model(
            model=bytes(result.SerializeToString(deterministic=True)),
            report=Int8Report(
                ranges=ranges,
                pictures=len(self.pixels),
                pictures_sha256=self.pictures_sha256,
                copies=self.copies,
                blank=self.blank,
                int8_layers=tuple(each.name for each in plan.layers),
                float_layers=left,
                tensors={
                    name: (value, self.histograms[name].largest) for name, value in chosen.items()
                },
                equalised=self.equalised,
            ),
        )

    def _plan(self, model: onnx.ModelProto, float_layers: Collection[str]) -> Placement:
        unsigned = [name for name, each in self.histograms.items() if not each.is_signed]
        return placement(
            model, float_layers, silent=self._silent, unsigned=unsigned, form=self.form
        )

    def _bias_shifts(self, model: onnx.ModelProto, ranges: RangeMethod) -> dict[str, FloatArray]:
        """Of every layer: a layer's own error does not depend on which others are in INT8."""
        if ranges not in self._shifts:
            silent = [each.name for each in self.layers if not self._silent.isdisjoint(each.inputs)]
            plan = self._plan(model, silent)
            chosen = {name: range_of(self.histograms[name], ranges) for name in plan.tensors}
            pixels = self.pixels[:BIAS_PICTURES]
            self._shifts[ranges] = bias_shifts(model, plan, chosen, pixels)
        return self._shifts[ranges]

    @property
    def _silent(self) -> set[str]:
        """Tensors that were zero in all pictures: nobody knows how far they reach."""
        return {name for name, each in self.histograms.items() if not each.largest}


def observe_model(
    model: bytes,
    pixels: Sequence[ByteImage],
    *,
    form: Int8Form = Int8Form.TENSORRT,
    equalise: bool = True,
    on_progress: OnProgress | None = None,
) -> ObservedModel:
    """Run pictures through a float model and count what its tensors hold, picture by picture.

    Args:
        model: As exported, deploy or reference graph.
        pixels: (h, w, 3) uint8 each, BGR, preprocessed: of the training part of the user's own
            data, and of nothing else.
        form: For whom it will be quantised.
        equalise: Whether channels are scaled to one another first.
        on_progress: Called after each picture.

    Raises:
        CalibrationError: Too few pictures, a tensor that is not finite, or a graph without layers.
    """
    parsed = _parsed(model)
    pictures = checked_pictures(pixels, size_hw=_size_hw(parsed))
    parsed, scaled = _equalised(parsed, pictures.pixels) if equalise else (parsed, ())
    plan = placement(parsed, form=form)
    histograms = {name: MagnitudeHistogram() for name in plan.tensors}
    watched = _with_outputs(parsed, plan.tensors)
    count = len(pictures.pixels)
    for done, values in enumerate(outputs_of(watched, pictures.pixels, plan.tensors), start=1):
        for (name, histogram), each in zip(histograms.items(), values, strict=True):
            try:
                histogram.add(each)
            except CalibrationError as error:
                raise CalibrationError(
                    f"tensor {name} of the net: {error}; the net or its export is broken"
                ) from error
        if on_progress is not None:
            on_progress("INT8 ranges", done, count)
    _bound_by_pixels(parsed, histograms, pictures.pixels[0])
    return ObservedModel(
        model=bytes(parsed.SerializeToString(deterministic=True)),
        layers=int8_layers(Wiring(parsed.graph)),
        histograms=histograms,
        pixels=pictures.pixels,
        pictures_sha256=pictures.sha256,
        copies=pictures.copies,
        blank=pictures.blank,
        form=form,
        equalised=scaled,
    )


def int8_from_fp32(
    model: bytes,
    pixels: Sequence[ByteImage],
    *,
    ranges: RangeMethod = DEFAULT_RANGES,
    float_layers: Collection[str] = (),
    form: Int8Form = Int8Form.TENSORRT,
    on_progress: OnProgress | None = None,
) -> Int8Model:
    """An exported graph in INT8.

    Args:
        model: As exported, in float.
        pixels: See `observe_model`.
        ranges: How ranges are chosen.
        float_layers: Names of layers that stay in float, such as `search_float_layers` found.
        form: For whom; TensorRT and OpenVINO share one, ONNX Runtime on a CPU needs another.
        on_progress: Called after each picture.

    Raises:
        CalibrationError: See `observe_model` and `ObservedModel.quantised`.
    """
    observed = observe_model(model, pixels, form=form, on_progress=on_progress)
    return observed.quantised(ranges=ranges, float_layers=float_layers)


def _bound_by_pixels(
    model: onnx.ModelProto, histograms: Mapping[str, MagnitudeHistogram], like: ByteImage
) -> None:
    """Tell the tensors that no layer stands in front of how far pixels can drive them."""
    depth = Wiring(model.graph).weight_depth
    names = [name for name in histograms if not depth[name]]
    if not names:
        return
    for values in outputs_of(_with_outputs(model, names), extreme_pictures(like), names):
        for name, each in zip(names, values, strict=True):
            histograms[name].bound = max(histograms[name].bound, float(np.abs(each).max()))


def _equalised(
    model: onnx.ModelProto, pixels: Sequence[ByteImage]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with its channels equalised, unless that is not the same function."""
    layers = int8_layers(Wiring(model.graph))
    count = min(SIZE_PICTURES, len(pixels))
    some = [pixels[index * len(pixels) // count] for index in range(count)]
    result, scaled = equalised(model, layers, channel_sizes(model, layers, some))
    before, after = (
        logits_of(bytes(each.SerializeToString()), some[:2]) for each in (model, result)
    )
    # A graph of another make may hold what the rules do not know; then it stays as it is.
    if not (np.abs(after - before) <= SAME_LOGITS * np.maximum(1, np.abs(before))).all():
        return model, ()
    return result, scaled


def _parsed(model: bytes) -> onnx.ModelProto:
    import onnx

    return onnx.load_from_string(model)


def _size_hw(model: onnx.ModelProto) -> tuple[int, int]:
    for each in model.graph.input:
        sides = [side.dim_value for side in each.type.tensor_type.shape.dim]
        if each.name == base.PIXELS and len(sides) == 4 and sides[1] and sides[2]:
            return int(sides[1]), int(sides[2])
    raise CalibrationError(
        f"the graph has no input {base.PIXELS} of (B, h, w, 3) with h and w fixed; hand over a "
        "graph that ssn-edge exported"
    )


def _with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> bytes:
    """A copy that gives these float tensors, too."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in tensors:
        copy.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    return bytes(copy.SerializeToString())
