"""The disk of a folder: room, kind, wear, and what is written to it."""

from __future__ import annotations

import re
from pathlib import Path

from ssn_edge_runtime.device_parsing import parse_number
from ssn_edge_runtime.doctor.facts import FlashLife, StorageFacts
from ssn_edge_runtime.doctor.host import Host
from ssn_edge_runtime.doctor.parsing import (
    SECTOR_BYTES,
    parse_ata_life,
    parse_disk_stat,
    parse_emmc_life,
    parse_mountinfo,
    parse_nvme_life,
)

_IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")
_IN_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph")


def gather_storage(host: Host, purpose: str, folder: Path) -> StorageFacts:
    """Of a folder, or of the nearest folder above it that is there.

    Args:
        host: What is asked.
        purpose: ``journal`` or ``cache``.
        folder: Of that.
    """
    nearest = host.nearest(folder)
    if nearest is None:
        return StorageFacts(purpose, str(folder))
    room = host.free_and_total(nearest)
    number = host.device_number(nearest)
    mounted = parse_mountinfo(host.files.text("proc/self/mountinfo") or "", number or "?")
    file_system = None if mounted is None else mounted[0]
    disk = None if number is None else _whole_disk(host, number)
    if disk is None and mounted is not None:
        disk = _disk_of_source(host, mounted[1])
    size = None if disk is None else host.files.number(f"sys/block/{disk}/size")
    stat = None if disk is None else host.files.text(f"sys/block/{disk}/stat")
    up = (host.files.text("proc/uptime") or "").split()
    return StorageFacts(
        purpose=purpose,
        folder=str(folder),
        nearest=str(nearest),
        is_writable=host.may_write_in(nearest),
        free_bytes=None if room is None else room[0],
        total_bytes=None if room is None else room[1],
        file_system=file_system,
        disk=disk,
        kind=_kind(host, disk, file_system),
        disk_bytes=None if size is None else int(size) * SECTOR_BYTES,
        life=None if disk is None else _life(host, disk),
        written_since_boot_bytes=parse_disk_stat(stat or ""),
        up_s=parse_number(up[0]) if up else None,
    )


def _whole_disk(host: Host, number: str) -> str | None:
    """The disk that a partition is of: sysfs has a partition's folder inside its disk's."""
    link = host.root / "sys/dev/block" / number
    try:
        folder = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return folder.parent.name if (folder / "partition").exists() else folder.name


def _disk_of_source(host: Host, source: str) -> str | None:
    """By name, where the kernel gives a file system a number of its own, as btrfs and overlays."""
    name = source.removeprefix("/dev/")
    for each in host.files.folders("sys/block/*"):
        if name == each.name or re.fullmatch(rf"{re.escape(each.name)}p?\d+", name):
            return each.name
    return None


def _kind(host: Host, disk: str | None, file_system: str | None) -> str | None:
    if file_system in _IN_MEMORY:
        return "memory"
    if file_system in _IN_NETWORK:
        return "network"
    if disk is None:
        return None
    if disk.startswith("nvme"):
        return "nvme"
    if disk.startswith("mmcblk"):
        # A card tells SD, what is soldered on tells MMC.
        told = host.files.line(f"sys/block/{disk}/device/type")
        return {"MMC": "emmc", "SD": "sd"}.get(told or "")
    if _ufs_health(host, disk) is not None:
        return "ufs"
    turns = host.files.number(f"sys/block/{disk}/queue/rotational")
    return {0.0: "ssd", 1.0: "disk"}.get(-1.0 if turns is None else turns)


def _life(host: Host, disk: str) -> FlashLife | None:
    if disk.startswith("mmcblk"):
        return parse_emmc_life(
            host.files.text(f"sys/block/{disk}/device/life_time") or "",
            host.files.text(f"sys/block/{disk}/device/pre_eol_info") or "",
        )
    if (health := _ufs_health(host, disk)) is not None:
        used = [host.files.line(health / f"life_time_estimation_{each}") or "" for each in "ab"]
        return parse_emmc_life(" ".join(used), host.files.line(health / "eol_info") or "")
    # NVMe and ATA tell it by a command that only root may send.
    if not disk.startswith("nvme"):
        if _kind(host, disk, None) != "ssd":
            return None
        return parse_ata_life(host.run(("smartctl", "-j", "-l", "devstat", f"/dev/{disk}")) or "")
    for command in (
        ("nvme", "smart-log", f"/dev/{disk}", "-o", "json"),
        ("smartctl", "-j", "-A", f"/dev/{disk}"),
    ):
        if (life := parse_nvme_life(host.run(command) or "")) is not None:
            return life
    return None


def _ufs_health(host: Host, disk: str) -> Path | None:
    """The folder in which UFS tells its wear, that of the controller above the disk."""
    try:
        block = (host.root / "sys/block" / disk).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    above = (each / "health_descriptor" for each in block.parents if each != each.parent)
    return next((each for each in above if each.is_dir()), None)
