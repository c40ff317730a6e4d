"""Plans of this device: whether one can be built here, the key that it depends on, loading it.

Source:
    NVIDIA TensorRT support matrix: a plan fits one build of the library, one kind of GPU, one
    platform, and there is no test for it but loading.
"""

from __future__ import annotations

from ssn_edge_runtime.device_info import DeviceInfo
from ssn_edge_runtime.engines.base import ModelToRun
from ssn_edge_runtime.engines.cache import EngineKey, EngineSlot, KeyValue
from ssn_edge_runtime.engines.cuda_device import CudaDevice
from ssn_edge_runtime.engines.tensorrt import TensorRtEngine
from ssn_edge_runtime.engines.tensorrt_build import RECIPE
from ssn_edge_runtime.engines.tensorrt_library import MODULES, import_tensorrt
from ssn_edge_runtime.errors import ConfigError, EngineError

AUTO = "auto"


def tensorrt_missing(engine: str, device: DeviceInfo) -> str | None:
    """What keeps an engine from being built and run here, and what to do; None if nothing does."""
    if device.gpu is None:
        return "no NVIDIA GPU was found; nvidia-smi must show one"
    try:
        import_tensorrt(engine)
    except EngineError as error:
        return str(error)
    return None


def choose_tensorrt(engine: str, device: DeviceInfo) -> str:
    """The one that was asked for, or for `auto` the first that can be built here.

    Raises:
        ConfigError: An engine that has no plans.
        EngineError: It cannot be built here; what is missing.
    """
    if engine not in (AUTO, *MODULES):
        raise ConfigError(
            f"engine {engine!r} has no plan to build; choose auto, {' or '.join(MODULES)}"
        )
    problems = {each: tensorrt_missing(each, device) for each in MODULES if engine in (AUTO, each)}
    for each, problem in problems.items():
        if problem is None:
            return each
    raise EngineError("; ".join(dict.fromkeys(each for each in problems.values() if each)))


def tensorrt_key(
    engine: str, version: str, model: ModelToRun, device: DeviceInfo, *, recipe: int = RECIPE
) -> EngineKey:
    """All that a plan depends on, but for how hard the builder was asked to try.

    Memory limit and effort stand beside the plan: a run takes the plan that was built last, and a
    build with others builds again.

    Args:
        engine: ``tensorrt`` or ``tensorrt-rtx``.
        version: Of the library, all of its numbers.
        model: Which file, size and batch.
        device: Which GPU, driver and Jetson Linux.
        recipe: Of our builder.
    """
    gpu = device.gpu
    height, width = model.input_size_hw
    fields: dict[str, KeyValue] = {
        "engine": engine,
        "library_version": version,
        "recipe": recipe,
        "model_sha256": model.sha256,
        "precision": model.precision,
        "height": height,
        "width": width,
        "batch_size": model.batch_size,
        "machine": device.machine,
        "jetson_linux": device.l4t_line,
        "gpu": None if gpu is None else gpu.name,
        "compute_capability": None if gpu is None else gpu.compute_capability,
        # Differs between variants of one module, and between a Jetson's power modes.
        "sm_count": None if gpu is None else gpu.sm_count,
        "driver": None if gpu is None else gpu.driver_version,
        "cuda": None if gpu is None else gpu.cuda_version,
        "dla_core": None,  # not used in this version
    }
    return EngineKey(fields)


def load_tensorrt(
    engine: str, model: ModelToRun, slot: EngineSlot, *, cuda: CudaDevice | None = None
) -> TensorRtEngine:
    """Load the plan that this device built.

    Args:
        engine: ``tensorrt`` or ``tensorrt-rtx``.
        model: What it must be of.
        slot: Where its plan is.
        cuda: What CUDA is reached by; None for what is installed.

    Raises:
        EngineError: There is no plan, or it cannot be loaded any more.
    """
    plan = slot.read_plan()
    if plan is None:
        raise EngineError(
            f"there is no plan of {engine} ({model.precision}, batch {model.batch_size}) for this "
            "device; build it: ssn-edge build"
        )
    return TensorRtEngine(
        import_tensorrt(engine),
        plan,
        input_size_hw=model.input_size_hw,
        batch_size=model.batch_size,
        device=cuda,
    )
