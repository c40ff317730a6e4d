"""How the device is: temperatures, clocks, throttling, memory and disk. It never raises."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from ssn_edge_runtime.device_parsing import parse_meminfo
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.kernel_files import (
    KernelFiles,
    quietly,
    read_active_cooling,
    read_clocks_mhz,
    read_critical_c,
    read_power_mode,
    read_temperatures_c,
    read_throttle_events,
)

SAMPLED_EVERY_S = 2.0
CRITICAL_MARGIN_C = 5.0
"""Below what a zone calls critical (the kernel then powers off), no verdict is trusted any more."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The device at one moment. None, or an empty mapping, stands for what it does not tell.

    Args:
        monotonic_s: When it was looked at.
        temperatures_c: By thermal zone.
        critical_c: What each zone calls critical, by zone.
        clocks_mhz: Of processor (fastest core) and a Jetson's GPU, now and at most.
        throttle_events: How often the hardware took clocks back since it started.
        new_throttle_events: Of them, those since the look before.
        slowed: What the kernel slows down now, to cool the device.
        available_memory_bytes: What a program could have now.
        free_disk_bytes: On the journal's disk.
        power_mode: A Jetson's.
    """

    monotonic_s: float = 0.0
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    critical_c: Mapping[str, float] = field(default_factory=dict)
    clocks_mhz: Mapping[str, float] = field(default_factory=dict)
    throttle_events: int | None = None
    new_throttle_events: int = 0
    slowed: tuple[str, ...] = ()
    available_memory_bytes: int | None = None
    free_disk_bytes: int | None = None
    power_mode: str | None = None

    @property
    def is_throttled(self) -> bool | None:
        """Whether clocks are held back, or were since the look before; None where nobody tells."""
        if self.slowed or self.new_throttle_events:
            return True
        return None if self.throttle_events is None else False

    @property
    def hottest(self) -> tuple[str, float] | None:
        """Zone and temperature; None where there is none."""
        if not self.temperatures_c:
            return None
        return max(self.temperatures_c.items(), key=lambda item: item[1])

    def overheated(self, max_temperature_c: float | None = None) -> str | None:
        """Why no verdict can be trusted now, in one line; None for no reason.

        Args:
            max_temperature_c: The limit of every zone; None for what each zone calls critical, less
                `CRITICAL_MARGIN_C`. A zone that tells nothing has no limit then.
        """
        for zone, celsius in self.temperatures_c.items():
            limit = max_temperature_c
            if limit is None and zone in self.critical_c:
                limit = self.critical_c[zone] - CRITICAL_MARGIN_C
            if limit is not None and celsius >= limit:
                return f"{zone} has {celsius:.1f} degrees C, the limit is {limit:.1f}"
        return None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "is_throttled": self.is_throttled}


class HealthReader:
    """Looks at the device; some sensors take milliseconds, so not between two parts.

    Args:
        disk: Folder of the journal.
        root: What stands for ``/`` in tests.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        disk: Path | None = None,
        *,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = KernelFiles(root)
        self._disk = disk
        self._clock = clock
        self._events: int | None = None

    def read(self) -> Health:
        """The device now; never raises."""
        return quietly(self._read) or Health(monotonic_s=self._clock())

    def _read(self) -> Health:
        events, before = quietly(lambda: read_throttle_events(self._files)), self._events
        self._events = events
        new_events = 0 if events is None or before is None else max(0, events - before)
        memory = parse_meminfo(self._files.text("proc/meminfo") or "")
        return Health(
            monotonic_s=self._clock(),
            temperatures_c=quietly(lambda: read_temperatures_c(self._files)) or {},
            critical_c=quietly(lambda: read_critical_c(self._files)) or {},
            clocks_mhz=quietly(lambda: read_clocks_mhz(self._files)) or {},
            throttle_events=events,
            new_throttle_events=new_events,
            slowed=quietly(lambda: read_active_cooling(self._files)) or (),
            available_memory_bytes=memory.get("MemAvailable"),
            free_disk_bytes=quietly(self._free_disk),
            power_mode=quietly(lambda: read_power_mode(self._files)),
        )

    def _free_disk(self) -> int | None:
        if self._disk is None:
            return None
        disk = os.statvfs(self._disk)
        return disk.f_bavail * disk.f_frsize


class HealthSampler:
    """Looks at the device every so often in a thread of its own; `latest` costs nothing.

    Args:
        reader: What looks.
        every_s: How often, in seconds.
    """

    def __init__(self, reader: HealthReader, *, every_s: float = SAMPLED_EVERY_S) -> None:
        if not every_s > 0:
            raise ConfigError(f"a look at the device every {every_s} s; a time above 0 is wanted")
        self._reader = reader
        self._every_s = every_s
        self._latest = Health()
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def latest(self) -> Health:
        """The last look; see its `monotonic_s` for how old it is."""
        return self._latest

    def open(self) -> None:
        """Take the first look and go on."""
        self._latest = self._reader.read()
        self._stop.clear()
        self._thread = Thread(target=self._sample, name="ssn-edge-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; a sensor that hangs is left behind. A second call does nothing."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(5.0)
            if thread.is_alive():
                logger.warning("a sensor of this device does not answer")

    def __enter__(self) -> HealthSampler:
        """Open it."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _sample(self) -> None:
        while not self._stop.wait(self._every_s):
            self._latest = self._reader.read()
