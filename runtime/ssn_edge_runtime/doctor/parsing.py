"""What files and commands say, as numbers and names. Nothing here raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from ssn_edge_runtime.doctor.facts import FlashLife, Swap

JETSON_PACKAGES = re.compile(
    r"nvidia-(jetpack|l4t-core|opencv|tensorrt)|tensorrt|libnvinfer\d+|python3-libnvinfer"
    r"|libopencv(-python)?|python3-(opencv|numpy)|cuda-cudart-\d+-\d+"
)
"""Debian packages that tell where a Jetson's libraries are from."""


def parse_dpkg_status(text: str) -> dict[str, str]:
    """``/var/lib/dpkg/status``: the installed packages of `JETSON_PACKAGES`, with versions."""
    packages = {}
    for block in text.split("\n\n"):
        name = re.search(r"^Package: (\S+)$", block, re.MULTILINE)
        if name is None or JETSON_PACKAGES.fullmatch(name[1]) is None:
            continue
        version = re.search(r"^Version: (\S+)$", block, re.MULTILINE)
        if version and re.search(r"^Status: \S+ ok installed$", block, re.MULTILINE):
            packages[name[1]] = version[1]
    return packages


def parse_power_modes(text: str) -> dict[int, str]:
    """Names of the power modes in ``/etc/nvpmodel.conf``, by number."""
    found = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", text, re.MULTILINE)
    return {int(number): name for number, name in found}


def parse_swaps(text: str) -> tuple[Swap, ...]:
    """``/proc/swaps``: kilobytes after a line of titles."""
    swaps = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 4 and words[2].isdecimal() and words[3].isdecimal():
            swaps.append(Swap(words[0], int(words[2]) * 1024, int(words[3]) * 1024))
    return tuple(swaps)


def parse_mountinfo(text: str, number: str) -> tuple[str, str] | None:
    """File system and source of the mounted device of a number such as ``179:1``."""
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        words, after = left.split(), right.split()
        if dash and len(words) > 2 and words[2] == number and len(after) >= 2:
            return after[0], after[1]
    return None


SECTOR_BYTES = 512
"""In which the kernel counts, whatever the disk's own are."""


def parse_disk_stat(text: str) -> int | None:
    """Bytes written since boot, in a disk's ``stat``."""
    words = text.split()
    return int(words[6]) * SECTOR_BYTES if len(words) > 6 and words[6].isdecimal() else None


_RESERVE = {1: "normal", 2: "warning", 3: "urgent"}


def parse_emmc_life(life_time: str, pre_eol_info: str) -> FlashLife | None:
    """``life_time`` (two estimates in steps of 10 %) and ``pre_eol_info``, as JEDEC counts.

    UFS counts the same way, in files of other names.

    The worse of both estimates is the one that counts; 0x0b is beyond its life, 0 tells nothing.
    """
    steps = [int(each, 16) for each in re.findall(r"0x[0-9a-fA-F]+", life_time)]
    known = [each for each in steps if 1 <= each <= 11]
    reserves = re.findall(r"0x[0-9a-fA-F]+", pre_eol_info)
    reserve = _RESERVE.get(int(reserves[0], 16)) if reserves else None
    if not known and reserve is None:
        return None
    worst = max(known, default=0)
    if not worst:
        return FlashLife(reserve=reserve)
    return FlashLife((worst - 1) / 10, min(worst, 11) / 10, reserve)


NVME_UNIT_BYTES = 512_000
"""NVMe counts what was written in thousands of 512 bytes."""


def parse_nvme_life(text: str) -> FlashLife | None:
    """What ``nvme smart-log -o json`` or ``smartctl -j -A`` prints."""
    document = _json(text)
    log = document.get("nvme_smart_health_information_log", document)
    if not isinstance(log, Mapping):
        return None
    used = log.get("percentage_used", log.get("percent_used"))
    written = log.get("data_units_written")
    if isinstance(used, bool) or not isinstance(used, (int, float)) or used < 0:
        return None
    written_bytes = None
    if isinstance(written, (int, float)) and not isinstance(written, bool):
        written_bytes = int(written) * NVME_UNIT_BYTES
    return FlashLife(used / 100, (used + 1) / 100, written_bytes=written_bytes)


def parse_ata_life(text: str) -> FlashLife | None:
    """What ``smartctl -j -l devstat`` prints of an SSD: the statistics that ATA itself names."""
    pages = _json(text).get("ata_device_statistics")
    pages = pages.get("pages") if isinstance(pages, Mapping) else None
    found: dict[str, int] = {}
    for page in pages if isinstance(pages, list) else []:
        table = page.get("table") if isinstance(page, Mapping) else None
        for row in table if isinstance(table, list) else []:
            value = row.get("value") if isinstance(row, Mapping) else None
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                found[str(row.get("name"))] = value
    used = found.get("Percentage Used Endurance Indicator")
    if used is None:
        return None
    written = found.get("Logical Sectors Written")
    written_bytes = None if written is None else written * SECTOR_BYTES
    return FlashLife(used / 100, (used + 1) / 100, written_bytes=written_bytes)


def parse_properties(text: str) -> dict[str, str]:
    """Lines of ``name=value``, as `timedatectl show` and `systemctl show` print them."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def parse_formats(text: str) -> tuple[str, ...] | str | None:
    """What the camera probe printed: formats, or why there are none; None if it is neither."""
    document = _json((text.strip().splitlines() or [""])[-1])
    if isinstance(error := document.get("error"), str):
        return error
    formats = document.get("formats")
    if not isinstance(formats, list):
        return None
    return tuple(str(each) for each in formats)


def parse_v4l2_ctl(text: str) -> tuple[str, ...]:
    """What ``v4l2-ctl --list-formats-ext`` prints, in the form of the camera probe's."""
    formats: dict[str, list[str]] = {}
    sizes: list[str] = []
    for line in text.splitlines():
        if found := re.match(r"\s*\[\d+\]: '(.{1,4})'", line):
            sizes = formats.setdefault(found[1].strip(), [])
        elif found := re.match(r"\s*Size: \w+ (\d+x\d+.*)", line):
            sizes.append(found[1].strip())
    return tuple(f"{fourcc} {', '.join(sizes)}".strip() for fourcc, sizes in formats.items())


def version_numbers(text: str | None) -> tuple[int, ...]:
    """The numbers that a version begins with: ``10.3.0.30-1+cuda12.5`` as (10, 3, 0, 30)."""
    found = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def options_of(command: str, name: str) -> Iterator[str]:
    """Values of an option in a unit's ``ExecStart``, as ``--listen 127.0.0.1:8090``."""
    for found in re.finditer(rf"{re.escape(name)}[ =]\"?([^\s\";]+)", command):
        yield found[1]


def _json(text: str) -> Mapping[str, object]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
