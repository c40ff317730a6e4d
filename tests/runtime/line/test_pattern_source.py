from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.frame_stream_checks import STILL_FRAMES, FrameStreamChecks
from ssn_edge_runtime.sources import DamagedFrame, Frame, ReopenBudget, open_source
from ssn_edge_runtime.sources.pattern import BUFFERS

FAST = "width=64&height=48&fps=200"


def read_reasons(address: str, count: int) -> list[str]:
    """What the checks, or the source itself, say of each frame."""
    found = []
    checks = FrameStreamChecks()
    source = open_source(address)
    with source:
        for _ in range(count):
            try:
                frame = source.read(0.1)
            except DamagedFrame:
                found.append("damaged")
            except SourceError as error:
                found.append("stalled" if "stalled" in str(error) else "lost")
                source.close()
                source.open()
                checks.reopened()
            else:
                assert frame is not None
                fault = checks.check(frame, triggered_ns=frame.captured_monotonic_ns - 10**9)
                found.append("" if fault is None else fault.reason.value)
    return found


def test_frames_come_at_their_rate_with_exposure_and_counter() -> None:
    with open_source("test:?width=64&height=48&fps=50") as source:
        assert source.tells_exposure
        started = time.monotonic()
        frames = [source.read(1.0) for _ in range(10)]
        assert 0.1 < time.monotonic() - started < 5.0
    whole = [frame for frame in frames if frame is not None]
    assert len(whole) == 10
    assert [frame.index for frame in whole] == list(range(10))
    for one, next_one in pairwise(whole):
        assert one.exposed_monotonic_ns is not None
        assert next_one.exposed_monotonic_ns is not None
        assert one.frame_id is not None
        assert next_one.frame_id is not None
        steps = next_one.frame_id - one.frame_id
        assert next_one.exposed_monotonic_ns - one.exposed_monotonic_ns == steps * 20_000_000
        assert next_one.exposed_monotonic_ns <= next_one.captured_monotonic_ns
        assert not np.array_equal(one.image, next_one.image)


def test_a_frame_that_was_not_fetched_in_time_is_a_gap_in_the_counter() -> None:
    with open_source(f"test:?{FAST}") as source:
        first = source.read(1.0)
        time.sleep(0.1)
        second = source.read(1.0)
    assert first is not None
    assert second is not None
    assert first.frame_id is not None
    assert second.frame_id is not None
    assert second.frame_id - first.frame_id > 20 - BUFFERS
    assert second.index - first.index == 1


@pytest.mark.parametrize(("format", "shape"), [("bgr", (48, 64, 3)), ("mono", (48, 64))])
def test_a_pattern_has_the_size_and_format_it_was_asked_for(
    format: str, shape: tuple[int, ...]
) -> None:
    with open_source(f"test:?{FAST}&format={format}&frames=2") as source:
        frames = [source.read(1.0) for _ in range(3)]
    assert [None if frame is None else frame.image.shape for frame in frames] == [
        shape,
        shape,
        None,
    ]


def test_the_same_seed_gives_the_same_pixels_and_another_one_others() -> None:
    def pixels(seed: int) -> Frame:
        with open_source(f"test:?{FAST}&seed={seed}") as source:
            frame = source.read(1.0)
        assert frame is not None
        return frame

    assert np.array_equal(pixels(1).image, pixels(1).image)
    assert not np.array_equal(pixels(1).image, pixels(2).image)


def test_each_so_many_th_frame_has_a_bright_spot() -> None:
    with open_source(f"test:?{FAST}&defect_every=3&frames=6") as source:
        bright = [
            bool((frame.image == 255).any()) for frame in iter(lambda: source.read(1.0), None)
        ]
    assert bright == [False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("frozen@3x2", {3: "frozen_frame", 4: "frozen_frame"}),
        (f"still@3x{STILL_FRAMES}", {3 + STILL_FRAMES - 2: "frozen_frame", 12: "frozen_frame"}),
        ("incomplete@3", {3: "bad_frame"}),
        ("size@3", {3: "frame_size"}),
        ("stale@3", {3: "stale_frame"}),
        ("gap@3", {3: "missed_trigger"}),
        ("damaged@3", {3: "damaged"}),
        ("stall@3", {3: "stalled"}),
        ("lost@3", {3: "lost"}),
        ("frozen@2,lost@5,gap@9", {2: "frozen_frame", 5: "lost", 10: "missed_trigger"}),
    ],
)
def test_each_injected_fault_is_found_where_it_was_put(
    fault: str, wanted: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that only moves when it is waited for: no frame is lost by a busy machine.
    now = [time.monotonic_ns()]
    module = "ssn_edge_runtime.sources.pattern"
    monkeypatch.setattr(f"{module}.monotonic_ns", lambda: now[0])
    monkeypatch.setattr(
        f"{module}.sleep", lambda wait_s: now.__setitem__(0, now[0] + round(wait_s * 1e9))
    )
    found = read_reasons(f"test:?{FAST}&fault={fault}", 14)
    assert {number: reason for number, reason in enumerate(found) if reason} == wanted


def test_a_black_picture_is_black_and_not_frozen() -> None:
    with open_source(f"test:?{FAST}&fault=black@1x3&frames=4") as source:
        frames: list[Any] = list(iter(lambda: source.read(1.0), None))
    assert [frame.image.max() <= 1 for frame in frames] == [False, True, True, True]
    assert not np.array_equal(frames[1].image, frames[2].image)


def test_a_pattern_that_is_lost_comes_back_in_the_line(
    judge: Any, output: Any, records: Any
) -> None:
    from ssn_edge_runtime.loop import run_line
    from ssn_edge_runtime.sinks import Journal

    address = "test:?width=64&height=48&fps=100&frames=30&defect_every=10&fault=lost@5,incomplete@9"
    with open_source(address) as source, Journal(output) as journal:
        summary = run_line(source, judge, journal, reopen=ReopenBudget(attempts=3, pause_s=0.01))
    assert summary.reopened == 1
    reasons = [record["reason"] for record in records(output)]
    assert reasons.count("no_frame") == 1
    assert reasons.count("bad_frame") <= 1  # its frame may have been dropped for a newer one
    assert "none" in reasons
