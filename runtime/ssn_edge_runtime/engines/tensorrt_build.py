"""ONNX bytes to a TensorRT plan: one way for TensorRT 10.3 to 11 and for TensorRT-RTX.

All types are those of the file (a strongly typed network): no flag asks for a precision, since the
flags are gone in TensorRT 11. No context managers on TensorRT's objects, which are deprecated; they
are freed in the reverse order of their making because each holds on to the one before.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssn_edge_runtime.engines.tensorrt_library import TensorRt
from ssn_edge_runtime.engines.tensorrt_progress import (
    BuildProgress,
    OnProgress,
    progress_monitor,
    run_cancellable,
)
from ssn_edge_runtime.errors import ConfigError, EngineError, StorageError
from ssn_edge_runtime.files import write_whole

logger = logging.getLogger(__name__)

RECIPE = 1
"""Part of a plan's key; raised when plans are built in another way."""
DEFAULT_WORKSPACE_BYTES = 2**30
"""Scratch memory that a kernel may ask for. A Jetson shares its memory with everything else."""
DEFAULT_OPTIMISATION_LEVEL = 3
"""TensorRT's own default, of 0 to 5."""
PARSER_ERRORS_TOLD = 3


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a build may be told; each is part of the plan's key.

    Args:
        workspace_bytes: Most scratch memory of one layer.
        optimisation_level: 0 (quick build) to 5 (tries most).
    """

    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
    optimisation_level: int = DEFAULT_OPTIMISATION_LEVEL

    def __post_init__(self) -> None:
        """Refuse what no builder takes."""
        if self.workspace_bytes < 2**20 or not 0 <= self.optimisation_level <= 5:
            raise ConfigError(
                f"a workspace of {self.workspace_bytes} bytes at optimisation level "
                f"{self.optimisation_level} cannot be built with; use 1 MiB or more, and 0 to 5"
            )


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan and how it came to be.

    Args:
        plan: Serialised engine; executable content, for this device and this library alone.
        network_layers: Layers of the network before the builder fused them.
        build_seconds: Parsing and building.
        library: Name and version of what built it.
    """

    plan: bytes
    network_layers: int
    build_seconds: float
    library: str


def plan_from_onnx(
    tensorrt: TensorRt,
    model: bytes,
    *,
    batch_size: int = 1,
    options: BuildOptions | None = None,
    timing_cache: Path | None = None,
    on_progress: OnProgress = lambda phase, done, count: None,
) -> BuiltPlan:
    """Build a plan; takes seconds with TensorRT-RTX, minutes with TensorRT.

    Args:
        tensorrt: The library.
        model: An ONNX file's bytes by the contract of `engines/base.py`.
        batch_size: Frames at once; fixed in the plan.
        options: Memory and effort.
        timing_cache: File of measured kernels, read before and written after; it must be one for
            each library version and GPU. TensorRT alone: RTX measures nothing when it builds.
        on_progress: Called in this thread; see `OnProgress`.

    Raises:
        EngineError: The library refuses the model, or cannot build it; with its own words.
        KeyboardInterrupt: Ctrl-C; nothing is left behind.
    """
    options = options or BuildOptions()
    started = time.monotonic()
    progress = BuildProgress()
    tensorrt.messages.clear()
    plan, layers = run_cancellable(
        lambda: _build(tensorrt, model, batch_size, options, timing_cache, progress),
        progress,
        on_progress,
    )
    return BuiltPlan(
        plan, layers, time.monotonic() - started, f"{tensorrt.engine} {tensorrt.version}"
    )


