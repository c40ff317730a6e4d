"""Pictures through an exported graph, here and now: its outputs, or any tensors inside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ssn_edge_runtime.arrays import ByteImage, FloatArray
from ssn_edge_runtime.engines import base
from ssn_edge_runtime.engines.onnxruntime import import_onnxruntime
from ssn_edge_runtime.errors import CalibrationError


def outputs_of(
    model: bytes, pixels: Sequence[ByteImage], names: Sequence[str]
) -> Iterator[list[FloatArray]]:
    """Run one picture after the other.

    Args:
        model: An exported graph; the tensors are among its outputs.
        pixels: (h, w, 3) uint8 each.
        names: Of the outputs that are wanted.

    Returns:
        For each picture, the tensors in the order of the names. The next picture replaces them.

    Raises:
        CalibrationError: ONNX Runtime cannot load or run the graph.
    """
    onnxruntime = import_onnxruntime()
    native = onnxruntime.capi.onnxruntime_pybind11_state
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for each in pixels:
            feeds = {
                base.PIXELS: each[None],
                base.PIXEL_THRESHOLD: np.zeros(1, np.float32),
                base.REGION_MASK: np.ones(each.shape[:2], np.uint8),
            }
            yield session.run(list(names), feeds)
    except (native.Fail, native.InvalidArgument, native.InvalidGraph, native.NotImplemented) as e:
        raise CalibrationError(
            f"ONNX Runtime does not run the graph ({str(e).splitlines()[0]}); export it again"
        ) from e


def logits_of(model: bytes, pixels: Sequence[ByteImage]) -> npt.NDArray[np.float64]:
    """Both logits of each picture, (pictures, 2): of the classification, and the map's maximum."""
    names = [base.CLASSIFICATION_LOGIT, base.MAP_MAX_LOGIT]
    return np.array(
        [[each[0] for each in outputs] for outputs in outputs_of(model, pixels, names)],
        dtype=np.float64,
    ).reshape(-1, 2)
