"""Who watches the line: the service manager, the device's health, counters and alarms."""

from __future__ import annotations

from ssn_edge_runtime.supervision.alarms import Alarm, AlarmKind, AlarmLimits, Alarms
from ssn_edge_runtime.supervision.counters import Counts, ShiftCounters
from ssn_edge_runtime.supervision.drift import DriftAlarm, DriftMonitor
from ssn_edge_runtime.supervision.hardware_watchdog import HardwareWatchdog
from ssn_edge_runtime.supervision.health import Health, HealthReader, HealthSampler
from ssn_edge_runtime.supervision.heartbeat import Heartbeat
from ssn_edge_runtime.supervision.notify import Notifier
from ssn_edge_runtime.supervision.process import (
    Granted,
    ask_realtime,
    lock_memory,
    release_process,
    settle_process,
)
from ssn_edge_runtime.supervision.restart_budget import RestartBudget
from ssn_edge_runtime.supervision.shifts import Shift, ShiftCalendar
from ssn_edge_runtime.supervision.supervisor import Overrides, Supervisor

__all__ = [
    "Alarm",
    "AlarmKind",
    "AlarmLimits",
    "Alarms",
    "Counts",
    "DriftAlarm",
    "DriftMonitor",
    "Granted",
    "HardwareWatchdog",
    "Health",
    "HealthReader",
    "HealthSampler",
    "Heartbeat",
    "Notifier",
    "Overrides",
    "RestartBudget",
    "Shift",
    "ShiftCalendar",
    "ShiftCounters",
    "Supervisor",
    "ask_realtime",
    "lock_memory",
    "release_process",
    "settle_process",
]
