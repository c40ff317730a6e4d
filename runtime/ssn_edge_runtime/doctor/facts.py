"""What was found out about a machine: facts only, judged elsewhere.

None, or an empty mapping or tuple, stands for what nobody told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ssn_edge_runtime.device_info import DeviceInfo


@dataclass(frozen=True, slots=True)
class JetsonFacts:
    """Of a Jetson only.

    Args:
        l4t: Jetson Linux, such as ``36.4.3``.
        packages: Installed Debian packages of NVIDIA's and OpenCV's, with versions.
        power_mode: As ``MAXN_SUPER (2)``.
        power_modes: The modes that nvpmodel knows, by number.
        gpu_clock_mhz: Lowest, highest and present clock of the GPU.
        cpu_clock_mhz: The same of the fastest core.
    """

    l4t: str
    packages: Mapping[str, str] = field(default_factory=dict)
    power_mode: str | None = None
    power_modes: Mapping[int, str] = field(default_factory=dict)
    gpu_clock_mhz: tuple[float, float, float] | None = None
    cpu_clock_mhz: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """One installed distribution, as its metadata names it, and the folder that it lies in."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True, slots=True)
class Import:
    """What came of importing a module in a process of its own.

    Args:
        version: The module's; None where it has none.
        file: Where it came from.
        error: Why it cannot be imported; None if it can.
    """

    version: str | None = None
    file: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PythonFacts:
    """The Python that would run the line.

    Args:
        version: Such as ``3.10.12``.
        executable: Its path.
        is_environment: Whether it is a virtual environment.
        sees_system: Whether that sees the system's packages; None outside of one.
        is_system: Whether the interpreter below is the distribution's own.
        distributions: What is installed, in the order of the search path.
        places: Folders on the search path that hold a module, by module.
        imports: What came of importing those that are there.
    """

    version: str
    executable: str
    is_environment: bool = False
    sees_system: bool | None = None
    is_system: bool = False
    distributions: tuple[Distribution, ...] = ()
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    imports: Mapping[str, Import] = field(default_factory=dict)

    def works(self, module: str) -> bool:
        """Whether a module could be imported."""
        found = self.imports.get(module)
        return found is not None and found.error is None

    def named(self, *names: str) -> tuple[Distribution, ...]:
        """Distributions of these names, each once: the one that comes first on the path."""
        found: dict[str, Distribution] = {}
        for each in self.distributions:
            if each.name in names:
                found.setdefault(each.name, each)
        return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Swap:
    """A place that memory is swapped to: its device or file, and bytes."""

    name: str
    size_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Memory in bytes, and where it is swapped to."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    swaps: tuple[Swap, ...] | None = None


@dataclass(frozen=True, slots=True)
class HeatFacts:
    """Temperatures in degrees Celsius by zone, what each calls critical, and what is slowed."""

    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    critical_c: Mapping[str, float] = field(default_factory=dict)
    slowed: tuple[str, ...] = ()
    throttle_events: int | None = None


@dataclass(frozen=True, slots=True)
class FlashLife:
    """What a disk tells of its wear.

    Args:
        used_low: Share of its life that is used, at least.
        used_high: At most; eMMC and UFS tell steps of 10 %.
        reserve: of eMMC and UFS, blocks in reserve: ``normal``, ``warning`` or ``urgent``.
        written_bytes: What was ever written to it; NVMe and some SSDs count it, eMMC and UFS do
            not tell.
    """

    used_low: float | None = None
    used_high: float | None = None
    reserve: str | None = None
    written_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """The disk of a folder.

    Args:
        purpose: ``journal`` or ``cache``.
        folder: The folder that is meant; it need not be there.
        nearest: The nearest folder above that is there.
        is_writable: Whether this user may write in `nearest`.
        free_bytes: For this user.
        total_bytes: Of the file system.
        file_system: Such as ``ext4``.
        disk: Whole device, such as ``mmcblk0``; None where there is none below.
        kind: ``emmc``, ``ufs``, ``sd``, ``nvme``, ``ssd``, ``disk``, ``memory`` or ``network``.
        disk_bytes: Of the whole device.
        life: Its wear; None where it does not tell.
        written_since_boot_bytes: By everybody.
        up_s: Seconds since boot.
    """

    purpose: str
    folder: str
    nearest: str | None = None
    is_writable: bool | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None
    file_system: str | None = None
    disk: str | None = None
    kind: str | None = None
    disk_bytes: int | None = None
    life: FlashLife | None = None
    written_since_boot_bytes: int | None = None
    up_s: float | None = None


