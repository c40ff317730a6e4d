"""What the local server did so far."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from time import monotonic

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.latency import StageLatencies


class ServerCounts:
    """Answers by verdict and by status, and latency by stage; memory does not grow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts = Counter({verdict.value: 0 for verdict in Verdict})
        self._refusals: Counter[int] = Counter()
        self._latencies = StageLatencies()
        self._began_s = monotonic()

    def add_verdict(self, verdict: Verdict, timings_ms: Mapping[str, float | None]) -> None:
        """Count a frame that was judged in time."""
        with self._lock:
            self._verdicts[verdict.value] += 1
            self._latencies.record_ms(timings_ms)

    def add_refusal(self, status: int) -> None:
        """Count a request that was answered `unknown` without a judgement."""
        with self._lock:
            self._refusals[status] += 1

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        with self._lock:
            return {
                "uptime_s": round(monotonic() - self._began_s, 3),
                "verdicts": dict(self._verdicts),
                "refusals": {str(status): n for status, n in sorted(self._refusals.items())},
                "latency_ms": {
                    stage: asdict(summary) for stage, summary in self._latencies.summaries().items()
                },
            }
