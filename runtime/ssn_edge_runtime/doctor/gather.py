"""All that is looked at, gathered from files, commands and rights; judged elsewhere.

Nothing is changed, every command has a time limit, and what is not there is not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ssn_edge_runtime.device_info import DeviceInfo, describe_device
from ssn_edge_runtime.device_parsing import parse_l4t, parse_meminfo
from ssn_edge_runtime.doctor.facts import (
    AccessFacts,
    Facts,
    HeatFacts,
    JetsonFacts,
    MemoryFacts,
    Plan,
    ServiceFacts,
    TimeFacts,
)
from ssn_edge_runtime.doctor.gather_python import gather_python
from ssn_edge_runtime.doctor.gather_storage import gather_storage
from ssn_edge_runtime.doctor.gather_wanted import (
    gather_cameras,
    gather_wanted_addresses,
    gather_wanted_cameras,
)
from ssn_edge_runtime.doctor.host import Host
from ssn_edge_runtime.doctor.parsing import (
    options_of,
    parse_dpkg_status,
    parse_power_modes,
    parse_properties,
    parse_swaps,
)
from ssn_edge_runtime.kernel_files import (
    JETSON_GPUS,
    quietly,
    read_active_cooling,
    read_critical_c,
    read_power_mode,
    read_temperatures_c,
    read_throttle_events,
)

SERVICE_PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts"),
    *("StatusText", "ExecStart", "User"),
)
_GPU_NODES = (
    *("dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvmap", "dev/nvhost-gpu"),
    *("dev/nvhost-ctrl-gpu", "dev/nvgpu/igpu0/ctrl", "dev/dri/renderD*"),
)
"""Of a card, and of a Jetson's GPU after what people list; which there are depends on JetPack."""
_GPU_CLOCKS = tuple(f"sys/class/devfreq/{name}" for name in JETSON_GPUS)
_NVIDIA_VENDOR = "0x10de"
_DISPLAY_CLASSES = ("0x0300", "0x0302")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the line is meant to do here.

    Args:
        output: Folder of the journal.
        cache: Folder of built engines; None for this user's.
        package: Model package; None for none.
        cameras: As `run --device` takes them.
        addresses: As `run --listen` takes them.
        write_bytes_a_day: The write budget; None for none.
        unit: Name of the systemd unit.
    """

    output: Path = Path("decisions")
    cache: Path | None = None
    package: Path | None = None
    cameras: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    write_bytes_a_day: int | None = None
    unit: str = "ssn-edge"


def gather(wishes: Wishes | None = None, host: Host | None = None) -> Facts:
    """Look at a machine; takes seconds, most of them for importing what is installed.

    Raises:
        ConfigError: A camera or an address that means nothing.
    """
    wishes, host = wishes or Wishes(), host or Host()
    probe = host.python()
    device = describe_device(root=host.root, run=host.run)
    device = replace(device, machine=probe.machine)
    python = gather_python(host)
    cameras = gather_cameras(host)
    service = _service(host, wishes.unit)
    started = (service.properties or {}).get("ExecStart", "")
    package = None if wishes.package is None else host.look_into(wishes.package)
    # The line's own code stands on these; a library that crashes must not take us with it.
    loads = python.works("numpy") and python.works("cv2")
    cache = wishes.cache or host.cache_folder(loads=loads)
    return Facts(
        device=device,
        python=python,
        access=_access(host),
        jetson=_jetson(host, device),
        has_nvidia_card=_has_card(host),
        memory=_memory(host),
        heat=_heat(host),
        storage=(
            gather_storage(host, "journal", wishes.output),
            gather_storage(host, "cache", cache),
        ),
        time=_time(host),
        cameras=cameras,
        wanted_cameras=gather_wanted_cameras(host, python, cameras, wishes.cameras, loads=loads),
        wanted_addresses=gather_wanted_addresses(
            host, (*wishes.addresses, *options_of(started, "--listen")), loads=loads
        ),
        service=service,
        plans=_plans(host, cache),
        package=package,
        write_bytes_a_day=wishes.write_bytes_a_day,
    )


def _jetson(host: Host, device: DeviceInfo) -> JetsonFacts | None:
    l4t = parse_l4t(host.files.text("etc/nv_tegra_release") or "")
    if l4t is None:
        return None
    return JetsonFacts(
        l4t=l4t,
        packages=parse_dpkg_status(host.files.text("var/lib/dpkg/status") or ""),
        power_mode=device.power_mode or quietly(lambda: read_power_mode(host.files)),
        power_modes=parse_power_modes(host.files.text("etc/nvpmodel.conf") or ""),
        gpu_clock_mhz=_clock(host, _GPU_CLOCKS, ("min_freq", "max_freq", "cur_freq"), 1e6),
        cpu_clock_mhz=_clock(
            host,
            ("sys/devices/system/cpu/cpu[0-9]*/cpufreq",),
            ("scaling_min_freq", "scaling_max_freq", "scaling_cur_freq"),
            1e3,
        ),
    )


def _clock(
    host: Host, patterns: tuple[str, ...], names: tuple[str, str, str], per_mhz: float
) -> tuple[float, float, float] | None:
    """Lowest, highest and present clock of the fastest of several, in MHz."""
    found = []
    for folder in (each for pattern in patterns for each in host.files.folders(pattern)):
        values = [host.files.number(folder / name) for name in names]
        low, high, now = values
        if low is not None and high is not None and now is not None:
            found.append((low / per_mhz, high / per_mhz, now / per_mhz))
    return max(found, key=lambda each: each[1], default=None)


def _has_card(host: Host) -> bool:
    for folder in host.files.folders("sys/bus/pci/devices/*"):
        kind = host.files.line(folder / "class") or ""
        if host.files.line(folder / "vendor") == _NVIDIA_VENDOR and kind[:6] in _DISPLAY_CLASSES:
            return True
    return False


def _memory(host: Host) -> MemoryFacts:
    memory = parse_meminfo(host.files.text("proc/meminfo") or "")
    swaps = host.files.text("proc/swaps")
    return MemoryFacts(
        memory.get("MemTotal"),
        memory.get("MemAvailable"),
        None if swaps is None else parse_swaps(swaps),
    )


def _heat(host: Host) -> HeatFacts:
    return HeatFacts(
        temperatures_c=quietly(lambda: read_temperatures_c(host.files)) or {},
        critical_c=quietly(lambda: read_critical_c(host.files)) or {},
        slowed=quietly(lambda: read_active_cooling(host.files)) or (),
        throttle_events=quietly(lambda: read_throttle_events(host.files)),
    )


def _time(host: Host) -> TimeFacts:
    year = host.year()
    shown = parse_properties(host.run(("timedatectl", "show")) or "").get("NTPSynchronized")
    if shown in ("yes", "no"):
        # The kernel's own state, whoever keeps the clock: timesyncd, chrony, ntpd, PTP.
        return TimeFacts(shown == "yes", "timedatectl", year)
    chrony = host.run(("chronyc", "-n", "tracking"))
    if chrony is not None:
        return TimeFacts("Leap status     : Normal" in chrony, "chronyc", year)
    if (host.root / "run/systemd/timesync/synchronized").exists():
        return TimeFacts(True, "systemd-timesyncd", year)
    return TimeFacts(year=year)


def _access(host: Host) -> AccessFacts:
    nodes = {}
    for pattern in _GPU_NODES:
        for each in host.files.folders(pattern):
            node = "/" + str(each.relative_to(host.root))
            nodes[node] = host.may_open(node)
    return AccessFacts(host.user(), host.groups(), nodes)


def _service(host: Host, name: str) -> ServiceFacts:
    told = host.run(
        ("systemctl", "show", f"{name}.service", f"--property={','.join(SERVICE_PROPERTIES)}")
    )
    is_there = (host.root / f"etc/systemd/system/{name}.service").exists()
    return ServiceFacts(name, is_there, None if told is None else parse_properties(told))


def _plans(host: Host, cache: Path) -> tuple[Plan, ...]:
    """What was built here, from the notes beside the plans; whether they still load, run tells."""
    plans = []
    for note in quietly(lambda: sorted(cache.glob("*/plan.json"))) or []:
        document = quietly(partial(_read_json, note))
        if not isinstance(document, dict):
            continue
        key, details = _mapping(document, "key"), _mapping(document, "details")
        certificates = quietly(partial(_certificates, note.parent))
        plans.append(
            Plan(
                engine=str(key.get("engine")),
                precision=str(key.get("precision")),
                power_mode=_text(details.get("power_mode")),
                l4t_line=_text(key.get("jetson_linux")),
                packages=tuple(each.stem for each in certificates or []),
            )
        )
    return tuple(plans)


def _read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def _certificates(slot: Path) -> list[Path]:
    return sorted(slot.glob("certificates/*.json"))


def _mapping(document: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
