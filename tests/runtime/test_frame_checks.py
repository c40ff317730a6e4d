"""Frames that are no picture of a part are found, and parts never are."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import CalibrationError
from ssn_edge_runtime.frame_checks import (
    InputMeasurement,
    check_input,
    collect_statistics,
    measure_input,
)
from ssn_edge_runtime.manifest import InputStatistics, Range
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.preprocess import Geometry, preprocess

SIZE = (96, 128)

Part = Callable[..., ByteImage]


@pytest.fixture
def statistics(part: Part) -> InputStatistics:
    return collect_statistics(measure_input(part(seed)) for seed in range(8))


def coloured(frame: ByteImage) -> ByteImage:
    """The frame as a brass part would show: little blue, much red."""
    brass: ByteImage = np.clip(frame * np.array([0.4, 0.9, 1.3]), 0, 255).astype(np.uint8)
    return brass


def test_the_measures_are_what_the_manifest_says() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    measured = measure_input(pixels)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(float)
    padded = np.pad(grey, 1, mode="reflect")
    laplacian = (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    )
    assert measured.channel_means == pytest.approx(pixels.mean(axis=(0, 1)))
    assert measured.contrast == pytest.approx(grey.std())
    assert measured.sharpness == pytest.approx(abs(laplacian).mean())
    assert measured.relative_sharpness == pytest.approx(abs(laplacian).mean() / grey.std())
    assert measured.clipped == pytest.approx(((pixels <= 1) | (pixels >= 254)).mean())


@pytest.mark.parametrize("defect", [False, True])
def test_ordinary_parts_never_trip_it(
    defect: bool, part: Part, statistics: InputStatistics
) -> None:
    for seed in range(20, 40):
        assert check_input(measure_input(part(seed, defect=defect)), statistics) is None


@pytest.mark.parametrize("gain", [0.85, 1.15])
def test_a_lamp_that_ages_does_not_trip_it(
    gain: float, part: Part, statistics: InputStatistics
) -> None:
    frame = np.clip(part(30) * gain, 0, 255).astype(np.uint8)
    assert check_input(measure_input(frame), statistics) is None


@pytest.mark.parametrize("level", [0, 1, 16, 100, 128, 254, 255])
def test_a_frame_of_one_level_is_bad_exposure_whatever_training_saw(
    level: int, statistics: InputStatistics
) -> None:
    flat = measure_input(np.full((*SIZE, 3), level, np.uint8))
    everything = Range(0, 255)
    blind = InputStatistics(
        (everything, everything, everything), everything, everything, everything, everything
    )
    for seen in (statistics, blind):
        found = check_input(flat, seen)
        assert found is not None
        assert found[0] is Reason.BAD_EXPOSURE


@pytest.mark.parametrize("level", [2, 128, 253])
def test_sensor_noise_does_not_hide_a_dead_frame(level: int, statistics: InputStatistics) -> None:
    noise = np.random.default_rng(1).normal(level, 1, (*SIZE, 3))
    found = check_input(measure_input(np.clip(noise, 0, 255).astype(np.uint8)), statistics)
    assert found is not None
    assert found[0] is Reason.BAD_EXPOSURE


@pytest.mark.parametrize("gain", [0.3, 3.0])
def test_under_and_over_exposure_are_found(
    gain: float, part: Part, statistics: InputStatistics
) -> None:
    frame = np.clip(part(30) * gain, 0, 255).astype(np.uint8)
    found = check_input(measure_input(frame), statistics)
    assert found is not None
    assert found[0] is Reason.BAD_EXPOSURE
    assert "in training" in found[1]


def test_swapped_colours_are_found(part: Part) -> None:
    seen = collect_statistics(measure_input(coloured(part(seed))) for seed in range(8))
    frame = coloured(part(30))
    assert check_input(measure_input(frame), seen) is None
    found = check_input(measure_input(np.ascontiguousarray(frame[:, :, ::-1])), seen)
    assert found is not None
    assert found[0] is Reason.BAD_EXPOSURE


def test_a_lens_out_of_focus_is_found(part: Part, statistics: InputStatistics) -> None:
    rng = np.random.default_rng(0)
    shading = cv2.resize(rng.normal(100, 30, (6, 8, 3)), (SIZE[1], SIZE[0]))  # contrast remains
    frame = np.clip(cv2.GaussianBlur(part(30), (0, 0), 5) / 2 + shading / 2, 0, 255)
    found = check_input(measure_input(frame.astype(np.uint8)), statistics)
    assert found is not None
    assert found[0] is Reason.BLURRED_FRAME
    assert "sharpness" in found[1]


def test_half_the_light_is_found_however_much_parts_differ() -> None:
    wide = Range(40, 220)
    seen = InputStatistics(
        (wide, wide, wide), Range(10, 60), Range(4, 25), Range(0.2, 2), Range(0, 0)
    )

    def at(level: float) -> tuple[Reason, str] | None:
        return check_input(InputMeasurement((level, level, level), 30, 12, 0.0), seen)

    assert at(21) is None
    assert at(237) is None
    for level in (19, 239):
        found = at(level)
        assert found is not None
        assert found[0] is Reason.BAD_EXPOSURE


def test_a_frame_that_lost_a_fifth_to_white_is_found_where_the_mean_may_be_anything() -> None:
    any_level = Range(0, 255)
    seen = InputStatistics(
        (any_level, any_level, any_level), Range(10, 60), Range(4, 25), Range(0.2, 2), Range(0, 0.1)
    )

    def with_clipped(share: float) -> tuple[Reason, str] | None:
        return check_input(InputMeasurement((200, 200, 200), 30, 12, share), seen)

    assert with_clipped(0.29) is None
    found = with_clipped(0.31)
    assert found == (
        Reason.BAD_EXPOSURE,
        "31% of the frame are black or white, at most 10% in training",
    )


def test_a_large_defect_that_adds_contrast_is_not_taken_for_a_blur() -> None:
    level = Range(0, 255)
    seen = InputStatistics(
        (level, level, level), Range(10, 20), Range(4, 8), Range(0.3, 0.6), Range(0, 1)
    )
    assert check_input(InputMeasurement((100, 100, 100), 60, 6, 0.0), seen) is None
    assert check_input(InputMeasurement((100, 100, 100), 30, 3, 0.0), seen) is None
    found = check_input(InputMeasurement((100, 100, 100), 30, 2, 0.0), seen)
    assert found is not None
    assert found[0] is Reason.BLURRED_FRAME


def test_statistics_span_what_was_measured() -> None:
    seen = collect_statistics(
        [InputMeasurement((1, 2, 3), 10, 5, 0.25), InputMeasurement((3, 2, 1), 8, 6, 0.0)]
    )
    assert seen.channel_means == (Range(1, 3), Range(2, 2), Range(1, 3))
    assert seen.contrast == Range(8, 10)
    assert seen.sharpness == Range(5, 6)
    assert seen.relative_sharpness == Range(0.5, 0.75)
    assert seen.clipped == Range(0.0, 0.25)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(CalibrationError, match="no normal picture"):
        collect_statistics([])


def real_frames(shared: Path, name: str) -> tuple[list[Path], list[Path], Geometry]:
    """Normal training pictures, and test pictures with and without defects."""
    folder = shared / "data" / name
    if name == "mvtec_3d_rgb/tire":
        normals = sorted(folder.glob("train/good/*.png"))
        return normals, sorted(folder.glob("test/*/*.png")), Geometry((304, 400))
    table, size = {
        "magnetic_tile": ("split.csv", (256, 256)),
        "kolektorsdd": ("index.csv", (640, 256)),
    }[name]
    with (folder / table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    train = [
        folder / row["image"] for row in rows if row["split"] == "train" and row["defect"] == "0"
    ]
    return train, [folder / row["image"] for row in rows if row["split"] == "test"], Geometry(size)


Fault = Callable[[ByteImage], ByteImage]


def _gain(factor: float) -> Fault:
    return lambda frame: np.clip(frame * factor, 0, 255).astype(np.uint8)


def _blur(deviation: float) -> Fault:
    return lambda frame: np.asarray(cv2.GaussianBlur(frame, (0, 0), deviation), dtype=np.uint8)


# The sizes that runtime/README.md promises to find at that very frame, of network pixels.
PROMISED: dict[str, tuple[Fault, Reason]] = {
    "dark": (_gain(0.1), Reason.BAD_EXPOSURE),
    "saturated": (_gain(10.0), Reason.BAD_EXPOSURE),
    "out of focus": (_blur(3.0), Reason.BLURRED_FRAME),
}


@pytest.mark.parametrize("name", ["magnetic_tile", "kolektorsdd", "mvtec_3d_rgb/tire"])
def test_on_real_surfaces_each_fault_of_the_promised_size_is_found_and_no_part_trips_it(
    shared: Path, name: str
) -> None:
    train, test, geometry = real_frames(shared, name)
    seen = collect_statistics(measure_input(preprocess(read_picture(p), geometry)) for p in train)
    inputs = [preprocess(read_picture(path), geometry) for path in test[::2]]
    assert len(inputs) > 10
    false_alarms = [check_input(measure_input(pixels), seen) for pixels in inputs]
    assert false_alarms == [None] * len(inputs)
    for what, (fault, reason) in PROMISED.items():
        found = [check_input(measure_input(fault(pixels)), seen) for pixels in inputs]
        missed = [
            each for each in found if each is None or each[0] not in (reason, Reason.BAD_EXPOSURE)
        ]
        assert missed == [], (what, len(missed), len(found))


def test_it_is_cheap(part: Part, statistics: InputStatistics) -> None:
    pixels = part(1, size_hw=(256, 256))
    best_ms = min(_once_ms(pixels, statistics) for _ in range(50))
    assert best_ms < 0.3 * 5  # some 0.1 ms on a free core; a test machine is seldom free


def _once_ms(pixels: ByteImage, statistics: InputStatistics) -> float:
    start = time.perf_counter_ns()
    check_input(measure_input(pixels), statistics)
    return (time.perf_counter_ns() - start) / 1e6
