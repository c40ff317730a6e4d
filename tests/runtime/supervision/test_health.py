"""What recorded kernel files say, and that no device, however odd, makes it raise."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.supervision import Health, HealthReader, HealthSampler

# After what people print of an Orin Nano with JetPack 6; not recorded on a device of ours.
JETSON = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61250\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "99000\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_type": "critical\n",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp": "104500\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "63500\n",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device1/cur_state": "2\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "624750000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "7\n",
    "proc/meminfo": "MemTotal:        7802060 kB\nMemAvailable:    5000000 kB\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
}


def recorded(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_a_jetson_tells_all_of_it(tmp_path: Path) -> None:
    health = HealthReader(tmp_path, root=recorded(tmp_path, JETSON)).read()
    assert health.temperatures_c == {"cpu-thermal": 61.25, "gpu-thermal": 63.5}
    assert health.hottest == ("gpu-thermal", 63.5)
    assert health.critical_c == {"cpu-thermal": 104.5}
    assert health.clocks_mhz == {"cpu": 1510.4, "cpu_max": 1728, "gpu": 624.75, "gpu_max": 1020}
    assert (health.throttle_events, health.slowed, health.is_throttled) == (7, (), False)
    assert health.available_memory_bytes == 5_000_000 * 1024
    assert health.power_mode == "MAXN_SUPER (2)"
    assert health.free_disk_bytes is not None
    json.dumps(health.to_dict(), allow_nan=False)


def test_throttling_shows_by_new_events_and_by_what_is_slowed(tmp_path: Path) -> None:
    reader = HealthReader(root=recorded(tmp_path, JETSON))
    reader.read()
    recorded(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": "9\n"})
    health = reader.read()
    assert (health.new_throttle_events, health.is_throttled) == (2, True)
    assert reader.read().is_throttled is False
    recorded(tmp_path, {"sys/class/thermal/cooling_device0/cur_state": "3\n"})
    health = reader.read()
    assert (health.slowed, health.is_throttled) == (("cpufreq-cpu0",), True)


def test_an_x86_counts_heat_for_each_core(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    files = {folder.format(0): "3\n", folder.format(1): "4\n"}
    assert HealthReader(root=recorded(tmp_path, files)).read().throttle_events == 7


@pytest.mark.parametrize(
    ("celsius", "limit_c", "finding"),
    [
        (99.4, None, None),
        (99.5, None, "cpu-thermal has 99.5 degrees C, the limit is 99.5"),
        (80.0, 80.0, "cpu-thermal has 80.0 degrees C, the limit is 80.0"),
        (79.9, 80.0, None),
        (101.0, 110.0, None),
    ],
)
def test_overheating_is_beyond_the_limit_or_near_what_the_zone_calls_critical(
    tmp_path: Path, celsius: float, limit_c: float | None, finding: str | None
) -> None:
    hot = {"sys/class/thermal/thermal_zone0/temp": f"{celsius * 1000:.0f}\n"}
    health = HealthReader(root=recorded(tmp_path, {**JETSON, **hot})).read()
    assert health.overheated(limit_c) == finding


def test_a_device_that_tells_nothing_is_not_overheated(tmp_path: Path) -> None:
    health = HealthReader(tmp_path / "none", root=tmp_path).read()
    assert health.overheated() is None
    assert health.overheated(20.0) is None
    assert (health.hottest, health.is_throttled, health.power_mode) == (None, None, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    garbage=st.dictionaries(
        st.sampled_from(sorted(JETSON)), st.sampled_from(["", "\0", "nan", "-1", "9" * 400, "x\ny"])
    )
)
def test_no_content_of_these_files_makes_it_raise(tmp_path: Path, garbage: dict[str, str]) -> None:
    health = HealthReader(tmp_path, root=recorded(tmp_path, {**JETSON, **garbage})).read()
    assert isinstance(health, Health)
    health.overheated()
    json.dumps(health.to_dict())


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    health = HealthReader(tmp_path).read()
    assert health.available_memory_bytes
    assert health.free_disk_bytes


def test_a_sampler_looks_again_and_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    reader = HealthReader(root=recorded(tmp_path, JETSON))
    with HealthSampler(reader, every_s=0.01) as sampler:
        assert sampler.latest.hottest == ("gpu-thermal", 63.5)
        recorded(tmp_path, {"sys/class/thermal/thermal_zone1/temp": "90000\n"})
        end = time.monotonic() + 20
        while sampler.latest.hottest != ("gpu-thermal", 90.0) and time.monotonic() < end:
            time.sleep(0.01)
        assert sampler.latest.hottest == ("gpu-thermal", 90.0)
    sampler.close()
    assert threading.active_count() == before