def _build(
    tensorrt: TensorRt,
    model: bytes,
    batch_size: int,
    options: BuildOptions,
    timing_cache: Path | None,
    progress: BuildProgress,
) -> tuple[bytes, int]:
    module = tensorrt.module
    # Freed in the reverse order of making, also when an error's traceback holds this frame.
    builder: Any = None
    network: Any = None
    parser: Any = None
    config: Any = None
    serialised: Any = None
    try:
        try:
            builder = module.Builder(tensorrt.logger)
        except TypeError as error:  # the bindings' word for null
            raise _failed(
                tensorrt, "cannot start its builder", "nvidia-smi shows the GPU"
            ) from error
        network = _made(tensorrt, builder.create_network(_network_flags(tensorrt)), "a network")
        parser = module.OnnxParser(network, tensorrt.logger)
        if not parser.parse(model):
            raise EngineError(
                f"{tensorrt.engine} {tensorrt.version} refuses the model: "
                f"{_parser_errors(tensorrt, parser)}; export the package again with this version "
                "of ssn-edge"
            )
        config = _made(tensorrt, builder.create_builder_config(), "a configuration")
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        config.builder_optimization_level = options.optimisation_level
        # Names and types of the layers stay in the plan, else nobody can tell what runs in INT8.
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
        # FP32 is FP32: the builder may round it to TF32, which nobody has certified.
        config.clear_flag(module.BuilderFlag.TF32)
        monitor = progress_monitor(module, progress)
        config.progress_monitor = monitor
        _fix_batch(tensorrt, builder, network, config, batch_size)
        # RTX would look for a GPU if it had one set, and it measures no kernels.
        times = None if tensorrt.is_rtx else _load_times(tensorrt, config, timing_cache)

        serialised = builder.build_serialized_network(network, config)
        if serialised is None:
            raise _failed(
                tensorrt,
                "cannot build the model",
                "free memory, give another --workspace, or build another precision",
            )
        plan = bytes(serialised)
        if times is not None and timing_cache is not None:
            _save_times(times, timing_cache)
        return plan, int(network.num_layers)
    finally:
        serialised = None
        config = None
        parser = None
        network = None
        builder = None


def _network_flags(tensorrt: TensorRt) -> int:
    if not tensorrt.needs_typed_flag:
        return 0
    return 1 << int(tensorrt.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _fix_batch(
    tensorrt: TensorRt, builder: Any, network: Any, config: Any, batch_size: int
) -> None:
    """One profile whose smallest, best and largest batch are the same: kernels for just that."""
    profile, is_free = _made(tensorrt, builder.create_optimization_profile(), "a profile"), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if shape.index(-1) != 0 or -1 in shape[1:]:
            raise EngineError(
                f"the model's input {tensor.name} has the shape {shape}; only its batch may be "
                "free, export the package again"
            )
        fixed = (batch_size, *shape[1:])
        profile.set_shape(tensor.name, fixed, fixed, fixed)
        is_free = True
    if is_free:
        if config.add_optimization_profile(profile) < 0:
            raise _failed(tensorrt, f"takes no batch of {batch_size}", "use a smaller --batch-size")
    elif batch_size != 1:
        raise EngineError(
            f"the model takes one frame at a time, {batch_size} were asked for; export the package "
            "again with this version of ssn-edge"
        )


def _parser_errors(tensorrt: TensorRt, parser: Any) -> str:
    """What the parser found, node by node."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    told = [
        f"node {each.node_name() or '(unnamed)'} ({each.node_operator() or 'no operator'}): "
        f"{each.desc()}"
        for each in errors[:PARSER_ERRORS_TOLD]
    ]
    if len(errors) > PARSER_ERRORS_TOLD:
        told.append(f"and {len(errors) - PARSER_ERRORS_TOLD} more")
    return "; ".join(told) or tensorrt.messages.why()


def _made(tensorrt: TensorRt, made: Any, what: str) -> Any:
    if made is None:
        raise _failed(tensorrt, f"cannot make {what}", "nvidia-smi shows whether the GPU works")
    return made


def _failed(tensorrt: TensorRt, what: str, advice: str) -> EngineError:
    return EngineError(
        f"{tensorrt.engine} {tensorrt.version} {what}: {tensorrt.messages.why()}; {advice}"
    )


_DIGEST_BYTES = hashlib.sha256().digest_size


def _load_times(tensorrt: TensorRt, config: Any, path: Path | None) -> Any:
    """The timing cache in the configuration, from the file if that is whole."""
    if path is None:
        return None
    content = b""
    try:
        stored = path.read_bytes()
        if hashlib.sha256(stored[_DIGEST_BYTES:]).digest() == stored[:_DIGEST_BYTES]:
            content = stored[_DIGEST_BYTES:]
        else:
            logger.warning("timing cache %s is damaged; kernels are measured again", path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("timing cache %s cannot be read: %s", path, error.strerror)
    times = config.create_timing_cache(content)
    if times is None and content:
        logger.warning("timing cache %s is not taken; kernels are measured again", path)
        times = config.create_timing_cache(b"")
    if times is None or not config.set_timing_cache(times, ignore_mismatch=False):
        logger.info("%s builds without a timing cache", tensorrt.engine)
        return None
    return times


def _save_times(times: Any, path: Path) -> None:
    content = bytes(times.serialize())
    try:
        write_whole(path, hashlib.sha256(content).digest() + content)
    except StorageError as error:
        logger.warning("timing cache: %s", error)  # the plan is what counts