@dataclass(frozen=True, slots=True)
class TimeFacts:
    """Whether the clock follows others; who told it; the year that it shows."""

    synchronised: bool | None = None
    told_by: str | None = None
    year: int | None = None


@dataclass(frozen=True, slots=True)
class Camera:
    """A V4L2 device.

    Args:
        path: Device file.
        name: As the driver calls it.
        may_open: Whether this user may read and write it.
        formats: As ``YUYV 640x480, 1280x720``; None where nobody tells.
        error: Why its formats are not known.
    """

    path: str
    name: str | None = None
    may_open: bool | None = None
    formats: tuple[str, ...] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that `run` would want: a camera or an address to listen on.

    Args:
        what: As it was named.
        problem: What keeps it from being had; None for nothing.
        is_known: False if it could not be tried here.
    """

    what: str
    problem: str | None = None
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """Who asks, the groups, and which device nodes that user may open."""

    user: str
    groups: tuple[str, ...] = ()
    nodes: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The systemd unit.

    Args:
        name: Of the unit.
        is_there: Whether its file is.
        properties: What ``systemctl show`` tells; None where nobody can be asked.
    """

    name: str
    is_there: bool = False
    properties: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine that was built on this device.

    Args:
        engine: Its name.
        precision: Of the package's models.
        power_mode: In which it was built.
        l4t_line: The Jetson Linux that it was built under.
        packages: Ids of the packages that it has certificates for.
    """

    engine: str
    precision: str
    power_mode: str | None = None
    l4t_line: str | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageHere:
    """A package on this device.

    Args:
        path: The file.
        package_id: Its id; None if it could not be read.
        engine: What `run` would take, and why; None if nothing.
        problem: Why it cannot be run here; None for nothing.
        is_known: False if the runtime could not be loaded to look.
    """

    path: str
    package_id: str | None = None
    engine: str | None = None
    problem: str | None = None
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is judged.

    Args:
        device: Processor, GPU, clocks.
        python: The interpreter and what it would import.
        access: Rights of who asks.
        jetson: None on anything else.
        has_nvidia_card: Whether the PCI bus has an NVIDIA display device, driver or not.
        cameras: V4L2 devices.
        wanted_cameras: Those that were asked for.
        wanted_addresses: Those to listen on.
        plans: Built engines.
        package: The package that is meant; None for none.
        write_bytes_a_day: The write budget; None for none.
    """

    device: DeviceInfo
    python: PythonFacts
    access: AccessFacts
    jetson: JetsonFacts | None = None
    has_nvidia_card: bool = False
    memory: MemoryFacts = field(default_factory=MemoryFacts)
    heat: HeatFacts = field(default_factory=HeatFacts)
    storage: tuple[StorageFacts, ...] = ()
    time: TimeFacts = field(default_factory=TimeFacts)
    cameras: tuple[Camera, ...] = ()
    wanted_cameras: tuple[Wanted, ...] = ()
    wanted_addresses: tuple[Wanted, ...] = ()
    service: ServiceFacts = field(default_factory=lambda: ServiceFacts("ssn-edge"))
    plans: tuple[Plan, ...] = ()
    package: PackageHere | None = None
    write_bytes_a_day: int | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        document = asdict(self)
        document["device"] = self.device.to_dict()
        return document
