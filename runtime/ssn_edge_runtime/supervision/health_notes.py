"""When the device's health is worth a line in the journal."""

from __future__ import annotations

from ssn_edge_runtime.record import EventKind, EventRecord, Scalar
from ssn_edge_runtime.supervision.health import Health

NOTED_EVERY_S = 300.0
"""A slow drift of temperature beside slow drifts of scores and latencies can be looked up later."""
CHANGE_NOTED_EVERY_S = 10.0
"""Throttling that comes and goes is noted no more often."""


class HealthNotes:
    """Temperature, clocks and throttling as events: at the start, every so often, and on a change.

    Args:
        every_s: Time between two events without a change, in seconds.
    """

    def __init__(self, *, every_s: float = NOTED_EVERY_S) -> None:
        self._every_s = every_s
        self._noted_s: float | None = None
        self._was_throttled = False

    def look(self, health: Health, now_s: float) -> EventRecord | None:
        """The event that is due now; None for none, and for a device that tells nothing.

        Args:
            health: The last look at the device.
            now_s: Monotonic, in seconds.
        """
        if not (health.temperatures_c or health.clocks_mhz or health.is_throttled is not None):
            return None
        is_throttled = bool(health.is_throttled)
        if self._noted_s is not None:
            has_changed = is_throttled != self._was_throttled
            wait_s = CHANGE_NOTED_EVERY_S if has_changed else self._every_s
            if now_s - self._noted_s < wait_s:
                return None
        self._noted_s, self._was_throttled = now_s, is_throttled
        return EventRecord.now(EventKind.HEALTH, _detail(health))


def _detail(health: Health) -> dict[str, Scalar]:
    """What the device tells, by names with their units."""
    detail: dict[str, Scalar] = {"is_throttled": health.is_throttled}
    if health.hottest is not None:
        detail["hottest"], detail["hottest_c"] = health.hottest
    detail |= {f"{name}_mhz": round(mhz, 1) for name, mhz in health.clocks_mhz.items()}
    if health.slowed:
        detail["slowed"] = ", ".join(health.slowed)
    for name in ("throttle_events", "power_mode", "available_memory_bytes", "free_disk_bytes"):
        value = getattr(health, name)
        if value is not None:
            detail[name] = value
    return detail
