"""The engines there are: for each whether it can run here, its key, and how it is loaded.

Each is imported where it is needed and not before: a device has only the one that it runs.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ssn_edge_runtime.device_info import DeviceInfo, describe_device
from ssn_edge_runtime.engines.base import Engine, ModelToRun
from ssn_edge_runtime.engines.cache import EngineKey, EngineSlot, KeyValue
from ssn_edge_runtime.manifest import INT8_ONNXRUNTIME, INT8_OPENVINO

CPU_PRECISIONS = (INT8_ONNXRUNTIME, "fp32", "int8", INT8_OPENVINO, "fp16")
"""In order of preference: ONNX Runtime computes FP16, and others' INT8, by way of FP32."""
INT8_CPU_PRECISIONS = (INT8_OPENVINO, "int8", "fp32", "fp16")
"""Where INT8 really runs as INT8."""
GPU_PRECISIONS = ("int8", "fp16", "fp32")
"""The ladder: the fastest first."""


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One engine.

    Args:
        precisions: What it runs, and `auto` takes, best first.
        missing: What keeps it from running here and what to do; None if it can run.
        key: All that a plan, or a certificate, of a model depends on here.
        load: Loads a model; a plan comes from the slot.
        has_plan: Whether `ssn-edge build` must have put a plan into the slot.
        needs_certificate: Whether it decides only with a device certificate. The package's own was
            made with ONNX Runtime on a CPU, and the self-test at every opening watches over it.
        also_certified: Precisions that need one all the same.
    """

    precisions: tuple[str, ...]
    missing: Callable[[], str | None]
    key: Callable[[ModelToRun], EngineKey]
    load: Callable[[ModelToRun, EngineSlot], Engine]
    has_plan: bool = False
    needs_certificate: bool = True
    also_certified: tuple[str, ...] = ()

    def must_be_certified(self, precision: str) -> bool:
        """Whether this precision decides only with a device certificate."""
        return self.needs_certificate or precision in self.also_certified


def _tensorrt(engine: str) -> EngineKind:
    """TensorRT or TensorRT-RTX: the same interface under two names."""

    def missing() -> str | None:
        from ssn_edge_runtime.engines.tensorrt_plans import tensorrt_missing

        return tensorrt_missing(engine, _device())

    def key(model: ModelToRun) -> EngineKey:
        from ssn_edge_runtime.engines.tensorrt_library import import_tensorrt
        from ssn_edge_runtime.engines.tensorrt_plans import tensorrt_key

        return tensorrt_key(engine, import_tensorrt(engine).version, model, _device())

    def load(model: ModelToRun, slot: EngineSlot) -> Engine:
        from ssn_edge_runtime.engines.tensorrt_plans import load_tensorrt

        return load_tensorrt(engine, model, slot)

    return EngineKind(GPU_PRECISIONS, missing, key, load, has_plan=True)


def _onnxruntime_cpu(model: ModelToRun, slot: EngineSlot) -> Engine:
    from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        model.onnx,
        input_size_hw=model.input_size_hw,
        batch_size=model.batch_size,
        threads=model.threads,
        integer_biases=model.precision == INT8_ONNXRUNTIME,
    )


def _onnxruntime_cuda(model: ModelToRun, slot: EngineSlot) -> Engine:
    from ssn_edge_runtime.engines.onnxruntime import CUDA_PROVIDER, OnnxRuntimeEngine

    return OnnxRuntimeEngine(
        model.onnx,
        input_size_hw=model.input_size_hw,
        batch_size=model.batch_size,
        threads=model.threads,
        provider=CUDA_PROVIDER,
        name="onnxruntime-cuda",
    )


def _openvino(model: ModelToRun, slot: EngineSlot) -> Engine:
    from ssn_edge_runtime.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(
        model.onnx,
        input_size_hw=model.input_size_hw,
        batch_size=model.batch_size,
        threads=model.threads,
    )


def _cpu_key(engine: str, distribution: str) -> Callable[[ModelToRun], EngineKey]:
    def key(model: ModelToRun) -> EngineKey:
        device = _device()
        return EngineKey(
            {
                **_model_fields(engine, model),
                "version": _version(distribution),
                "machine": device.machine,
                "processor": device.processor,
                # Kernels are chosen by these, and with them the order of additions.
                "instruction_sets": " ".join(sorted(device.instruction_sets)),
            }
        )

    return key


def _cuda_key(model: ModelToRun) -> EngineKey:
    gpu = _device().gpu
    return EngineKey(
        {
            **_model_fields("onnxruntime-cuda", model),
            "version": _version("onnxruntime-gpu"),
            "gpu": None if gpu is None else gpu.name,
            "compute_capability": None if gpu is None else gpu.compute_capability,
            "driver": None if gpu is None else gpu.driver_version,
        }
    )


def _model_fields(engine: str, model: ModelToRun) -> dict[str, KeyValue]:
    height, width = model.input_size_hw
    return {
        "engine": engine,
        "model_sha256": model.sha256,
        "precision": model.precision,
        "height": height,
        "width": width,
        "batch_size": model.batch_size,
    }


def _nothing_missing() -> str | None:
    return None  # without ONNX Runtime, loading says what to install


def _cuda_missing() -> str | None:
    if _version("onnxruntime-gpu") is None:
        return (
            "onnxruntime-gpu is not installed; pip uninstall onnxruntime, then "
            "pip install 'ssn-edge[gpu]'"
        )
    return None if _device().gpu else "no NVIDIA GPU was found; nvidia-smi must show one"


def _openvino_missing() -> str | None:
    from ssn_edge_runtime.engines.openvino import missing

    return missing()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _device() -> DeviceInfo:
    """Once in a process: what the keys take of it does not change while one runs."""
    return describe_device()


ENGINES: dict[str, EngineKind] = {
    "tensorrt": _tensorrt("tensorrt"),
    "tensorrt-rtx": _tensorrt("tensorrt-rtx"),
    "onnxruntime-cuda": EngineKind(GPU_PRECISIONS, _cuda_missing, _cuda_key, _onnxruntime_cuda),
    "openvino": EngineKind(
        INT8_CPU_PRECISIONS, _openvino_missing, _cpu_key("openvino", "openvino"), _openvino
    ),
    "onnxruntime-cpu": EngineKind(
        CPU_PRECISIONS,
        _nothing_missing,
        _cpu_key("onnxruntime-cpu", "onnxruntime"),
        _onnxruntime_cpu,
        needs_certificate=False,
        # Its integer kernels differ from processor to processor, and older ones saturate.
        also_certified=(INT8_ONNXRUNTIME,),
    ),
}
"""What `engine=` may name, best first."""
