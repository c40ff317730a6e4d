"""What a line did, and what watched over it, in lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssn_edge_runtime.summary import LineSummary
    from ssn_edge_runtime.supervision import Supervisor


def summary_lines(summary: LineSummary) -> list[str]:
    """A line's summary for a terminal."""
    verdicts = ", ".join(f"{count} {name}" for name, count in summary.verdicts.items())
    lines = [
        f"{summary.frames} frames in {summary.duration_s:.1f} s "
        f"({summary.throughput_fps:.1f} a second): {verdicts}"
    ]
    reasons = {name: count for name, count in summary.reasons.items() if name != "none"}
    if reasons:
        lines.append("reasons: " + ", ".join(f"{name} {count}" for name, count in reasons.items()))
    for stage, latency in summary.latency_ms.items():
        lines.append(
            f"  {stage:<12} p50 {latency.p50:7.2f}  p99 {latency.p99:7.2f}  "
            f"p99.99 {latency.p99_99:7.2f}  max {latency.max:7.2f} ms"
        )
    lost = {
        "frames dropped": summary.dropped,
        "camera reopened": summary.reopened,
        "pictures shed": summary.pictures_shed,
        "follower failures": summary.followers_failed,
    }
    lines += [f"  {name}: {count}" for name, count in lost.items() if count]
    return lines


def supervision_lines(supervisor: Supervisor) -> list[str]:
    """Shifts, alarms and the device's health for a terminal."""
    lines = []
    for row in supervisor.counters.to_list():
        verdicts = row["verdicts"]
        recipe = "" if row["recipe"] is None else f" {row['recipe']}"
        if isinstance(verdicts, dict):
            counts = ", ".join(f"{count} {name}" for name, count in verdicts.items())
            lines.append(f"  shift {row['shift']}{recipe}: {counts}")
    lines += [f"  alarm: {alarm}" for alarm in supervisor.alarms]
    if supervisor.drift is not None:
        lines.append(f"  drift: {supervisor.drift}")
    health = supervisor.health
    if health is not None and health.is_throttled:
        lines.append(f"  the device is throttled {', '.join(health.slowed)}".rstrip())
    if health is not None and health.hottest is not None:
        lines.append("  hottest: {} {:.1f} degrees C".format(*health.hottest))
    return lines
