"""Engines by name: what runs a package's model on this device."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ssn_edge_runtime.engines.base import Engine
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.package import Package

__all__ = ["ENGINES", "Engine", "choose_precision", "open_engine"]

logger = logging.getLogger(__name__)

AUTO = "auto"

CPU_PRECISIONS = ("fp32", "int8", "fp16")
"""In order of preference: CPUs compute FP16 by way of FP32, and INT8 is a trade."""


def _onnxruntime_cpu(model: bytes, input_size_hw: tuple[int, int]) -> Engine:
    # Imported here: a device needs only the engine that it runs.
    from ssn_edge_runtime.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, input_size_hw=input_size_hw)


ENGINES: dict[str, Callable[[bytes, tuple[int, int]], Engine]] = {
    "onnxruntime-cpu": _onnxruntime_cpu,
}
"""What `engine=` may name, best first, and how each is made of a model and its input size."""


def choose_precision(manifest: Manifest, precision: str = AUTO) -> str:
    """The precision to run: the one asked for, or for `auto` the first that the package holds.

    Raises:
        ConfigError: The package does not hold it.
    """
    if precision == AUTO:
        return next(each for each in CPU_PRECISIONS if each in manifest.precisions)
    if precision not in manifest.precisions:
        raise ConfigError(
            f"precision {precision!r} is not in the package {manifest.name}, which holds "
            f"{', '.join(manifest.precisions)}; choose one of them, or auto"
        )
    return precision


def open_engine(package: Package, *, engine: str = AUTO, precision: str = AUTO) -> Engine:
    """Load a package's model into an engine and log which, and why.

    Args:
        package: An open package; it may be closed afterwards.
        engine: A name of `ENGINES`, or `auto` for the best there is.
        precision: `fp32`, `fp16`, `int8`, or `auto`; see `choose_precision`.

    Raises:
        ConfigError: An engine that is not known, or a precision that is not in the package.
        EngineError: The engine is not installed, or cannot load the model.
        PackageError: The package was changed since it was opened.
    """
    if engine not in (AUTO, *ENGINES):
        raise ConfigError(
            f"engine {engine!r} is not known; choose one of auto, {', '.join(ENGINES)}"
        )
    chosen_engine = next(iter(ENGINES)) if engine == AUTO else engine
    chosen_precision = choose_precision(package.manifest, precision)
    model = package.read(package.manifest.precisions[chosen_precision].model)
    opened = ENGINES[chosen_engine](model, package.manifest.geometry.input_size_hw)
    logger.info(
        "engine %s (%s), precision %s (%s), package %s",
        chosen_engine,
        "asked for" if engine != AUTO else "the only one in this version",
        chosen_precision,
        "asked for" if precision != AUTO else "the first of " + ", ".join(CPU_PRECISIONS),
        package.package_id,
    )
    return opened
