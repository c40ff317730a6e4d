"""What kernel files and NVIDIA's commands say about a device, as values: text in, no system calls.

Every function takes text that may be cut, foreign or empty, and gives None or nothing for what it
does not understand.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

INSTRUCTION_SETS = (
    *("avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""The kernel's names of what makes inference faster: wide vectors, 8-bit and half precision."""

_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd42": "Cortex-A78AE",  # Jetson Orin
    "0xd4f": "Neoverse-V2",
    "0xd83": "Neoverse-V3AE",  # Jetson Thor
}
_ARM = "0x41"
_NVIDIA = "0x4e"


@dataclass(frozen=True, slots=True)
class Processor:
    """What ``/proc/cpuinfo`` tells.

    Args:
        model: The processor's name; None where it tells none.
        physical_cores: None where it does not tell them from threads.
        instruction_sets: Those of `INSTRUCTION_SETS` that it has.
        is_virtual: Whether it runs under a hypervisor, so that others may share the cores.
    """

    model: str | None = None
    physical_cores: int | None = None
    instruction_sets: tuple[str, ...] = ()
    is_virtual: bool = False


def parse_cpuinfo(text: str) -> Processor:
    """``/proc/cpuinfo`` of x86 or ARM."""
    cores: set[tuple[str, str]] = set()
    first: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", text):
        fields = _fields(block)
        for key, value in fields.items():
            first.setdefault(key, value)
        if "core id" in fields:
            cores.add((fields.get("physical id", "0"), fields["core id"]))
    flags = first.get("flags", first.get("Features", "")).split()
    return Processor(
        model=first.get("model name") or _arm_model(first),
        physical_cores=len(cores) or None,
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
        is_virtual="hypervisor" in flags,
    )


def _arm_model(fields: Mapping[str, str]) -> str | None:
    implementer, part = fields.get("CPU implementer"), fields.get("CPU part")
    if implementer is None or part is None:
        return None
    if implementer == _ARM and part in _ARM_CORES:
        return f"ARM {_ARM_CORES[part]}"
    if (implementer, part) == (_NVIDIA, "0x004"):
        return "NVIDIA Carmel"  # Jetson Xavier
    return f"ARM implementer {implementer} part {part}"


def parse_meminfo(text: str) -> dict[str, int]:
    """``/proc/meminfo`` in bytes by name, such as ``MemTotal`` and ``MemAvailable``."""
    found = re.findall(r"^(\w+):\s+(\d+) kB$", text, flags=re.MULTILINE)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}


def parse_l4t(text: str) -> str | None:
    """The Jetson Linux version in ``/etc/nv_tegra_release``, such as ``36.4.3``."""
    found = re.search(r"^#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text, re.MULTILINE)
    return None if found is None else f"{found[1]}.{found[2].rstrip('.')}"


def parse_nvpmodel(text: str) -> str | None:
    """The power mode that ``nvpmodel -q`` prints, such as ``MAXN_SUPER (2)``.

    Warnings about the fan may stand before it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        found = re.search(r"NV Power Mode\s*:\s*(\S.*)", line)
        if found is None:
            continue
        following = lines[index + 1] if index + 1 < len(lines) else ""
        return f"{found[1]} ({following})" if following.isdecimal() else found[1]
    return None


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """What the CUDA driver says of its first device, as `CUDA_PROBE` prints it.

    Args:
        name: Such as ``Orin``.
        compute_capability: Such as ``8.7``.
        sm_count: Streaming multiprocessors; power modes of a Jetson differ in it.
        memory_bytes: Of the device; on a Jetson the memory that it shares with the processor.
        is_integrated: Whether it shares memory with the processor.
        cuda_version: The newest that the driver knows, such as ``12.6``.
        bus_id: Where it sits, as `nvidia-smi` wants it; empty if the driver does not tell.
    """

    name: str
    compute_capability: str
    sm_count: int
    memory_bytes: int
    is_integrated: bool
    cuda_version: str
    bus_id: str


CUDA_PROBE = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
def number(function, *arguments, kind=ctypes.c_int):
    value = kind()
    if getattr(cuda, function)(ctypes.byref(value), *arguments):
        raise SystemExit(1)
    return value.value
def text(function, device, *, last):
    size = ctypes.c_int(256)
    value = ctypes.create_string_buffer(256)
    failed = getattr(cuda, function)(value, *((size, device) if last else (device, size)))
    return "" if failed else value.value.decode("ascii", "replace")
if cuda.cuInit(0):
    raise SystemExit(1)
device = number("cuDeviceGet", 0)
attribute = lambda which: number("cuDeviceGetAttribute", which, device)
print(json.dumps({
    "name": text("cuDeviceGetName", device, last=True),
    "compute_capability": [attribute(75), attribute(76)],
    "sm_count": attribute(16),
    "is_integrated": attribute(18),
    "memory_bytes": number("cuDeviceTotalMem_v2", device, kind=ctypes.c_size_t),
    "cuda_version": number("cuDriverGetVersion"),
    "bus_id": text("cuDeviceGetPCIBusId", device, last=False).rstrip("?"),
}))
"""
"""Python that asks the CUDA driver, for a process of its own: a driver that hangs takes only that
one with it, and ours is left without a CUDA context. Numbers are those of ``cuda.h``. It was never
run where there is a GPU."""


def parse_cuda_probe(text: str) -> CudaDevice | None:
    """What `CUDA_PROBE` printed."""
    try:
        found = json.loads(text)
        major, minor = found["compute_capability"]
        version = int(found["cuda_version"])
        return CudaDevice(
            name=str(found["name"]),
            compute_capability=f"{int(major)}.{int(minor)}",
            sm_count=int(found["sm_count"]),
            memory_bytes=int(found["memory_bytes"]),
            is_integrated=bool(found["is_integrated"]),
            cuda_version=f"{version // 1000}.{version % 1000 // 10}",
            bus_id=str(found["bus_id"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


NVIDIA_SMI_FIELDS = (
    *("name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.max.sm"),
    *("temperature.gpu", "power.limit", "pstate"),
)
"""What `nvidia-smi --query-gpu` is asked for, units left out (MiB, MHz, degrees Celsius, W)."""


def parse_nvidia_smi(text: str) -> dict[str, str]:
    """The first line of ``nvidia-smi --query-gpu``; what it does not know is left out."""
    rows = list(csv.reader(text.splitlines()[:1], skipinitialspace=True))
    if not rows or len(rows[0]) != len(NVIDIA_SMI_FIELDS):
        return {}
    cells: Sequence[str] = [cell.strip() for cell in rows[0]]
    return {
        field: cell
        for field, cell in zip(NVIDIA_SMI_FIELDS, cells, strict=True)
        if cell and not (cell.startswith("[") or "N/A" in cell)
    }


def parse_number(text: str | None) -> float | None:
    """One finite decimal number, with blanks around it; None for anything else."""
    if text is None or not re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", text):
        return None
    return float(text)


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}
