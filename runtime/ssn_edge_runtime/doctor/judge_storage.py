"""Disks: room, whether one may write there, and for how many years flash lasts.

Sources:
    JEDEC eMMC 5.0 (JESD84-B50), DEVICE_LIFE_TIME_EST and PRE_EOL_INFO; JEDEC UFS (JESD220), health
    descriptor; NVM Express base specification, SMART / Health Information (percentage used, data
    units written); ATA Command Set, device statistics (percentage used endurance indicator).
"""

from __future__ import annotations

from ssn_edge_runtime.doctor.facts import Facts, FlashLife, StorageFacts
from ssn_edge_runtime.doctor.findings import Finding, Level

LEAST_FREE_BYTES = 2**30
"""Below it a line may run for a while only; at the journal's own reserve it stops."""
JOURNAL_RESERVE_BYTES = 64 * 2**20
"""What `sinks.journal` keeps free: below it every part is unknown. A test holds both equal."""
WORN = 0.8
FEWEST_YEARS = 5.0
DAY_S = 24 * 3600.0
YEAR_DAYS = 365.25
LEAST_UP_S = 3600.0
"""What was written since boot says something from so long on."""

WHOLE_WRITES = {"emmc": 250, "ufs": 250, "sd": 100, "nvme": 300, "ssd": 300}
"""How often all of a disk can be written, where it does not tell: a guess on the careful side (a
thousand cycles of the flash, four times as much written as asked for). Its maker knows better."""
_ASKED_BY_ROOT = {
    "nvme": ("sudo apt install nvme-cli", "sudo nvme smart-log /dev/{}"),
    "ssd": ("sudo apt install smartmontools", "sudo smartctl -l devstat /dev/{}"),
}


def judge_storage(facts: Facts) -> list[Finding]:
    """Of the journal's disk and of the engine cache's."""
    findings = []
    for each in facts.storage:
        findings += _room(each)
        if each.purpose == "journal":
            findings += _kind(each)
            findings.append(_life(each, facts.write_bytes_a_day))
    return findings


def _room(storage: StorageFacts) -> list[Finding]:
    area = f"{storage.purpose} disk"
    if storage.nearest is None or storage.free_bytes is None:
        return [Finding(area, Level.NOTE, f"{storage.folder}: not known")]
    free = storage.free_bytes / 1e9
    all_of_it = "?" if storage.total_bytes is None else f"{storage.total_bytes / 1e9:.1f}"
    told = f"{storage.folder}: {free:.1f} of {all_of_it} GB free"
    findings = []
    if storage.is_writable is False:
        fix = (f"sudo install -d -o $USER -g $USER -m 0750 {storage.folder}",)
        told_shut = f"{storage.folder}: this user may not write in {storage.nearest}"
        findings.append(Finding(area, _shut(storage), told_shut, "a folder of its own", fix))
    make_room = (f"du -x -h -d 2 {storage.nearest} | sort -h | tail", "sudo apt clean")
    if storage.free_bytes < JOURNAL_RESERVE_BYTES and storage.purpose == "journal":
        wanted = (
            f"{LEAST_FREE_BYTES / 1e9:.1f} GB; below the journal's reserve every part is unknown"
        )
        return [*findings, Finding(area, Level.PROBLEM, told, wanted, make_room)]
    if storage.free_bytes < LEAST_FREE_BYTES:
        wanted = f"{LEAST_FREE_BYTES / 1e9:.1f} GB"
        return [*findings, Finding(area, Level.WARNING, told, wanted, make_room)]
    return findings or [Finding(area, Level.OK, told)]


def _shut(storage: StorageFacts) -> Level:
    # Without a cache a built engine cannot be kept; a line on the processor runs all the same.
    return Level.PROBLEM if storage.purpose == "journal" else Level.WARNING


def _kind(storage: StorageFacts) -> list[Finding]:
    fix: tuple[str, ...]
    area = "journal disk"
    if storage.kind == "memory":
        told = f"{storage.folder} lies in memory ({storage.file_system}): a loss of power loses it"
        fix = ("choose a folder on a disk: ssn-edge run --output FOLDER",)
        return [Finding(area, Level.WARNING, told, "a disk", fix)]
    if storage.kind == "network":
        told = (
            f"{storage.folder} lies in the network ({storage.file_system}): a pause stops the line"
        )
        fix = ("choose a folder on a disk: ssn-edge run --output FOLDER",)
        return [Finding(area, Level.WARNING, told, "a disk of this machine", fix)]
    if storage.kind == "sd":
        told = f"{storage.folder} lies on an SD card ({storage.disk}), which tells no wear"
        fix = ("put the journal on an NVMe disk: ssn-edge run --output FOLDER",)
        return [Finding(area, Level.WARNING, told, "NVMe or eMMC", fix)]
    return []


