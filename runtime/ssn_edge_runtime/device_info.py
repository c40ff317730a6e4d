"""What this device is: machine, processor, GPU, power mode, clocks and installed versions.

For records, keys of cached engines and benchmarks. Nothing is imported to find out, and nothing
here raises: a device that cannot be described must still inspect.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ssn_edge_runtime.device_parsing import (
    CUDA_PROBE,
    NVIDIA_SMI_FIELDS,
    CudaDevice,
    Processor,
    parse_cpuinfo,
    parse_cuda_probe,
    parse_l4t,
    parse_meminfo,
    parse_number,
    parse_nvidia_smi,
    parse_nvpmodel,
)
from ssn_edge_runtime.kernel_files import (
    KernelFiles,
    quietly,
    read_clocks_mhz,
    read_temperatures_c,
)

COMMAND_TIMEOUT_S = 5.0
"""Of each command: one that takes longer hangs in a driver."""

DISTRIBUTIONS = (
    *("ssn-edge", "numpy", "opencv-python-headless", "opencv-python", "opencv-contrib-python"),
    *("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "pycuda"),
    *("cuda-python", "cuda-bindings", "torch"),
)
"""Whose versions are told. What a distribution's own packages brought (JetPack's OpenCV) may have
no entry; the engine that uses it knows its version."""

_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""A service's PATH is often short, and nvpmodel is in sbin."""

