"""The machine under the line: memory, heat, time, and who may open its devices."""

from __future__ import annotations

from ssn_edge_runtime.doctor.facts import Facts, Swap
from ssn_edge_runtime.doctor.findings import Finding, Level

LEAST_MEMORY_BYTES = 2**30
"""Available: a package of 130 MB, its network and the frames in flight."""
CRITICAL_MARGIN_C = 5.0
"""As `supervision.health`: closer to critical no verdict is trusted. A test holds both equal."""
NEAR_MARGIN_C = 15.0
CLOCK_YEAR = 2026
"""A clock that shows an earlier one was never set: a Jetson without a battery starts in 1970."""


def judge_memory(facts: Facts) -> list[Finding]:
    """Memory and swap."""
    memory, area = facts.memory, "memory"
    if memory.available_bytes is None or memory.total_bytes is None:
        told = "not known: /proc/meminfo tells nothing"
        return [Finding(area, Level.NOTE, told), *_swap(facts, memory.swaps)]
    available, total = memory.available_bytes / 2**30, memory.total_bytes / 2**30
    told = f"{available:.1f} of {total:.1f} GiB available"
    findings = []
    if memory.available_bytes < LEAST_MEMORY_BYTES:
        fix = ["ps aux --sort=-rss | head"]
        if facts.jetson is not None:
            fix += ["sudo systemctl set-default multi-user.target && sudo reboot"]
        wanted = f"{LEAST_MEMORY_BYTES / 2**30:.0f} GiB"
        findings.append(Finding(area, Level.WARNING, told, wanted, tuple(fix)))
    else:
        findings.append(Finding(area, Level.OK, told))
    return findings + _swap(facts, memory.swaps)


def _swap(facts: Facts, swaps: tuple[Swap, ...] | None) -> list[Finding]:
    area = "swap"
    if swaps is None:
        return [Finding(area, Level.NOTE, "not known: /proc/swaps is not there")]
    if not swaps:
        if facts.jetson is None:
            return [Finding(area, Level.OK, "none")]
        told = "none: building an engine may end for want of memory"
        fix = ("sudo systemctl enable --now nvzramconfig",)
        return [Finding(area, Level.NOTE, told, "swap in memory (zram) while building", fix)]
    on_disk = [each for each in swaps if "/zram" not in each.name]
    size = sum(each.size_bytes for each in swaps) / 2**30
    used = sum(each.used_bytes for each in swaps) / 2**30
    told = f"{size:.1f} GiB, {used:.1f} in use"
    if on_disk and any(each.used_bytes for each in on_disk):
        names = ", ".join(each.name for each in on_disk)
        return [
            Finding(
                area,
                Level.NOTE,
                f"{told}, on disk ({names}): what is swapped out comes back late, and wears flash",
                "zram, or the line's memory locked",
                ("ssn-edge run --lock-memory", f"sudo swapoff {on_disk[0].name}"),
            )
        ]
    return [Finding(area, Level.OK, f"{told}, {'on disk' if on_disk else 'in memory (zram)'}")]


def judge_heat(facts: Facts) -> list[Finding]:
    """Temperature against what each zone calls critical, and whether clocks are held back."""
    heat, area = facts.heat, "temperature"
    if not heat.temperatures_c:
        return [Finding(area, Level.NOTE, "not known: this machine tells none")]
    near = {
        zone: limit - heat.temperatures_c[zone]
        for zone, limit in heat.critical_c.items()
        if zone in heat.temperatures_c
    }
    hottest = max(heat.temperatures_c, key=lambda zone: heat.temperatures_c[zone])
    zone = min(near, key=lambda zone: near[zone]) if near else hottest
    told = f"{zone} {heat.temperatures_c[zone]:.0f} degrees C"
    if zone in heat.critical_c:
        told += f", critical {heat.critical_c[zone]:.0f}"
    cool = ("clean the fan and the cooler, or choose a lower power mode: sudo nvpmodel -m N",)
    margin = near.get(zone)
    if margin is not None and margin <= CRITICAL_MARGIN_C:
        wanted = f"{CRITICAL_MARGIN_C:.0f} degrees less; so hot every part is unknown"
        return [Finding(area, Level.PROBLEM, told, wanted, cool)]
    if heat.slowed:
        told += f"; slowed down now: {', '.join(heat.slowed)}"
        return [Finding(area, Level.WARNING, told, "clocks that are not held back", cool)]
    if margin is not None and margin <= NEAR_MARGIN_C:
        return [Finding(area, Level.WARNING, told, f"{NEAR_MARGIN_C:.0f} degrees below", cool)]
    if heat.throttle_events:
        told += f"; clocks were held back {heat.throttle_events} times since it was started"
        return [Finding(area, Level.NOTE, told, "never", cool)]
    return [Finding(area, Level.OK, told)]


def judge_time(facts: Facts) -> list[Finding]:
    """Whether the clock follows others: records carry its time, and a step is noted in the log."""
    time, area = facts.time, "time"
    keep = ("sudo timedatectl set-ntp true", "timedatectl timesync-status")
    if time.year is not None and time.year < CLOCK_YEAR:
        told = f"the clock shows the year {time.year}"
        fix = ("sudo timedatectl set-time 'YYYY-MM-DD hh:mm:ss'", *keep)
        return [Finding(area, Level.WARNING, told, "the time of day", fix)]
    if time.synchronised is None:
        told = "not known: neither timedatectl nor chronyc tells"
        return [Finding(area, Level.NOTE, told, "a clock that follows others", keep)]
    if not time.synchronised:
        told = f"the clock follows nobody (told by {time.told_by})"
        wanted = "time from the plant's server (NTP), so that records can be put beside others"
        return [Finding(area, Level.WARNING, told, wanted, keep)]
    return [Finding(area, Level.OK, f"synchronised (told by {time.told_by})")]


def judge_access(facts: Facts) -> list[Finding]:
    """Whether this user may open the GPU's devices and the cameras'."""
    access, area = facts.access, "access"
    shut = [node for node, may in access.nodes.items() if not may]
    shut += [each.path for each in facts.cameras if each.may_open is False]
    if not shut:
        groups = ", ".join(access.groups)
        return [Finding(area, Level.OK, f"user {access.user} (groups {groups})")]
    wanted = ["video"] + (["render"] if any("/dri/" in node for node in shut) else [])
    missing = [each for each in wanted if each not in access.groups]
    told = f"user {access.user} may not open {', '.join(shut)}"
    if not missing:
        fix: tuple[str, ...] = (f"ls -l {' '.join(shut)}",)
        return [Finding(area, Level.WARNING, told, "read and write", fix)]
    fix = (f"sudo usermod -aG {','.join(missing)} {access.user}", "log out and in again")
    return [Finding(area, Level.WARNING, told, f"group {' and '.join(missing)}", fix)]
