"""How long flash lasts: an estimate whose assumptions hold in the direction they are named in."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.doctor.facts import FlashLife, StorageFacts
from ssn_edge_runtime.doctor.judge_line import READ
from ssn_edge_runtime.doctor.judge_machine import CRITICAL_MARGIN_C
from ssn_edge_runtime.doctor.judge_storage import (
    JOURNAL_RESERVE_BYTES,
    WHOLE_WRITES,
    written_a_day,
    years_left,
)
from ssn_edge_runtime.doctor.parsing import parse_ata_life, parse_emmc_life, parse_nvme_life
from ssn_edge_runtime.sinks.journal import RESERVE_BYTES
from ssn_edge_runtime.sources import v4l2_pixels
from ssn_edge_runtime.supervision import health

GB = 10**9
EMMC = StorageFacts("journal", "/log", kind="emmc", disk="mmcblk0", disk_bytes=64 * GB)


def test_limits_are_the_lines_own() -> None:
    assert JOURNAL_RESERVE_BYTES == RESERVE_BYTES
    assert CRITICAL_MARGIN_C == health.CRITICAL_MARGIN_C
    assert set(READ) == set(v4l2_pixels.READABLE)


@pytest.mark.parametrize(
    ("life_time", "pre_eol", "wanted"),
    [
        ("0x01 0x01\n", "0x01\n", FlashLife(0.0, 0.1, "normal")),
        ("0x02 0x03", "0x02", FlashLife(0.2, 0.3, "warning")),  # the worse of both
        ("0x0b 0x01", "0x03", FlashLife(1.0, 1.1, "urgent")),
        ("0x00 0x00", "0x00", None),
        ("0x00 0x00", "0x01", FlashLife(reserve="normal")),
        ("", "", None),
    ],
)
def test_emmc_tells_its_life_in_steps(
    life_time: str, pre_eol: str, wanted: FlashLife | None
) -> None:
    found = parse_emmc_life(life_time, pre_eol)
    if wanted is None or found is None:
        assert found == wanted
        return
    assert found.reserve == wanted.reserve
    assert found.used_low == pytest.approx(wanted.used_low)
    assert found.used_high == pytest.approx(wanted.used_high)


def test_nvme_tells_it_by_either_program() -> None:
    nvme = parse_nvme_life('{"percent_used": 3, "data_units_written": 1000}')
    smart = parse_nvme_life(
        '{"nvme_smart_health_information_log": {"percentage_used": 3, "data_units_written": 1000}}'
    )
    assert nvme == smart == FlashLife(0.03, 0.04, written_bytes=512_000_000)


def statistics(*rows: object) -> str:
    return json.dumps({"ata_device_statistics": {"pages": [{"number": 7, "table": list(rows)}]}})


USED = {"name": "Percentage Used Endurance Indicator", "size": 1, "value": 12}
WRITTEN = {"name": "Logical Sectors Written", "size": 6, "value": 2_000_000_000}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (statistics(WRITTEN, USED), FlashLife(0.12, 0.13, written_bytes=1_024_000_000_000)),
        (statistics(USED), FlashLife(0.12, 0.13)),
        (statistics(WRITTEN), None),  # how much that is of its life is what counts
        (statistics(USED | {"value": True}, None, "x", {"name": 1}), None),
        (statistics(USED | {"value": -1}), None),
        ('{"ata_device_statistics": {"pages": [7, {"table": 7}]}}', None),
        ('{"ata_device_statistics": []}', None),
        ('{"smartctl": {"exit_status": 2}}', None),
        ("no JSON", None),
    ],
)
def test_an_ssd_tells_it_by_atas_own_statistics(text: str, wanted: FlashLife | None) -> None:
    assert parse_ata_life(text) == wanted


def test_a_new_emmc_bears_so_many_whole_writes() -> None:
    years = years_left(EMMC, 10 * GB)
    assert years == pytest.approx(64 * WHOLE_WRITES["emmc"] / 10 / 365.25)


def test_a_disk_that_counts_is_believed_rather_than_its_size() -> None:
    disk = replace(EMMC, kind="nvme", life=FlashLife(0.09, 0.10, written_bytes=50_000 * GB))
    # 50 TB for a tenth: 450 TB more.
    assert years_left(disk, 100 * GB) == pytest.approx(4500 / 365.25)


def test_without_a_budget_what_was_written_since_boot_counts() -> None:
    disk = replace(EMMC, written_since_boot_bytes=4 * GB, up_s=2 * 24 * 3600)
    assert written_a_day(disk) == 2 * GB
    assert years_left(disk, None) == years_left(disk, 2 * GB)
    assert written_a_day(replace(disk, up_s=60)) is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**13), st.integers(1, 10**13))
def test_more_wear_or_more_writing_never_lasts_longer(
    less: float, more: float, slow: int, fast: int
) -> None:
    less, more = sorted((less, more))
    slow, fast = sorted((slow, fast))
    fresh = years_left(replace(EMMC, life=FlashLife(less, less)), slow)
    worn = years_left(replace(EMMC, life=FlashLife(more, more)), fast)
    assert fresh is not None
    assert worn is not None
    assert 0 <= worn <= fresh


@pytest.mark.parametrize("kind", ["disk", "memory", "network", None])
def test_what_is_no_flash_has_no_life(kind: str | None) -> None:
    assert years_left(replace(EMMC, kind=kind), 10 * GB) is None
