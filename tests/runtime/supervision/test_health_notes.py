from __future__ import annotations

from ssn_edge_runtime.record import EventKind
from ssn_edge_runtime.supervision.health import Health
from ssn_edge_runtime.supervision.health_notes import HealthNotes

COOL = Health(
    temperatures_c={"cpu-thermal": 61.25, "gpu-thermal": 63.5},
    clocks_mhz={"cpu": 1510.4, "cpu_max": 1728},
    throttle_events=7,
    power_mode="MAXN_SUPER (2)",
)
THROTTLED = Health(
    temperatures_c={"cpu-thermal": 98.0}, throttle_events=8, slowed=("cpufreq-cpu0",)
)


def test_the_first_look_is_noted_with_its_units() -> None:
    event = HealthNotes().look(COOL, 100.0)
    assert event is not None
    assert event.event is EventKind.HEALTH
    assert event.detail == {
        "is_throttled": False,
        "hottest": "gpu-thermal",
        "hottest_c": 63.5,
        "cpu_mhz": 1510.4,
        "cpu_max_mhz": 1728.0,
        "throttle_events": 7,
        "power_mode": "MAXN_SUPER (2)",
    }


def test_without_a_change_it_is_noted_every_so_often() -> None:
    notes = HealthNotes(every_s=60.0)
    noted = [at_s for at_s in range(0, 200, 5) if notes.look(COOL, float(at_s)) is not None]
    assert noted == [0, 60, 120, 180]


def test_throttling_is_noted_when_it_begins_and_ends_but_not_more_often_than_stated() -> None:
    notes = HealthNotes(every_s=1000.0)
    assert notes.look(COOL, 0.0) is not None
    assert notes.look(THROTTLED, 2.0) is None  # so soon after the last
    begun = notes.look(THROTTLED, 12.0)
    assert begun is not None
    assert begun.detail["is_throttled"] is True
    assert begun.detail["slowed"] == "cpufreq-cpu0"
    assert notes.look(THROTTLED, 30.0) is None
    ended = notes.look(COOL, 40.0)
    assert ended is not None
    assert ended.detail["is_throttled"] is False


def test_a_device_that_tells_nothing_is_not_noted() -> None:
    assert HealthNotes().look(Health(free_disk_bytes=10**9), 0.0) is None
