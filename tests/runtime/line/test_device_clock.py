from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.sources.device_clock import WINDOW_S, DeviceClock
from ssn_edge_runtime.sources.frame_counter import FrameCounter

MS = 1_000_000


@given(
    offset_ms=st.integers(-(10**6), 10**6),
    drift_ppm=st.integers(-50, 50),
    delays_ms=st.lists(st.integers(5, 500), min_size=1, max_size=100),
    period_ms=st.integers(1, 100),
)
def test_an_exposure_is_never_told_later_than_it_was(
    offset_ms: int, drift_ppm: int, delays_ms: list[int], period_ms: int
) -> None:
    # The least delay is within the bound for at least the first frame, as for an idle network.
    bound_ms = 20
    clock = DeviceClock(bound_ms * MS)
    least_ms = float("inf")
    for number, delay_ms in enumerate([5, *delays_ms]):
        exposed = number * period_ms * MS + 10**12
        stamp = exposed + exposed * drift_ppm // 10**6 + offset_ms * MS + 10**12
        told = clock.exposed_ns(stamp, exposed + delay_ms * MS)
        if number * period_ms < WINDOW_S * 1e3:
            least_ms = min(least_ms, delay_ms)
            drifted_ns = number * period_ms * MS * abs(drift_ppm) / 1e6 + 1_000
            assert told <= exposed + drifted_ns
            assert told >= exposed - bound_ms * MS - drifted_ns


def test_old_pairs_are_forgotten_so_that_drift_does_not_add_up() -> None:
    clock = DeviceClock(0)
    period = 100 * MS
    for number in range(1000):  # 100 s; the camera's clock runs slow by 1 in 1000
        exposed = number * period
        told = clock.exposed_ns(exposed - exposed // 1000, exposed)
    assert abs(told - exposed) <= WINDOW_S * 1e9 / 1000 + period


def test_a_camera_whose_clock_was_set_back_is_learnt_anew() -> None:
    clock = DeviceClock(0)
    assert clock.exposed_ns(10**12, 500) == 500
    assert clock.exposed_ns(7, 600) == 600


@given(
    start=st.integers(0, 2**16 - 1),
    steps=st.lists(st.integers(1, 1000), max_size=200),
    skips_zero=st.booleans(),
)
def test_a_counter_runs_on_where_the_cameras_own_wraps(
    start: int, steps: list[int], skips_zero: bool
) -> None:
    period = 2**16 - skips_zero
    first = max(start, 1) if skips_zero else start
    counter = FrameCounter(16, skips_zero=skips_zero)
    true, found = first, [counter.running(first)]
    for step in steps:
        true += step
        raw = (true - 1) % period + 1 if skips_zero else true % period
        found.append(counter.running(raw))
        assert found[-1] - found[-2] == step


def test_a_counter_that_goes_back_a_little_is_seen_to_go_back() -> None:
    counter = FrameCounter(16)
    assert [counter.running(raw) for raw in (65535, 0, 65535, 1)] == [65535, 65536, 65535, 65537]
