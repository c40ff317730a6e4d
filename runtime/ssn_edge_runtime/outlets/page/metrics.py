"""The line for Prometheus: text format 0.0.4, every name with its HELP and TYPE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.outlets.page.log_watch import RunLog

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
_VERDICTS = ("pass", "fail", "unknown")
_QUANTILES = (50, 99, 99.99)

Sample = tuple[str, Mapping[str, str], float]
"""What is added to the name, labels and value."""


def metrics_text(
    state: Mapping[str, Any],
    answers: bool,
    run: RunLog,
    identity: Mapping[str, Any],
    health: Mapping[str, Any],
) -> str:
    """What is to be said of the line.

    Args:
        state: What the control socket said last.
        answers: Whether the line answered it.
        run: From the journal.
        identity: The last record.
        health: The last health event's detail.
    """
    counters = state.get("counters") or {}
    lines: list[str] = []
    for name, kind, text, samples in _families(state, answers, counters, run, identity, health):
        lines += _family(name, kind, text, samples)
    return "\n".join(lines) + "\n"


def page_metrics_text(counts: Mapping[str, int]) -> str:
    """What the page itself counted, by name; all of them counters."""
    lines: list[str] = []
    for name, count in counts.items():
        what = name.removesuffix("_total").replace("_", " ")
        lines += _family(f"ssn_edge_page_{name}", "counter", f"The page's {what}.",
                         [("", {}, count)])  # fmt: skip
    return "\n".join(lines) + "\n"


def _families(
    state: Mapping[str, Any],
    answers: bool,
    counters: Mapping[str, int],
    run: RunLog,
    identity: Mapping[str, Any],
    health: Mapping[str, Any],
) -> Iterator[tuple[str, str, str, list[Sample]]]:
    name = str(state.get("state"))
    yield "ssn_edge_up", "gauge", "Whether the line answers.", [("", {}, answers)]
    yield (
        "ssn_edge_state", "gauge", "1 for the state that the line is in (OPC 40100-1).",
        [("", {"state": each.value}, answers and each.value == name) for each in LineState],
    )  # fmt: skip
    yield (
        "ssn_edge_parts_total", "counter", "Parts by verdict, since the line was started.",
        [("", {"verdict": each}, counters.get(each, 0)) for each in _VERDICTS],
    )  # fmt: skip
    yield (
        "ssn_edge_rejects_total", "counter", "Parts that did not pass, by reason.",
        [("", {"reason": key.partition(":")[2]}, count)
         for key, count in counters.items() if key.startswith("reason:")],
    )  # fmt: skip
    yield (
        "ssn_edge_triggers_total", "counter", "Triggers, by what became of them.",
        [("", {"admission": key.partition(":")[2]}, count)
         for key, count in counters.items() if key.startswith("trigger:")],
    )  # fmt: skip
    yield (
        "ssn_edge_events_total", "counter", "All else that the line counts: frames, drops, losses.",
        [("", {"event": key}, count) for key, count in counters.items()
         if ":" not in key and key not in _VERDICTS],
    )  # fmt: skip
    yield (
        "ssn_edge_in_flight_parts",
        "gauge",
        "Parts that wait for their verdict.",
        [("", {}, state.get("in_flight") or 0)],
    )
    workers = state.get("workers") or []
    yield (
        "ssn_edge_worker_up", "gauge", "Whether a worker process runs.",
        [("", {"worker": each["name"]}, each["state"] == "running") for each in workers],
    )  # fmt: skip
    yield (
        "ssn_edge_worker_restarts_total", "counter", "How often a worker was started again.",
        [("", {"worker": each["name"]}, each["restarts"]) for each in workers],
    )  # fmt: skip
    yield (
        "ssn_edge_latency_seconds", "summary",
        "How long a part took by stage, as its record says, in this run.", list(_latencies(run)),
    )  # fmt: skip
    yield from _outlets(run)
    alarms = Counter(each.kind for each in run.alarms.values())
    yield (
        "ssn_edge_alarms", "gauge", "Alarms of this run, by kind.",
        [("", {"alarm": kind}, count) for kind, count in alarms.items()],
    )  # fmt: skip
    yield (
        "ssn_edge_alarms_unacknowledged", "gauge", "Alarms of this run that nobody acknowledged.",
        [("", {}, sum(each.acknowledged_by is None for each in run.alarms.values()))],
    )  # fmt: skip
    threshold = identity.get("threshold")
    yield (
        "ssn_edge_threshold", "gauge", "Image threshold of the last part, a logit.",
        [] if threshold is None else [("", {}, threshold)],
    )  # fmt: skip
    keys = ("package_id", "settings_id", "recipe", "precision", "engine")
    labels = {key: str(identity.get(key) or "") for key in keys}
    yield (
        "ssn_edge_judge_info",
        "gauge",
        "With what the last part was judged; always 1.",
        ([("", labels, 1)] if identity else []),
    )
    yield (
        "ssn_edge_health", "gauge", "Numbers of the device's last health event.",
        [("", {"sensor": key}, value) for key, value in health.items()
         if isinstance(value, (int, float))],
    )  # fmt: skip


def _outlets(run: RunLog) -> Iterator[tuple[str, str, str, list[Sample]]]:
    by = [({"outlet": outlet, "what": what}, each) for (outlet, what), each in run.outlets.items()]
    yield (
        "ssn_edge_outlet_lost", "gauge", "Whether an outlet lost its peer, or its process.",
        [("", labels, each.is_lost) for labels, each in by],
    )  # fmt: skip
    yield (
        "ssn_edge_outlet_losses_total", "counter", "How often, in this run, as the journal says.",
        [("", labels, each.losses) for labels, each in by],
    )  # fmt: skip
    yield (
        "ssn_edge_outlet_undelivered_total", "counter", "Messages that a peer is never given.",
        [("", labels, each.undelivered) for labels, each in by],
    )  # fmt: skip


def _latencies(run: RunLog) -> Iterator[Sample]:
    for stage, histogram in run.latencies.histograms():
        for percent in _QUANTILES:
            labels = {"stage": stage, "quantile": f"{percent / 100:g}"}
            yield "", labels, histogram.percentile_ns(percent) / 1e9
        yield "_sum", {"stage": stage}, run.sums_ms.get(stage, 0.0) / 1e3
        yield "_count", {"stage": stage}, histogram.count


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for more, labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
        lines.append(f"{name}{more}{{{inside}}} {_number(value)}" if inside
                     else f"{name}{more} {_number(value)}")  # fmt: skip
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