Run = Callable[[Sequence[str]], "str | None"]


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """An NVIDIA GPU: the first one that CUDA sees. None stands for what nobody tells.

    Args:
        name: Such as ``NVIDIA L4`` or ``Orin``.
        driver_version: Of the kernel driver; a Jetson's is bound to its `DeviceInfo.l4t`.
        cuda_version: The newest that the driver knows.
        compute_capability: Such as ``8.9``.
        sm_count: Streaming multiprocessors.
        memory_bytes: Its own, or what a Jetson shares with the processor.
        is_integrated: Whether it shares memory with the processor.
        clock_mhz: Of the multiprocessors now: a GPU at rest shows its idle clock.
        max_clock_mhz: The highest that they may take.
        temperature_c: Of the chip.
        power_limit_w: What it may draw.
    """

    name: str
    driver_version: str | None = None
    cuda_version: str | None = None
    compute_capability: str | None = None
    sm_count: int | None = None
    memory_bytes: int | None = None
    is_integrated: bool | None = None
    clock_mhz: float | None = None
    max_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device as it is now. None, or an empty mapping, stands for what it does not tell.

    Args:
        machine: Instruction set, such as ``x86_64`` or ``aarch64``.
        model: The board's name where the firmware tells one, such as a Jetson's.
        system: Kernel and its release.
        processor: The processor's name.
        physical_cores: Cores; two threads of one core count once.
        logical_cores: As the system counts them.
        usable_cores: Those that this process may run on.
        is_virtual: Whether the machine is virtual: others may share its cores.
        memory_bytes: All memory.
        available_memory_bytes: Of it, what a program could have now.
        instruction_sets: The kernel's names of those that make inference faster.
        gpu: The first NVIDIA GPU; None where there is none.
        l4t: Jetson Linux version, such as ``36.4.3``; None on anything but a Jetson.
        l4t_line: The whole line that tells it; differs between builds of one version.
        power_mode: A Jetson's, as ``nvpmodel -q`` prints it.
        governor: How the kernel sets the processor's clock, such as ``performance``.
        clocks_mhz: Of processor (fastest core) and a Jetson's GPU, now and at most, by name.
        temperatures_c: By thermal zone.
        versions: Of what is installed, by distribution.
    """

    machine: str
    model: str | None = None
    system: str = ""
    processor: str | None = None
    physical_cores: int | None = None
    logical_cores: int | None = None
    usable_cores: int | None = None
    is_virtual: bool = False
    memory_bytes: int | None = None
    available_memory_bytes: int | None = None
    instruction_sets: tuple[str, ...] = ()
    gpu: GpuInfo | None = None
    l4t: str | None = None
    l4t_line: str | None = None
    power_mode: str | None = None
    governor: str | None = None
    clocks_mhz: Mapping[str, float] = field(default_factory=dict)
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """For JSON: numbers, texts, lists, mappings and nulls."""
        document = asdict(self)
        document["instruction_sets"] = list(self.instruction_sets)
        return document


def run_command(command: Sequence[str], *, timeout_s: float = COMMAND_TIMEOUT_S) -> str | None:
    """What a command prints; None if it is not there, fails or takes too long.

    A command that cannot even be killed (it hangs in a driver) is left behind.
    """
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    found = shutil.which(command[0], path=path)
    if found is None:
        return None
    try:
        process = subprocess.Popen(
            [found, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError:
        return None
    try:
        printed, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            if process.stdout is not None:
                process.stdout.close()
        return None
    return printed.decode("utf-8", errors="replace") if process.returncode == 0 else None


def describe_device(*, root: Path = Path("/"), run: Run = run_command) -> DeviceInfo:
    """Describe this device; takes some ten milliseconds, and a second where there is a GPU.

    Args:
        root: Where ``proc``, ``sys`` and ``etc`` lie.
        run: Runs a command and gives what it prints, or None; see `run_command`.

    Returns:
        What could be found out. Never raises.
    """
    files = KernelFiles(root)
    cpu = parse_cpuinfo(files.text("proc/cpuinfo") or "") or Processor()
    memory = parse_meminfo(files.text("proc/meminfo") or "")
    l4t_text = files.text("etc/nv_tegra_release") or ""
    l4t = parse_l4t(l4t_text)
    return DeviceInfo(
        machine=platform.machine(),
        model=files.line("proc/device-tree/model")
        or files.line("sys/firmware/devicetree/base/model"),
        system=f"{platform.system()} {platform.release()}",
        processor=cpu.model,
        physical_cores=cpu.physical_cores,
        logical_cores=os.cpu_count(),
        usable_cores=quietly(lambda: len(os.sched_getaffinity(0))),
        is_virtual=cpu.is_virtual,
        memory_bytes=memory.get("MemTotal"),
        available_memory_bytes=memory.get("MemAvailable"),
        instruction_sets=cpu.instruction_sets,
        gpu=quietly(lambda: _gpu(run)),
        l4t=l4t,
        l4t_line=l4t_text.splitlines()[0].lstrip("# ") if l4t else None,
        power_mode=quietly(lambda: parse_nvpmodel(run(("nvpmodel", "-q")) or "")),
        governor=files.line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        clocks_mhz=read_clocks_mhz(files),
        temperatures_c=read_temperatures_c(files),
        versions=quietly(_versions) or {},
    )


def _gpu(run: Run) -> GpuInfo | None:
    cuda = None
    # In a frozen or embedding program it is that program, which must not be started again.
    if Path(sys.executable or "").name.startswith("python"):
        cuda = parse_cuda_probe(run((sys.executable, "-I", "-S", "-c", CUDA_PROBE)) or "")
    where = ("-i", cuda.bus_id) if cuda is not None and cuda.bus_id else ()
    smi = parse_nvidia_smi(
        run(
            (
                "nvidia-smi",
                *where,
                f"--query-gpu={','.join(NVIDIA_SMI_FIELDS)}",
                "--format=csv,noheader,nounits",
            )
        )
        or ""
    )
    return _merged(cuda, smi)


def _merged(cuda: CudaDevice | None, smi: Mapping[str, str]) -> GpuInfo | None:
    name = smi.get("name") if cuda is None else cuda.name
    if name is None:
        return None
    megabytes = parse_number(smi.get("memory.total"))
    memory_bytes = None if megabytes is None else int(megabytes * 2**20)
    return GpuInfo(
        name=name,
        driver_version=smi.get("driver_version"),
        cuda_version=None if cuda is None else cuda.cuda_version,
        compute_capability=smi.get("compute_cap") if cuda is None else cuda.compute_capability,
        sm_count=None if cuda is None else cuda.sm_count,
        memory_bytes=memory_bytes if cuda is None else cuda.memory_bytes,
        is_integrated=None if cuda is None else cuda.is_integrated,
        clock_mhz=parse_number(smi.get("clocks.sm")),
        max_clock_mhz=parse_number(smi.get("clocks.max.sm")),
        temperature_c=parse_number(smi.get("temperature.gpu")),
        power_limit_w=parse_number(smi.get("power.limit")),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    # A damaged installation has an entry without a version.
    return {name: version for name, version in found.items() if version}
