"""Latency histograms: any number of durations, in memory that does not grow.

The buckets are log-linear, as in HdrHistogram: whole nanoseconds up to `EXACT_NS`, and beyond it
`BUCKETS_PER_OCTAVE` equal steps for each doubling. A percentile is the middle of its bucket, so it
is never further from the true one than `RELATIVE_ERROR`; the maximum is exact.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_BITS = 7
BUCKETS_PER_OCTAVE = 1 << _BITS
EXACT_NS = 2 * BUCKETS_PER_OCTAVE
"""Below it each nanosecond has a bucket of its own."""
RELATIVE_ERROR = 1 / (2 * BUCKETS_PER_OCTAVE)
"""Largest error of a percentile, as a share of it: half a bucket, 0.39 %."""
LONGEST_NS = (1 << 42) - 1
"""73 minutes; what takes longer counts as this long, except in the maximum."""
_LENGTH = (LONGEST_NS.bit_length() - _BITS + 1) << _BITS


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Latency of one stage in milliseconds, over `count` parts; percentiles within 0.4 %."""

    count: int
    p50: float
    p95: float
    p99: float
    p99_99: float
    max: float


class LatencyHistogram:
    """How long something took, over and over: percentiles of all of it, in 37 kB.

    Written to by one thread at a time; reading while another thread records may miss the newest.
    """

    __slots__ = ("_count", "_counts", "_max_ns")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _LENGTH))
        self._count = 0
        self._max_ns = 0

    @property
    def count(self) -> int:
        """How many were recorded."""
        return self._count

    @property
    def max_ns(self) -> int:
        """The longest, exactly; 0 while there is none."""
        return self._max_ns

    def record(self, ns: int) -> None:
        """Take one duration in nanoseconds; a negative one, of a clock set back, counts as 0."""
        if ns > self._max_ns:
            self._max_ns = ns
        self._counts[_index(0 if ns < 0 else ns if ns < LONGEST_NS else LONGEST_NS)] += 1
        self._count += 1

    def percentile_ns(self, percent: float) -> float:
        """The smallest recorded duration that `percent` of all do not exceed, in nanoseconds.

        Raises:
            ValueError: Nothing was recorded, or a percentage that is none.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentage")
        if self._count == 0:
            raise ValueError("nothing was recorded")
        # In whole millionths and rounded up: 99 % of 100 are 99, whatever floats make of it.
        wanted = max(1, -(-round(percent * 10_000) * self._count // 1_000_000))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_middle_ns(index), float(self._max_ns))
        raise AssertionError("the buckets hold fewer than were counted")

    def merge(self, other: LatencyHistogram) -> None:
        """Take everything that another histogram holds."""
        for index, count in enumerate(other._counts):
            if count:
                self._counts[index] += count
        self._count += other._count
        self._max_ns = max(self._max_ns, other._max_ns)

    def summary(self) -> LatencySummary:
        """Count, percentiles and maximum in milliseconds; at least one latency is needed."""
        p50, p95, p99, p99_99 = (self.percentile_ns(each) / 1e6 for each in (50, 95, 99, 99.99))
        return LatencySummary(self._count, p50, p95, p99, p99_99, self._max_ns / 1e6)

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> LatencyHistogram:
        """Read back what `to_dict` gave, such as to merge the histograms of several runs.

        Raises:
            ValueError: It is not such a document.
        """
        histogram = cls()
        count, longest, buckets = (document.get(name) for name in ("count", "max", "buckets"))
        if not isinstance(buckets, list):
            raise ValueError("the buckets are no list")
        for bucket in buckets:
            if not (isinstance(bucket, list) and list(map(type, bucket)) == [int, int]):
                raise ValueError("a bucket is no pair of whole numbers")
            low, filled = bucket
            if not (0 <= low <= LONGEST_NS and 0 < filled < 1 << 62):
                raise ValueError(f"{filled} in the bucket of {low} ns")
            index = _index(low)
            if _bounds_ns(index)[0] != low or histogram._counts[index]:
                raise ValueError(f"no bucket begins at {low} ns, or it stands there twice")
            histogram._counts[index] = filled
            histogram._count += filled
            histogram._max_ns = max(histogram._max_ns, low)
        if type(longest) is not int or longest < histogram._max_ns or count != histogram._count:
            raise ValueError("count or maximum contradict the buckets")
        histogram._max_ns = longest
        return histogram

    def to_dict(self) -> dict[str, object]:
        """Everything, for JSON: filled buckets as pairs of lower bound in nanoseconds and count."""
        return {
            "unit": "ns",
            "relative_error": RELATIVE_ERROR,
            "count": self._count,
            "max": self._max_ns,
            "buckets": [
                [_bounds_ns(index)[0], count] for index, count in enumerate(self._counts) if count
            ],
        }


class StageLatencies:
    """A histogram for each stage of a part's way through the line."""

    def __init__(self) -> None:
        self._stages: dict[str, LatencyHistogram] = {}

    def record(self, stage: str, ns: int) -> None:
        """Take one duration of a stage, in nanoseconds."""
        histogram = self._stages.get(stage)
        if histogram is None:
            histogram = self._stages[stage] = LatencyHistogram()
        histogram.record(ns)

    def record_ms(self, timings_ms: Mapping[str, float | None]) -> None:
        """Take a part's durations in milliseconds; None is a stage that it did not go through."""
        for stage, ms in timings_ms.items():
            if ms is not None:
                self.record(stage, round(ms * 1e6))

    def merge(self, other: StageLatencies) -> None:
        """Take everything that another one holds."""
        for stage, histogram in other._stages.items():
            self._stages.setdefault(stage, LatencyHistogram()).merge(histogram)

    def summaries(self) -> dict[str, LatencySummary]:
        """By stage, in the order in which the stages first occurred."""
        return {stage: histogram.summary() for stage, histogram in self._stages.items()}

    def histograms(self) -> Iterable[tuple[str, LatencyHistogram]]:
        """By stage, in the order in which the stages first occurred."""
        return self._stages.items()

    def to_dict(self) -> dict[str, object]:
        """All histograms by stage, for JSON."""
        return {stage: histogram.to_dict() for stage, histogram in self._stages.items()}


def _index(ns: int) -> int:
    """The bucket of a duration."""
    octave = ns.bit_length() - (_BITS + 1)
    return ns if octave <= 0 else (octave << _BITS) + (ns >> octave)


def _bounds_ns(index: int) -> tuple[int, int]:
    """A bucket's smallest duration and the first one beyond it."""
    octave = (index >> _BITS) - 1
    if octave <= 0:
        return index, index + 1
    low = (index - (octave << _BITS)) << octave
    return low, low + (1 << octave)


def _middle_ns(index: int) -> float:
    low, beyond = _bounds_ns(index)
    return (low + beyond - 1) / 2
