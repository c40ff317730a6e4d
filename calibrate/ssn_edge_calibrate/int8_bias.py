"""What rounding adds to a layer's mean output, to be taken off its bias.

Rounded weights and clipped activations shift each channel's mean; a shift that all pictures share
moves scores although nothing about the picture changed. Biases are float and take it off for free.
Each layer is measured on the input that it has in the float net, so one pass does.

Source:
    Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019,
    section 4.2 (the correction from data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ssn_edge_calibrate.int8_graph import Placement, error_graph
from ssn_edge_calibrate.int8_run import outputs_of
from ssn_edge_runtime.arrays import ByteImage, FloatArray

if TYPE_CHECKING:
    import onnx


def bias_shifts(
    model: onnx.ModelProto,
    plan: Placement,
    ranges: Mapping[str, float],
    pixels: Sequence[ByteImage],
) -> dict[str, FloatArray]:
    """Measure what must be added to each convolution's bias, (channels,), by the node's name.

    Args:
        model: In float.
        plan: Of the layers that will run in INT8.
        ranges: Of its tensors.
        pixels: (h, w, 3) uint8 each.

    Raises:
        CalibrationError: A range is missing, or the graph does not run.
    """
    measured, errors = error_graph(model, plan, ranges)
    if not errors:
        return {}
    names = list(errors.values())
    sums = [np.zeros(1)] * len(names)
    for means in outputs_of(bytes(measured.SerializeToString()), pixels, names):
        sums = [total + mean.astype(np.float64) for total, mean in zip(sums, means, strict=True)]
    return {
        node: (-total / len(pixels)).astype(np.float32)
        for node, total in zip(errors, sums, strict=True)
    }
