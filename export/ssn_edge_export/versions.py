"""Versions of what takes part in an export, by name."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

import cv2
import numpy as np
import onnx
import torch

from ssn_edge_runtime.engines.onnxruntime import import_onnxruntime


def versions_here() -> dict[str, str]:
    """Of this interpreter; OpenVINO's only where it is installed."""
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": import_onnxruntime().__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
    }
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["openvino"] = importlib.metadata.version("openvino")
    return versions