def _life(storage: StorageFacts, budget: int | None) -> Finding:
    fix: tuple[str, ...]
    area = "flash life"
    if storage.kind in ("memory", "network", "disk"):
        where = storage.disk or storage.file_system or "?"
        return Finding(area, Level.OK, f"{where} ({storage.kind}) tells of no flash")
    life = storage.life
    worn = "" if life is None else _wear(life)
    years = years_left(storage, budget)
    measured = written_a_day(storage)
    told = [f"{storage.disk} ({storage.kind})" if storage.kind else "the disk is not known"]
    told += [worn] if worn else ["it tells no wear here"]
    if years is not None and (rate := budget or measured):
        told.append(f"{_years(years)} left at {rate / 1e9:.2g} GB a day, {_known_by(storage)}")
    if measured is not None:
        told.append(f"{measured / 1e9:.2g} GB a day were written since it was started")
    text = ", ".join(told)
    if life is not None and ((life.used_high or 0) > WORN or life.reserve in ("warning", "urgent")):
        fix = ("replace the disk, or move the journal: ssn-edge run --output FOLDER",)
        return Finding(area, Level.WARNING, text, "a disk with life left", fix)
    if years is not None and years < FEWEST_YEARS:
        fix = ("ssn-edge run --write-budget GB (a day), with less evidence kept",)
        return Finding(area, Level.WARNING, text, f"{FEWEST_YEARS:.0f} years or more", fix)
    if life is None and storage.kind in _ASKED_BY_ROOT:
        fix = tuple(each.format(storage.disk) for each in _ASKED_BY_ROOT[storage.kind])
        return Finding(area, Level.NOTE, text, "its wear, which root alone may ask for", fix)
    if life is None:
        return Finding(area, Level.NOTE, text)
    if budget is None:
        fix = ("ssn-edge run --write-budget GB (a day)",)
        return Finding(area, Level.NOTE, text, "a write budget, which bounds it", fix)
    return Finding(area, Level.OK, text)


def _wear(life: FlashLife) -> str:
    words = []
    if life.used_low is not None and life.used_high is not None:
        if life.used_low >= 1:
            words.append("all of its rated life is used")
        else:
            words.append(f"{life.used_low:.0%} to {life.used_high:.0%} of its life used")
    if life.reserve is not None:
        words.append(f"reserve {life.reserve}")
    return ", ".join(words)


def _known_by(storage: StorageFacts) -> str:
    """Whether that is the disk's own word, or how much of it is a guess."""
    life = storage.life
    if life is not None and counted_bytes(life) is not None:
        return "by what it counted"
    writes = WHOLE_WRITES[storage.kind or "ssd"]
    guess = f"a guess: {writes} whole writes; its data sheet knows better"
    return guess if life is None or life.used_high is None else f"{guess} (less what is used)"


def counted_bytes(life: FlashLife) -> float | None:
    """What a disk bears by its own word: bytes written over the share used, from 1 % on.

    None where it is too new to say, or tells the share alone, as eMMC and UFS.
    """
    if not life.written_bytes or not life.used_low or not life.used_high:
        return None
    return life.written_bytes / life.used_high


def _years(years: float) -> str:
    return "more than 30 years" if years > 30 else f"about {years:.1f} years"


def written_a_day(storage: StorageFacts) -> float | None:
    """Bytes a day since boot, by everybody; None where that is too short ago to say."""
    if storage.written_since_boot_bytes is None or (storage.up_s or 0) < LEAST_UP_S:
        return None
    return storage.written_since_boot_bytes * DAY_S / storage.up_s  # type: ignore[operator]


def years_left(storage: StorageFacts, budget: int | None) -> float | None:
    """An estimate: what the disk can still take, over what is written to it in a day.

    What it can take follows from what it counted (`counted_bytes`); else from its size and
    `WHOLE_WRITES`. The upper end of what is used counts, whoever tells it.

    Args:
        storage: A disk.
        budget: Bytes a day; None for what was written a day since boot.
    """
    rate = budget or written_a_day(storage)
    if not rate or storage.kind not in WHOLE_WRITES:
        return None
    life = storage.life or FlashLife()
    used = min(1.0, life.used_high or 0.0)
    bears = counted_bytes(life)
    if bears is None and storage.disk_bytes:
        bears = float(storage.disk_bytes * WHOLE_WRITES[storage.kind])
    if bears is None:
        return None
    return bears * (1 - used) / rate / YEAR_DAYS
