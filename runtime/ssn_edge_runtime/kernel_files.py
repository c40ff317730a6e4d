"""Small files in which the kernel tells what a device is doing: clocks and temperatures.

Nothing here raises: a device that cannot be described must still inspect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ssn_edge_runtime.device_parsing import parse_number

_Value = TypeVar("_Value")


def quietly(read: Callable[[], _Value]) -> _Value | None:
    """What a reader gives, or None: no odd kernel or damaged installation may stop a line."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - describing a device is never worth an error
        return None


class KernelFiles:
    """Small kernel files under a root; what cannot be read is None."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, path: str | Path) -> str | None:
        """All of a file."""
        try:
            return (self._root / path).read_bytes().decode("utf-8", errors="replace")
        except (OSError, ValueError):
            return None

    def line(self, path: str | Path) -> str | None:
        """Without the NUL that ends a device tree's text."""
        return (self.text(path) or "").strip("\0 \n") or None

    def number(self, path: str | Path) -> float | None:
        """A file that holds one number."""
        return parse_number(self.text(path))

    def folders(self, pattern: str) -> list[Path]:
        """Folders and files of a pattern, in order; relative to the root where it is."""
        return quietly(lambda: sorted(self._root.glob(pattern))) or []


_CPU_FREQUENCIES = {"cpu": "scaling_cur_freq", "cpu_max": "scaling_max_freq"}
_GPU_FREQUENCIES = {"gpu": "cur_freq", "gpu_max": "max_freq"}
JETSON_GPUS = ("*gpu*", "*ga10b*", "*gv11b*", "*gp10b*")
"""Under ``devfreq``, such as 17000000.gpu; older Jetson Linux names the chip."""


def read_clocks_mhz(files: KernelFiles) -> dict[str, float]:
    """Of the processor's fastest core and a Jetson's GPU, now and at most, by name."""
    clocks: dict[str, float] = {}
    for folder in files.folders("sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        for name, file in _CPU_FREQUENCIES.items():
            kilohertz = files.number(folder / file)
            if kilohertz is not None:
                clocks[name] = max(clocks.get(name, 0.0), kilohertz / 1e3)
    gpus = {each for name in JETSON_GPUS for each in files.folders(f"sys/class/devfreq/{name}")}
    for folder in sorted(gpus):
        for name, file in _GPU_FREQUENCIES.items():
            hertz = files.number(folder / file)
            if hertz is not None:
                clocks[name] = max(clocks.get(name, 0.0), hertz / 1e6)
    return clocks


def read_temperatures_c(files: KernelFiles) -> dict[str, float]:
    """In degrees Celsius, by thermal zone."""
    temperatures: dict[str, float] = {}
    for zone in files.folders("sys/class/thermal/thermal_zone*"):
        millidegrees = files.number(zone / "temp")
        if millidegrees is not None:
            # Zones of one type share a name; the hottest is the one that throttles.
            name = files.line(zone / "type") or zone.name
            temperatures[name] = max(temperatures.get(name, -273.0), millidegrees / 1e3)
    return temperatures


def read_critical_c(files: KernelFiles) -> dict[str, float]:
    """The lowest temperature that each thermal zone calls critical, by zone, where it tells one."""
    critical: dict[str, float] = {}
    for zone in files.folders("sys/class/thermal/thermal_zone*"):
        name = files.line(zone / "type") or zone.name
        for trip in files.folders(f"sys/class/thermal/{zone.name}/trip_point_*_type"):
            if files.line(trip) != "critical":
                continue
            millidegrees = files.number(trip.with_name(trip.name.replace("_type", "_temp")))
            if millidegrees is not None and 20e3 < millidegrees < 200e3:  # others stand for none
                critical[name] = min(critical.get(name, 200.0), millidegrees / 1e3)
    return critical


def read_throttle_events(files: KernelFiles) -> int | None:
    """How often the hardware took clocks back since it started; None where nobody counts.

    x86 counts heat for each core; a Jetson counts over-current and under-voltage.
    """
    patterns = (
        "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count",
        "sys/class/hwmon/hwmon*/oc*_event_cnt",
    )
    counts = [files.number(path) for pattern in patterns for path in files.folders(pattern)]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


_THROTTLES = ("cpufreq", "devfreq", "processor", "gpu", "intel_powerclamp", "cpu-throttle")


def read_active_cooling(files: KernelFiles) -> tuple[str, ...]:
    """Names of what the kernel slows down at this moment to cool the device; fans are not in it."""
    active = set()
    for device in files.folders("sys/class/thermal/cooling_device*"):
        name = files.line(device / "type") or ""
        if any(word in name.lower() for word in _THROTTLES) and files.number(
            device / "cur_state"
        ) not in (None, 0.0, -1.0):
            active.add(name)
    return tuple(sorted(active))


def read_power_mode(files: KernelFiles) -> str | None:
    """A Jetson's power mode such as ``MAXN_SUPER (2)``, from nvpmodel's own files.

    Formats are those of JetPack 5 and 6 as people report them; not checked on a device.
    """
    status = re.search(r"pmode:(\d+)", files.text("var/lib/nvpmodel/status") or "")
    if status is None:
        return None
    number = int(status[1])
    modes = files.text("etc/nvpmodel.conf") or ""
    named = re.search(rf"^<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)\s*>", modes, re.MULTILINE)
    return str(number) if named is None else f"{named[1]} ({number})"
