from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.frame_stream_checks import (
    STILL_FRAMES,
    STILL_LEVELS,
    FrameStreamChecks,
    StreamFault,
)
from ssn_edge_runtime.sources import Frame

SCENE = np.random.default_rng(0).integers(40, 200, (120, 160, 3)).astype(np.float32)


def noisy(seed: int, sigma: float = 1.0, *, scene: ByteImage | np.ndarray = SCENE) -> ByteImage:
    """The same scene with a sensor's noise."""
    noise = np.random.default_rng(seed).normal(0.0, sigma, scene.shape)
    image: ByteImage = np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8)
    return image


def frame(
    image: ByteImage,
    *,
    index: int = 0,
    exposed_ns: int | None = None,
    frame_id: int | None = None,
    is_incomplete: bool = False,
) -> Frame:
    taken = Frame.taken_now(
        image,
        source="test",
        index=index,
        exposed_monotonic_ns=exposed_ns,
        frame_id=frame_id,
        is_incomplete=is_incomplete,
    )
    return replace(taken, captured_monotonic_ns=10_000_000_000)


def reasons(found: list[StreamFault | None]) -> list[str]:
    return ["" if fault is None else fault.reason.value for fault in found]


def test_frames_that_differ_are_let_through() -> None:
    checks = FrameStreamChecks()
    assert reasons([checks.check(frame(noisy(seed))) for seed in range(30)]) == [""] * 30


def test_a_repeat_is_found_at_the_first_repeat() -> None:
    checks = FrameStreamChecks()
    found = [checks.check(frame(noisy(seed))) for seed in (1, 2, 2, 2, 3)]
    assert reasons(found) == ["", "", "frozen_frame", "frozen_frame", ""]
    assert "bit by bit" in str(found[2])


def test_one_changed_pixel_is_no_repeat_bit_by_bit() -> None:
    checks = FrameStreamChecks()
    image = noisy(1)
    other = image.copy()
    other[0, 0, 0] ^= 1  # not on the sample's grid
    assert checks.check(frame(image)) is None
    assert checks.check(frame(other)) is None


@pytest.mark.parametrize("overlay", [False, True])
def test_a_picture_that_stands_still_is_found_within_the_stated_number_of_frames(
    overlay: bool,
) -> None:
    checks = FrameStreamChecks()
    image = noisy(1)
    found = []
    for index in range(STILL_FRAMES + 3):
        still = image.copy()
        still[3, 3, 0] = index
        if overlay:  # a clock in a corner, drawn into the picture that stands
            still[:12, :12] = np.random.default_rng(index).integers(0, 255, (12, 12, 3))
        found.append(checks.check(frame(still)))
    assert reasons(found) == [""] * (STILL_FRAMES - 1) + ["frozen_frame"] * 4
    assert "stands still" in str(found[-1])


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 3.0])
def test_a_still_scene_with_a_sensors_noise_does_not_stand_still(sigma: float) -> None:
    checks = FrameStreamChecks()
    found = [checks.check(frame(noisy(seed, sigma))) for seed in range(5 * STILL_FRAMES)]
    assert set(reasons(found)) == {""}


def test_standing_still_can_be_switched_off_and_repeats_are_still_found() -> None:
    checks = FrameStreamChecks(still_frames=None)
    image = noisy(1)
    found = []
    for index in range(3 * STILL_FRAMES):
        still = image.copy()
        still[3, 3, 0] = index
        found.append(checks.check(frame(still)))
    found.append(checks.check(frame(still.copy())))
    assert reasons(found) == [""] * (3 * STILL_FRAMES) + ["frozen_frame"]


def test_pictures_of_a_recording_may_be_the_same_and_of_any_size() -> None:
    checks = FrameStreamChecks(compares_pixels=False)
    images = [noisy(1), noisy(1), noisy(1)[:50]]
    assert reasons([checks.check(frame(image)) for image in images]) == [""] * 3


def test_another_size_or_number_of_channels_is_found_at_once_also_after_a_reopening() -> None:
    checks = FrameStreamChecks()
    found = [checks.check(frame(image)) for image in (noisy(1), noisy(2)[:60], noisy(3)[:, :, 0])]
    checks.reopened()
    found += [checks.check(frame(image)) for image in (noisy(4)[:60], noisy(5))]
    assert reasons(found) == ["", "frame_size", "frame_size", "frame_size", ""]


def test_a_camera_that_repeats_its_last_frame_after_a_reopening_is_frozen() -> None:
    checks = FrameStreamChecks()
    assert checks.check(frame(noisy(1))) is None
    checks.reopened()
    assert reasons([checks.check(frame(noisy(1)))]) == ["frozen_frame"]


def test_an_incomplete_frame_is_found_at_once_and_before_all_else() -> None:
    checks = FrameStreamChecks()
    found = [
        checks.check(frame(noisy(1), frame_id=1)),
        checks.check(frame(noisy(1), frame_id=9, is_incomplete=True), triggered_ns=0),
    ]
    assert reasons(found) == ["", "bad_frame"]


def test_a_frame_from_before_its_trigger_is_stale() -> None:
    checks = FrameStreamChecks()
    found = [
        checks.check(frame(noisy(1), exposed_ns=999), triggered_ns=1000),
        checks.check(frame(noisy(2), exposed_ns=1000), triggered_ns=1000),
        checks.check(frame(noisy(3)), triggered_ns=1000),
        checks.check(frame(noisy(4))),
    ]
    assert reasons(found) == ["stale_frame", "", "stale_frame", ""]


