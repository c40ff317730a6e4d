"""A Jetson's own: JetPack, the power mode and what engines were built in, clocks.

Sources:
    NVIDIA JetPack archive and Jetson Linux release notes (which Jetson Linux is of which JetPack);
    Jetson Linux Developer Guide, "Power Management" (nvpmodel, jetson_clocks).
"""

from __future__ import annotations

from ssn_edge_runtime.doctor.facts import Facts, JetsonFacts, Plan
from ssn_edge_runtime.doctor.findings import Finding, Level
from ssn_edge_runtime.doctor.parsing import version_numbers

OLDEST_JETSON_LINUX = (36, 4)
"""JetPack 6.1: the first with TensorRT 10.3."""
_JETPACK_OF = {36: 6, 38: 7, 39: 7}
_OLD_JETPACK_OF = {32: 4, 34: 5, 35: 5, 36: 6}


def judge_jetpack(facts: Facts) -> list[Finding]:
    """The release: 5 is refused, 6 from 6.1 on and 7 are supported."""
    jetson, area = facts.jetson, "JetPack"
    if jetson is None:
        return []
    linux = version_numbers(jetson.l4t)
    named = jetson.packages.get("nvidia-jetpack")
    told = f"Jetson Linux {jetson.l4t}" + (f", nvidia-jetpack {named}" if named else "")
    if linux < OLDEST_JETSON_LINUX:
        older = _OLD_JETPACK_OF.get(linux[0], "before 6")
        return [
            Finding(
                area,
                Level.PROBLEM,
                f"{told}: JetPack {older}{' before 6.1' if older == 6 else ''}, whose TensorRT is "
                "8 and knows no strongly typed networks",
                "JetPack 6.1 or newer",
                ("flash JetPack 6.2 or newer with NVIDIA SDK Manager; an Xavier cannot run it",),
            )
        ]
    major = _JETPACK_OF.get(linux[0])
    if major is None:
        told += ": newer than this version of ssn-edge knows"
        return [Finding(area, Level.WARNING, told, "JetPack 6 or 7", ("ssn-edge verify",))]
    findings = [Finding(area, Level.OK, f"{told}: JetPack {major}")]
    if named and version_numbers(named)[:1] != (major,):
        findings.append(
            Finding(
                area,
                Level.WARNING,
                f"nvidia-jetpack {named} does not belong to Jetson Linux {jetson.l4t}",
                f"packages of JetPack {major}",
                ("sudo apt update", "sudo apt dist-upgrade", "sudo reboot"),
            )
        )
    core = version_numbers((jetson.packages.get("nvidia-l4t-core") or "").split("-")[0])
    if core and core != linux:
        findings.append(
            Finding(
                area,
                Level.WARNING,
                f"nvidia-l4t-core is {'.'.join(map(str, core))}, and the system says {jetson.l4t}: "
                "an update that was not finished",
                "one version",
                ("sudo apt --fix-broken install", "sudo reboot"),
            )
        )
    return findings


def judge_power_mode(facts: Facts) -> list[Finding]:
    """The power mode, against that in which the engines were built."""
    jetson, area = facts.jetson, "power mode"
    if jetson is None:
        return []
    if jetson.power_mode is None:
        told, fix = "not known: nvpmodel -q told nothing", ("sudo nvpmodel -q",)
        return [Finding(area, Level.NOTE, told, "the mode that the engine was built in", fix)]
    plans = _plans_that_count(facts)
    others = {each.power_mode for each in plans if each.power_mode} - {jetson.power_mode}
    if others and not any(each.power_mode == jetson.power_mode for each in plans):
        built = " and ".join(sorted(others))
        return [
            Finding(
                area,
                Level.WARNING,
                f"{jetson.power_mode}, and the engine was built and measured in {built}",
                built,
                (*_to_mode(jetson, sorted(others)[0]), "or build it again: ssn-edge build --force"),
            )
        ]
    if not plans:
        told = f"{jetson.power_mode}; no engine was built on this device yet"
        fix = ("ssn-edge build part.ssn",)
        return [Finding(area, Level.NOTE, told, "build in the mode that will run", fix)]
    return [Finding(area, Level.OK, f"{jetson.power_mode}, as the engine was built in")]


def _plans_that_count(facts: Facts) -> list[Plan]:
    """Those of the package that is meant, or all where none is."""
    wanted = None if facts.package is None else facts.package.package_id
    return [each for each in facts.plans if wanted is None or wanted in each.packages]


def _to_mode(jetson: JetsonFacts, mode: str) -> tuple[str, ...]:
    name = mode.split(" ")[0]
    for number, other in jetson.power_modes.items():
        if other == name:
            return (f"sudo nvpmodel -m {number}",)
    return ("sudo nvpmodel -q --verbose",)


def judge_clocks(facts: Facts) -> list[Finding]:
    """Whether clocks are pinned: where they follow the load, latency does, too."""
    fix: tuple[str, ...]
    area, jetson = "clocks", facts.jetson
    if jetson is None:
        governor = facts.device.governor
        if governor is None:
            return [Finding(area, Level.NOTE, "not known: this kernel tells no clock governor")]
        if governor == "performance":
            return [Finding(area, Level.OK, "governor performance")]
        fix = ("sudo cpupower frequency-set -g performance",)
        told = f"governor {governor}: the clock follows the load, and so does latency"
        return [Finding(area, Level.NOTE, told, "performance", fix)]
    clocks = {"GPU": jetson.gpu_clock_mhz, "processor": jetson.cpu_clock_mhz}
    known = {name: clock for name, clock in clocks.items() if clock is not None}
    if not known:
        fix = ("sudo jetson_clocks --show",)
        return [Finding(area, Level.NOTE, "not known: the kernel tells none", "", fix)]
    told = ", ".join(
        f"{name} {now:.0f} MHz of {low:.0f} to {high:.0f}"
        for name, (low, high, now) in known.items()
    )
    if all(low == high for low, high, _ in known.values()):
        return [Finding(area, Level.OK, f"pinned: {told}")]
    fix = ("sudo jetson_clocks", "at each start, by a systemd unit: see runtime/jetson/README.md")
    return [Finding(area, Level.NOTE, f"follow the load: {told}", "pinned, for even latency", fix)]
