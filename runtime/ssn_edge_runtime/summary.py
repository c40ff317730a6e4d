"""What a run of the line came to: counts, throughput and latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter

from ssn_edge_runtime.latency import LatencySummary, StageLatencies
from ssn_edge_runtime.record import DecisionRecord


@dataclass(frozen=True, slots=True)
class LineSummary:
    """One run of the line.

    Args:
        frames: Parts that the source gave, damaged ones included; each has its record.
        records: Records written: frames, and outages of the source.
        first_sequence: Number of the run's first record; None if there is none.
        last_sequence: Number of its last.
        verdicts: Records by verdict; all three are listed.
        reasons: Records by reason; those that occurred.
        dropped: Frames that a camera gave and that have no record: the judge was busy, or they came
            too late. Gaps in the records' `frame_index`.
        reopened: How often the camera was lost and came back.
        pictures_shed: Parts whose pictures were left out because the writer lagged behind.
        followers_failed: Writes that a follower refused.
        duration_s: From the first look at the source to the end.
        throughput_fps: Frames a second over that time.
        latency_ms: By stage: those of the records, then `write` (the journal), and `total` from
            capture until the record is written.
        latency_histograms: The same, bucket by bucket; see `LatencyHistogram.to_dict`.
    """

    frames: int
    records: int
    first_sequence: int | None
    last_sequence: int | None
    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    dropped: int
    reopened: int
    pictures_shed: int
    followers_failed: int
    duration_s: float
    throughput_fps: float
    latency_ms: Mapping[str, LatencySummary]
    latency_histograms: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The summary as a JSON object."""
        return asdict(self)


class Tally:
    """Counts a run while it goes on."""

    def __init__(self) -> None:
        self.reopened = 0
        self.dropped = 0
        self.followers_failed = 0
        self.frames = 0
        self._verdicts = Counter({"pass": 0, "fail": 0, "unknown": 0})
        self._reasons: Counter[str] = Counter()
        self._sequences: tuple[int, int] | None = None
        self._latencies = StageLatencies()
        self._started_s = perf_counter()

    def add(self, record: DecisionRecord, timings_ms: Mapping[str, float | None]) -> None:
        """Count one written record; `timings_ms` may hold more stages than the record does."""
        self._verdicts[record.verdict.value] += 1
        self._reasons[record.reason.value] += 1
        first = record.sequence if self._sequences is None else self._sequences[0]
        self._sequences = (first, record.sequence)
        self._latencies.record_ms(timings_ms)

    def summary(self, *, pictures_shed: int) -> LineSummary:
        """The run so far."""
        duration_s = perf_counter() - self._started_s
        first, last = self._sequences or (None, None)
        return LineSummary(
            frames=self.frames,
            records=sum(self._verdicts.values()),
            first_sequence=first,
            last_sequence=last,
            verdicts=dict(self._verdicts),
            reasons=dict(self._reasons),
            dropped=self.dropped,
            reopened=self.reopened,
            pictures_shed=pictures_shed,
            followers_failed=self.followers_failed,
            duration_s=duration_s,
            throughput_fps=self.frames / duration_s if duration_s > 0 else 0.0,
            latency_ms=self._latencies.summaries(),
            latency_histograms=self._latencies.to_dict(),
        )