def test_a_source_that_tells_exposures_early_may_do_so_by_the_stated_time() -> None:
    checks = FrameStreamChecks(early_ms=1.0)
    found = [
        checks.check(frame(noisy(1), exposed_ns=8_999_999), triggered_ns=10_000_000),
        checks.check(frame(noisy(2), exposed_ns=9_000_000), triggered_ns=10_000_000),
    ]
    assert reasons(found) == ["stale_frame", ""]


def test_a_frame_that_is_older_than_allowed_or_than_the_one_before_is_stale() -> None:
    checks = FrameStreamChecks(oldest_ms=5.0)
    found = [
        checks.check(frame(noisy(1), exposed_ns=9_995_000_000)),
        checks.check(frame(noisy(2), exposed_ns=9_995_000_000)),
        checks.check(frame(noisy(3), exposed_ns=9_994_999_999)),
        checks.check(frame(noisy(4), exposed_ns=9_996_000_000)),
    ]
    assert reasons(found) == ["", "stale_frame", "stale_frame", ""]
    checks = FrameStreamChecks(oldest_ms=5.0)
    assert reasons([checks.check(frame(noisy(1), exposed_ns=9_994_000_000))]) == ["stale_frame"]


def test_where_the_counter_goes_on_a_bound_of_the_exposure_may_move_back() -> None:
    checks = FrameStreamChecks()
    found = [checks.check(frame(noisy(n), frame_id=n, exposed_ns=100 - n)) for n in (1, 2, 3)]
    assert reasons(found) == [""] * 3


def test_a_gap_in_the_cameras_counter_is_a_missed_trigger_and_counted_when_it_runs_freely() -> None:
    checks = FrameStreamChecks()
    found = [
        checks.check(frame(noisy(n), frame_id=n, exposed_ns=n), triggered_ns=0) for n in (1, 2, 5)
    ]
    assert reasons(found) == ["", "", "missed_trigger"]
    assert found[2] is not None
    assert (found[2].missed, checks.missed) == (2, 2)
    assert checks.check(frame(noisy(9), frame_id=9)) is None
    assert checks.missed == 5


def test_a_counter_that_stands_or_goes_back_is_stale_until_the_camera_was_opened_again() -> None:
    checks = FrameStreamChecks()
    found = [checks.check(frame(noisy(n), frame_id=i)) for n, i in enumerate((7, 7, 5, 6))]
    checks.reopened()
    found.append(checks.check(frame(noisy(9), frame_id=0)))
    assert reasons(found) == ["", "stale_frame", "stale_frame", "", ""]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_after_any_run_of_frames_each_repeat_is_told_and_nothing_else(repeats: list[bool]) -> None:
    checks = FrameStreamChecks()
    seed = 0
    for index, is_repeat in enumerate(repeats):
        seed += 0 if is_repeat else 1
        fault = checks.check(frame(noisy(seed, scene=SCENE[:16, :16])))
        assert (fault is not None) == (is_repeat and index > 0)


@given(
    lost=st.lists(st.integers(0, 5), max_size=40),
    exposures=st.integers(0, 10**12),
)
def test_what_is_missed_adds_up_to_what_the_counter_left_out(
    lost: list[int], exposures: int
) -> None:
    checks = FrameStreamChecks(compares_pixels=False)
    image, frame_id = noisy(1, scene=SCENE[:4, :4]), exposures
    told = 0
    checks.check(frame(image, frame_id=frame_id, exposed_ns=exposures), triggered_ns=0)
    for number, gap in enumerate(lost, 1):
        frame_id += gap + 1
        fault = checks.check(
            frame(image, frame_id=frame_id, exposed_ns=exposures + number), triggered_ns=0
        )
        assert (fault is None) == (gap == 0)
        assert fault is None or fault.reason is Reason.MISSED_TRIGGER
        told += 0 if fault is None else fault.missed
    assert told == checks.missed == sum(lost)


@pytest.mark.parametrize(
    "options", [{"still_frames": 1}, {"still_levels": 0.0}, {"oldest_ms": 0.0}]
)
def test_impossible_bounds_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        FrameStreamChecks(**options)  # type: ignore[arg-type]


def test_the_checks_cost_little_of_a_frame_at_any_size() -> None:
    random = np.random.default_rng(0)
    best = {}
    for height, width in ((480, 640), (2048, 2448)):
        images = [random.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(2)]
        checks = FrameStreamChecks()
        costs = []
        for index in range(60):
            each = frame(images[index % 2], frame_id=index, exposed_ns=index)
            started = time.perf_counter_ns()
            assert checks.check(each) is None
            costs.append(time.perf_counter_ns() - started)
        best[f"{width}x{height}"] = sorted(costs)[len(costs) // 2] / 1e3
    assert max(best.values()) < 5_000  # a bound for any machine; see the README for what it takes


def test_the_noise_floor_lies_between_a_still_picture_and_a_quiet_sensor() -> None:
    quiet = np.abs(noisy(1, 0.3).astype(int) - noisy(2, 0.3)).mean()
    assert quiet > STILL_LEVELS * 1.5
