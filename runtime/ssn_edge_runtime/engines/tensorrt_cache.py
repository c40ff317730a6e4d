"""Build a plan on this device, test it on the golden pictures, certify it, and keep it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.device_certificate import DeviceCertificate, certify
from ssn_edge_runtime.device_info import DeviceInfo, describe_device
from ssn_edge_runtime.engines.base import ModelToRun
from ssn_edge_runtime.engines.cache import EngineCache, EngineKey, EngineSlot, KeyValue
from ssn_edge_runtime.engines.choice import AUTO, choose_precision, model_to_run
from ssn_edge_runtime.engines.cuda_device import CudaDevice, open_cuda_device
from ssn_edge_runtime.engines.kinds import GPU_PRECISIONS
from ssn_edge_runtime.engines.tensorrt import TensorRtEngine
from ssn_edge_runtime.engines.tensorrt_build import BuildOptions, plan_from_onnx
from ssn_edge_runtime.engines.tensorrt_library import TensorRt, import_tensorrt
from ssn_edge_runtime.engines.tensorrt_plans import choose_tensorrt, load_tensorrt, tensorrt_key
from ssn_edge_runtime.engines.tensorrt_progress import OnProgress
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.package import Package

logger = logging.getLogger(__name__)

SPARE_DISK_BYTES = 64 * 2**20
SPARE_MEMORY_BYTES = 512 * 2**20
"""For the library itself and its CUDA context."""
MODEL_COPIES = 4
"""Of the model in memory while it is built: the file, the network, the engine, the plan."""


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """What `build_engine` did.

    Args:
        engine: ``tensorrt`` or ``tensorrt-rtx``.
        precision: Which of the package's models.
        folder: Where the plan and its certificate lie.
        plan_bytes: Size of the plan.
        was_built: False if a plan from before was good.
        details: What stands beside the plan: seconds, layers by type, power mode.
        layers: What really runs in which type, in words.
        certificate: Of this engine for this package.
        fallen_from: Better precisions of the package that failed, each with the reason.
    """

    engine: str
    precision: str
    folder: Path
    plan_bytes: int
    was_built: bool
    details: Mapping[str, object]
    layers: str
    certificate: DeviceCertificate
    fallen_from: Mapping[str, str]


def build_engine(
    package: Package,
    *,
    engine: str = AUTO,
    precision: str = AUTO,
    cache: EngineCache | None = None,
    batch_size: int = 1,
    options: BuildOptions | None = None,
    force: bool = False,
    on_progress: OnProgress = lambda phase, done, count: None,
    on_message: Callable[[str], None] = lambda message: None,
) -> EngineBuild:
    """Build a package's engine on this device, test it on the golden pictures, and certify it.

    `auto` takes the fastest precision of the package that can be built and decides as certified;
    what it falls from is in the result. A precision that was asked for is never replaced.

    Args:
        package: An open package.
        engine: ``tensorrt``, ``tensorrt-rtx`` or ``auto``, the first that can be built here.
        precision: `fp32`, `fp16`, `int8` or `auto`.
        cache: Where plans are; None for this device's.
        batch_size: Frames at once.
        options: Memory and effort.
        force: Build even if there is a plan.
        on_progress: Called with the phase at hand; see `OnProgress`.
        on_message: Told what a person should know meanwhile.

    Raises:
        ConfigError: A precision that is not in the package, or an engine that has no plan.
        EngineError: None can be built here, or what was built decides otherwise.
        StorageError: The disk is full, or the cache cannot be written to.
    """
    device = describe_device()
    tensorrt = import_tensorrt(choose_tensorrt(engine, device))
    cuda = open_cuda_device()
    builder = _Builder(
        package,
        tensorrt,
        device,
        cuda,
        cache or EngineCache(),
        options or BuildOptions(),
        on_progress,
        on_message,
    )
    return builder.build_best(precision, batch_size, force=force)


@dataclass(slots=True)
class _Builder:
    """One call of `build_engine`."""

    package: Package
    tensorrt: TensorRt
    device: DeviceInfo
    cuda: CudaDevice
    cache: EngineCache
    options: BuildOptions
    on_progress: OnProgress
    on_message: Callable[[str], None]

    def build_best(self, precision: str, batch_size: int, *, force: bool) -> EngineBuild:
        """The ladder: the first precision that passes, of those in the package."""
        manifest = self.package.manifest
        if precision != AUTO:
            ladder = [choose_precision(manifest, precision, order=GPU_PRECISIONS)]
        else:
            ladder = [each for each in GPU_PRECISIONS if each in manifest.precisions]
        failed: dict[str, str] = {}
        for each in ladder:
            try:
                return self._build(each, batch_size, failed, force=force)
            except EngineError as error:
                if each == ladder[-1]:
                    raise
                failed[each] = str(error)
                logger.warning("%s is not used: %s", each, error)
                self.on_message(f"{each} is not used, the package's next precision is: {error}")
        raise AssertionError("a package holds at least one precision")

    def _build(
        self, precision: str, batch_size: int, failed: Mapping[str, str], *, force: bool
    ) -> EngineBuild:
        model = model_to_run(self.package, precision, batch_size=batch_size)
        engine = self.tensorrt.engine
        key = tensorrt_key(engine, self.tensorrt.version, model, self.device)
        slot = self.cache.slot(key)
        with slot.lock(self.on_message):
            is_there = not force and self._is_there(slot)
            if is_there:
                self.on_message(f"{precision}: a plan of this device is there; it is tested")
            else:
                self._write_plan(slot, model)
            try:
                certificate, layers = self._certified(slot, model)
            except EngineError as error:
                slot.discard(f"it failed on this device ({error})")
                if not is_there:
                    raise
                self.on_message(f"{precision}: the plan that was there failed; it is built again")
                self._write_plan(slot, model)
                is_there = False
                certificate, layers = self._certified(slot, model)
            note = slot.read_note() or {}
        details = note.get("details")
        plan_bytes = note.get("plan_bytes")
        return EngineBuild(
            engine=engine,
            precision=precision,
            folder=slot.folder,
            plan_bytes=plan_bytes if isinstance(plan_bytes, int) else 0,
            was_built=not is_there,
            details=details if isinstance(details, dict) else {},
            layers=layers,
            certificate=certificate,
            fallen_from=dict(failed),
        )

    def _is_there(self, slot: EngineSlot) -> bool:
        """Whether a whole plan is in the slot, built as it would be built now."""
        if slot.read_plan() is None:
            return False
        details = (slot.read_note() or {}).get("details")
        return isinstance(details, dict) and details.get("options") == _options(self.options)

    def _write_plan(self, slot: EngineSlot, model: ModelToRun) -> None:
        self._check_room(len(model.onnx))
        self.on_message(f"building {model.precision}; this takes seconds to minutes")
        built = plan_from_onnx(
            self.tensorrt,
            model.onnx,
            batch_size=model.batch_size,
            options=self.options,
            timing_cache=self._timing_cache(),
            on_progress=self.on_progress,
        )
        details: dict[str, object] = {
            "options": _options(self.options),
            "library": built.library,
            "build_seconds": round(built.build_seconds, 2),
            "network_layers": built.network_layers,
            "power_mode": self.device.power_mode,
            "clocks_mhz": dict(self.device.clocks_mhz),
        }
        with TensorRtEngine(
            self.tensorrt,
            built.plan,
            input_size_hw=model.input_size_hw,
            batch_size=model.batch_size,
            device=self.cuda,
            use_graph=False,
        ) as engine:
            try:
                details["layers"] = engine.layers().to_dict()
            except EngineError as error:
                logger.warning("%s", error)  # a plan is no worse for what is not known of it
                details["layers"] = None
        slot.write_plan(built.plan, details)

    def _certified(self, slot: EngineSlot, model: ModelToRun) -> tuple[DeviceCertificate, str]:
        """Load what is in the slot, as a run would, and put its certificate beside it."""
        with load_tensorrt(self.tensorrt.engine, model, slot, cuda=self.cuda) as engine:
            certificate = certify(self.package, engine, model.precision, key=slot.key)
            try:
                layers = engine.layers().describe()
            except EngineError as error:
                layers = str(error)
        slot.write_certificate(self.package.package_id, certificate.to_dict())
        return certificate, layers

    def _timing_cache(self) -> Path:
        """One file for each library, GPU and driver: kernels of others were measured elsewhere."""
        gpu = self.device.gpu
        fields: dict[str, KeyValue] = {
            "library": f"{self.tensorrt.engine} {self.tensorrt.version}",
            "gpu": None if gpu is None else gpu.name,
            "compute_capability": None if gpu is None else gpu.compute_capability,
            "sm_count": None if gpu is None else gpu.sm_count,
            "driver": None if gpu is None else gpu.driver_version,
            "jetson_linux": self.device.l4t_line,
        }
        return self.cache.root / "timing" / f"{EngineKey(fields).sha256}.cache"

    def _check_room(self, model_bytes: int) -> None:
        """Refuse what would end in the middle for want of disk or memory."""
        folder = self.cache.root
        while not folder.exists():
            folder = folder.parent
        wanted = 2 * model_bytes + SPARE_DISK_BYTES
        if (free := shutil.disk_usage(folder).free) < wanted:
            raise EngineError(
                f"{folder} has {free / 1e6:.0f} MB free, a build needs {wanted / 1e6:.0f} MB; make "
                "room, or set SSN_EDGE_CACHE to another folder"
            )
        wanted = MODEL_COPIES * model_bytes + SPARE_MEMORY_BYTES + self.options.workspace_bytes
        free = self._free_memory_bytes()
        if free < wanted:
            raise EngineError(
                f"the GPU has {free / 1e6:.0f} MB free, a build may take {wanted / 1e6:.0f} MB; "
                "stop other programs, or give a smaller --workspace"
            )

    def _free_memory_bytes(self) -> int:
        available = self.device.available_memory_bytes
        if self.cuda.properties.is_integrated and available is not None:
            # CUDA does not count what the system would give up, such as cached files.
            return available
        with self.cuda.current():
            return self.cuda.free_memory_bytes()


def _options(options: BuildOptions) -> dict[str, int]:
    return {
        "workspace_bytes": options.workspace_bytes,
        "optimisation_level": options.optimisation_level,
    }
