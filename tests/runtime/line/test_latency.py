from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.latency import (
    EXACT_NS,
    LONGEST_NS,
    RELATIVE_ERROR,
    LatencyHistogram,
    StageLatencies,
)

DURATIONS = st.lists(
    st.one_of(st.integers(0, 1000), st.integers(0, 10**8), st.integers(0, LONGEST_NS)),
    min_size=1,
    max_size=300,
)


def recorded(durations: Sequence[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for ns in durations:
        histogram.record(ns)
    return histogram


@given(DURATIONS, st.sampled_from([0.0, 1.0, 50.0, 95.0, 99.0, 99.99, 100.0]))
def test_a_percentile_is_numpys_within_the_stated_relative_error(
    durations: list[int], percent: float
) -> None:
    wanted = int(np.percentile(durations, percent, method="inverted_cdf"))
    found = recorded(durations).percentile_ns(percent)
    assert abs(found - wanted) <= RELATIVE_ERROR * wanted


@pytest.mark.parametrize("scale", ["lognormal", "uniform", "bimodal"])
def test_p9999_is_right_where_a_sample_would_not_have_seen_it(scale: str) -> None:
    rng = np.random.default_rng(1)
    durations = {
        "lognormal": rng.lognormal(15, 0.4, 200_000),
        "uniform": rng.uniform(1e6, 9e6, 200_000),
        "bimodal": np.where(rng.random(200_000) < 2e-4, 2e8, 3e6),
    }[scale].astype(np.int64)
    histogram = recorded(durations.tolist())
    wanted = np.percentile(durations, 99.99, method="inverted_cdf")
    assert histogram.percentile_ns(99.99) == pytest.approx(wanted, rel=RELATIVE_ERROR)
    assert histogram.max_ns == durations.max()


@given(DURATIONS, DURATIONS)
def test_two_histograms_merged_are_the_one_of_all_durations(
    first: list[int], second: list[int]
) -> None:
    merged = recorded(first)
    merged.merge(recorded(second))
    assert merged.to_dict() == recorded(first + second).to_dict()


@given(DURATIONS)
def test_the_exported_buckets_hold_every_duration_and_each_lies_in_its_bucket(
    durations: list[int],
) -> None:
    document = json.loads(json.dumps(recorded(durations).to_dict()))
    lows = [low for low, _ in document["buckets"]]
    assert lows == sorted(set(lows))
    assert document["max"] == max(durations)
    counted: dict[int, int] = {}
    for ns in durations:
        low = max(each for each in lows if each <= ns)
        assert ns - low <= 2 * document["relative_error"] * ns
        counted[low] = counted.get(low, 0) + 1
    assert [[low, counted[low]] for low in lows] == document["buckets"]


@given(DURATIONS)
def test_an_exported_histogram_reads_back_whole(durations: list[int]) -> None:
    document = json.loads(json.dumps(recorded(durations).to_dict()))
    assert LatencyHistogram.from_dict(document).to_dict() == document


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 4}, {"max": 3}, {"max": "x"}, {"buckets": None}, {"buckets": [[5]]},
        {"buckets": [["5", 3]]}, {"buckets": [[5, 0]]}, {"buckets": [[5, 1 << 70]]},
        {"buckets": [[1025, 3]]}, {"buckets": [[-1, 3]]}, {"buckets": 7},
        {"buckets": [[5, 1], [5, 2]]},
    ],
)  # fmt: skip
def test_what_is_no_exported_histogram_is_refused(changes: dict[str, object]) -> None:
    document = recorded([5, 5, 5]).to_dict()
    with pytest.raises(ValueError, match=r"bucket|count or maximum"):
        LatencyHistogram.from_dict({**document, **changes})


@pytest.mark.parametrize("ns", [0, 1, EXACT_NS - 1])
def test_short_durations_are_kept_to_the_nanosecond(ns: int) -> None:
    assert recorded([ns]).percentile_ns(50) == ns


def test_what_is_longer_than_an_hour_counts_as_that_but_the_maximum_is_true() -> None:
    histogram = recorded([10**6, 50 * LONGEST_NS])
    assert histogram.percentile_ns(100) == pytest.approx(LONGEST_NS, rel=RELATIVE_ERROR)
    assert histogram.max_ns == 50 * LONGEST_NS
    assert histogram.count == 2


def test_a_negative_duration_counts_as_none() -> None:
    assert recorded([-5]).percentile_ns(100) == 0
    assert recorded([-5]).max_ns == 0


def test_percentiles_of_nothing_and_impossible_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing was recorded"):
        LatencyHistogram().percentile_ns(50)
    with pytest.raises(ValueError, match="no percentage"):
        recorded([1]).percentile_ns(101)


def test_memory_does_not_grow_with_what_is_recorded() -> None:
    latencies = StageLatencies()
    latencies.record("infer", 1)
    before = sys.getsizeof(latencies._stages["infer"]._counts)
    for ns in range(0, 10**9, 10**4):
        latencies.record("infer", ns)
    assert sys.getsizeof(latencies._stages["infer"]._counts) == before < 40_000


def test_recording_costs_microseconds_at_most() -> None:
    latencies = StageLatencies()
    best_s = min(timeit.repeat(lambda: latencies.record("infer", 1_234_567), number=2000, repeat=5))
    assert best_s / 2000 < 20e-6  # some 0.3 us; the bound is for machines that are busy


def test_a_stage_that_a_part_did_not_go_through_is_not_counted() -> None:
    latencies = StageLatencies()
    latencies.record_ms({"capture": None, "infer": 2.0})
    latencies.record_ms({"capture": 1.0, "infer": 4.0})
    summaries = latencies.summaries()
    assert list(summaries) == ["infer", "capture"]
    assert (summaries["infer"].count, summaries["capture"].count) == (2, 1)
    assert summaries["infer"].max == 4.0
    assert json.loads(json.dumps(latencies.to_dict()))["infer"]["count"] == 2


def test_latencies_of_several_lines_merge_stage_by_stage() -> None:
    first, second = StageLatencies(), StageLatencies()
    first.record("infer", 10)
    second.record("infer", 20)
    second.record("capture", 30)
    first.merge(second)
    assert {stage: each.count for stage, each in first.summaries().items()} == {
        "infer": 2,
        "capture": 1,
    }
    assert second.summaries()["infer"].count == 1
